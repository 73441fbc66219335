"""Work to workers and back, by workers that do what a test says: no process, no thread, no time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_dataflux.core.errors import CancelledError, EngineError, StagingError, VerificationError
from airflow_dataflux.core.gcs.store import RequestCounts
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.usage import Usage
from airflow_dataflux.core.runtime.workers import WorkerEnded, WorkerEvent, WorkerMessage
from airflow_dataflux.core.staging.dispatch import Dispatcher, WorkKind
from airflow_dataflux.core.staging.messages import (
    Assignment,
    NoMoreWork,
    WorkDone,
    WorkerFinished,
    WorkFailed,
    WorkProgress,
)


@dataclass(frozen=True)
class Piece:
    number: int


class ScriptedWorkers:
    """Workers that answer assignments by `behave`, one event a wait, in the order in which they were asked."""

    def __init__(self, count: int, behave: Callable[[int, Assignment], list[object]]) -> None:
        self.count = count
        self.behave = behave
        self.events: deque[WorkerEvent] = deque()
        self.received: list[tuple[int, object]] = []
        self.replaced: list[int] = []
        self.most_out = 0
        self._out = 0
        self._dead: set[int] = set()

    def send(self, worker: int, message: object) -> None:
        self.received.append((worker, message))
        if worker in self._dead:
            return  # its WorkerEnded is the last that comes of it
        if isinstance(message, Assignment):
            self._out += 1
            self.most_out = max(self.most_out, self._out)
            for answer in self.behave(worker, message):
                self.events.append(answer if isinstance(answer, WorkerEnded) else WorkerMessage(worker, answer))
                if isinstance(answer, WorkerEnded):
                    self._dead.add(worker)
        elif isinstance(message, NoMoreWork):
            finished = WorkerFinished((), RequestCounts(class_b=10), Usage(cpu_s=1.0, peak_rss_bytes=5), process=-1)
            self.events.append(WorkerMessage(worker, finished))

    def wait(self, timeout_s: float | None = None) -> list[WorkerEvent]:
        del timeout_s
        event = self.events.popleft()
        self._out -= isinstance(event, WorkerMessage) and isinstance(event.message, WorkDone)
        return [event]

    def replace(self, worker: int) -> None:
        self.replaced.append(worker)
        self._dead.discard(worker)

    def close(self) -> None:
        return None

    def assignments(self) -> list[tuple[int, int, int]]:
        """Return worker, number and round of all that was handed out."""
        return [(worker, one.work.number, one.round_) for worker, one in self.received if isinstance(one, Assignment)]


def done(_worker: int, assignment: Assignment) -> list[object]:
    return [WorkDone(assignment.work.number, f"result {assignment.work.number}", RequestCounts(class_b=1))]


class CleanUp:
    """Takes note of what it is asked to clean up."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], bool]] = []

    def __call__(self, leftovers: tuple[str, ...], lost_at: float | None) -> None:
        self.asked.append((leftovers, lost_at is not None))


def dispatcher_of(
    workers: ScriptedWorkers,
    results: list[Any],
    *,
    ahead: float = 3,
    cancel: CancelToken | None = None,
    clean_up: CleanUp | None = None,
) -> Dispatcher[Piece, str]:
    return Dispatcher(
        workers,
        "the setup",  # type: ignore[arg-type]  # it is only passed on
        WorkKind(run="staging", plural="pieces", describe=lambda piece: f"did piece {piece.number}"),
        ahead=ahead,
        cancel=cancel or CancelToken(),
        on_result=lambda piece, result: results.append((piece.number, result)),
        on_pause=lambda: 1.0,
        clean_up=clean_up or CleanUp(),
    )


def test_all_work_is_done_once_and_no_worker_has_more_than_it_may() -> None:
    workers, results, clean_up = ScriptedWorkers(2, done), list[Any](), CleanUp()
    dispatcher = dispatcher_of(workers, results, clean_up=clean_up)
    dispatcher.run(map(Piece, range(50)))
    assert sorted(results) == [(number, f"result {number}") for number in range(50)]
    assert workers.most_out == 6
    assert workers.received[:2] == [(0, "the setup"), (1, "the setup")]
    assert [name for name, _ in dispatcher.processes] == ["worker 0", "worker 1"]
    assert (dispatcher.counts().class_b, clean_up.asked) == (20, [((), False)])


def test_work_of_a_dead_worker_is_handed_out_again_in_another_round_and_its_requests_stay_counted() -> None:
    died = []

    def behave(worker: int, assignment: Assignment) -> list[object]:
        if worker == 0 and assignment.work.number == 2 and not died:
            died.append(True)
            return [WorkerEnded(0, -9, None)]
        return [] if worker == 0 and not died and assignment.work.number > 0 else done(worker, assignment)

    workers, results, clean_up = ScriptedWorkers(1, behave), list[Any](), CleanUp()
    dispatcher = dispatcher_of(workers, results, clean_up=clean_up)
    dispatcher.run(map(Piece, range(6)))
    assert sorted(number for number, _ in results) == list(range(6))
    rounds = {(number, round_) for _, number, round_ in workers.assignments()}
    assert {(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (5, 0)} <= rounds
    assert (0, 1) not in rounds
    assert (workers.replaced, dispatcher.workers_lost) == ([0], 1)
    assert clean_up.asked == [((), True)]
    assert dispatcher.counts().class_b == 11


def test_workers_that_fail_at_the_same_moment_are_all_heard() -> None:
    class AllAtOnce(ScriptedWorkers):
        def wait(self, timeout_s: float | None = None) -> list[WorkerEvent]:
            assert self.events, "nobody is left to wait for"
            events = list(self.events)
            self.events.clear()
            return events

    def fail(worker: int, _assignment: Assignment) -> list[object]:
        finished = WorkerFinished((f"left by {worker}",), RequestCounts(), Usage(cpu_s=1.0, peak_rss_bytes=5), -1)
        return [finished, WorkerEnded(worker, 0, EngineError("No thread could be started."))]

    clean_up = CleanUp()
    with pytest.raises(EngineError, match="No thread"):
        dispatcher_of(AllAtOnce(3, fail), [], ahead=1, clean_up=clean_up).run(map(Piece, range(6)))
    assert clean_up.asked == [(("left by 0", "left by 1", "left by 2"), False)]


def test_a_dead_worker_that_cannot_be_replaced_ends_the_run_at_once() -> None:
    class WithoutSuccessors(ScriptedWorkers):
        def replace(self, worker: int) -> None:
            raise EngineError(f"Worker process {worker} could not be started.")

        def wait(self, timeout_s: float | None = None) -> list[WorkerEvent]:
            assert self.events, "nobody is left to wait for"
            return super().wait(timeout_s)

    workers = WithoutSuccessors(2, lambda worker, _assignment: [WorkerEnded(0, -9, None)] if worker == 0 else [])
    clean_up = CleanUp()
    with pytest.raises(EngineError, match="could not be started"):
        dispatcher_of(workers, [], clean_up=clean_up).run(map(Piece, range(6)))
    assert clean_up.asked == [((), True)]


def test_work_that_kills_three_workers_ends_the_run_and_is_named() -> None:
    def behave(worker: int, assignment: Assignment) -> list[object]:
        return [WorkerEnded(worker, -9, None)] if assignment.work.number == 1 else done(worker, assignment)

    clean_up = CleanUp()
    with pytest.raises(EngineError, match=r"3 worker processes died while they did piece 1 .*exit code -9"):
        dispatcher_of(ScriptedWorkers(1, behave), [], clean_up=clean_up).run(map(Piece, range(3)))
    assert clean_up.asked == [((), True)]


@pytest.mark.parametrize("how", ["answer", "end"])
def test_an_error_of_a_worker_is_raised_as_it_is_when_the_others_have_ended(how: str) -> None:
    """The workers of the test have no time-out: who waited for one that has ended would see their events run dry."""
    error = VerificationError("it arrived wrong twice")

    def behave(worker: int, assignment: Assignment) -> list[object]:
        return [WorkFailed(assignment.work.number, error) if how == "answer" else WorkerEnded(worker, 1, error)]

    workers, clean_up = ScriptedWorkers(2, behave), CleanUp()
    with pytest.raises(StagingError) as raised:
        dispatcher_of(workers, [], clean_up=clean_up).run(map(Piece, range(3)))
    assert raised.value is error
    told = [worker for worker, message in workers.received if message == NoMoreWork(True)]
    expected = ([0, 1], [((), False)]) if how == "answer" else ([1], [((), True)])
    assert (sorted(told), clean_up.asked) == expected


def test_when_no_more_is_wanted_what_is_under_way_ends_and_nothing_is_planned() -> None:
    workers, results = ScriptedWorkers(1, done), list[Any]()
    planned = map(Piece, range(1000))
    dispatcher_of(workers, results).run(planned, lambda: len(results) >= 5)
    assert 5 <= len(results) <= 8
    assert len(workers.assignments()) == len(results)


def test_a_cancelled_run_abandons_what_waits_and_hands_over_what_workers_could_not_delete() -> None:
    cancel, clean_up = CancelToken(), CleanUp()
    workers = ScriptedWorkers(2, lambda _worker, _assignment: [])
    workers.events.append(
        WorkerMessage(0, WorkerFinished(("left",), RequestCounts(), Usage(cpu_s=0, peak_rss_bytes=0)))
    )
    cancel.cancel("a test")
    with pytest.raises(CancelledError):
        dispatcher_of(workers, [], cancel=cancel, clean_up=clean_up).run(map(Piece, range(3)))
    assert [message for _, message in workers.received if isinstance(message, NoMoreWork)] == [NoMoreWork(True)] * 2
    assert clean_up.asked == [(("left",), False)]


def test_progress_inside_of_work_is_summed() -> None:
    workers = ScriptedWorkers(1, lambda worker, one: [WorkProgress(2, 100), *done(worker, one)])
    dispatcher = dispatcher_of(workers, [])
    dispatcher.run(map(Piece, range(5)))
    assert dispatcher.progress == WorkProgress(10, 500)
