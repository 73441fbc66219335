"""Hand work to workers and take what comes back, until all is done: the owner's side of `messages.py`.

Work is a batch of a staging or a shard of a pack. (A listing divides its work while it is done, and so has an owner of
its own, `core.listing.job`.)

Guarantees:
- All work ends in exactly one of: done, or the error that ends the run.
- A worker that dies is replaced, and its work is handed out again in another round; what outlives three workers ends
  the run.
- However `run` ends, the workers were told to end and to delete their composites, and were waited for, after a failure
  or a cancel for `STAGING_STOP_S` at most. Then `clean_up` is called, once, for what no worker answers for.

One thread. It plans while it hands out: at most `ahead` pieces of work for each worker exist at a time.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

from airflow_dataflux.core.errors import DatafluxError, EngineError
from airflow_dataflux.core.gcs.store import RequestCounts
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.timeouts import STAGING_STOP_S
from airflow_dataflux.core.runtime.usage import Usage
from airflow_dataflux.core.runtime.workers import WorkerEnded, WorkerEvent, WorkerGroup, WorkerMessage
from airflow_dataflux.core.staging.messages import (
    Assignment,
    NoMoreWork,
    WorkDone,
    WorkerFinished,
    WorkerSetup,
    WorkFailed,
    WorkItem,
    WorkProgress,
)

_LOG = logging.getLogger(__name__)

_ROUNDS = 3
"""How often work is handed out: what kills three workers would kill a fourth."""

WorkT = TypeVar("WorkT", bound=WorkItem)
ResultT = TypeVar("ResultT")


class WorkKind(msgspec.Struct, Generic[WorkT], frozen=True, kw_only=True):
    """What the work of a run is, for the log and for errors.

    Attributes:
        run: "staging" or "pack".
        plural: "batches" or "shards".
        describe: names one of them in a sentence.
    """

    run: str
    plural: str
    describe: Callable[[WorkT], str]


class _HandedOut(msgspec.Struct, Generic[WorkT]):
    """Work at a worker."""

    work: WorkT
    worker: int
    round_: int


class Dispatcher(Generic[WorkT, ResultT]):
    """Runs the workers of one staging or pack."""

    def __init__(
        self,
        workers: WorkerGroup,
        setup: WorkerSetup[Any],
        kind: WorkKind[WorkT],
        *,
        ahead: float,
        cancel: CancelToken,
        on_result: Callable[[WorkT, ResultT], None],
        on_pause: Callable[[], float],
        clean_up: Callable[[tuple[str, ...], float | None], object],
    ) -> None:
        """Set up.

        Args:
            workers: a fresh group.
            setup: what each worker gets.
            kind: what the work is.
            ahead: pieces of work at a worker at most.
            cancel: the job's.
            on_result: called for each piece of work that is done.
            on_pause: called between events; returns how many seconds may pass until it wants to be called again.
            clean_up: called when the workers have ended, as `CompositeCleanup.after` is: with the composites that they
                could not delete, and the moment when the last of them was lost.
        """
        self._workers = workers
        self._setup = setup
        self._kind = kind
        self._ahead = ahead
        self._cancel = cancel
        self._on_result = on_result
        self._on_pause = on_pause
        self._clean_up = clean_up
        self._out: dict[int, _HandedOut[WorkT]] = {}
        self._again: deque[tuple[WorkT, int]] = deque()
        self._load = [0] * workers.count
        self._counts = [RequestCounts()] * workers.count
        self._lost_counts = RequestCounts()
        self._events: deque[WorkerEvent] = deque()
        self._running = set(range(workers.count))
        self._lost_at: float | None = None
        self._leftovers: tuple[str, ...] = ()
        self.processes: list[tuple[str, Usage]] = []
        self.workers_lost = 0
        self.progress = WorkProgress(0, 0)

    @property
    def in_flight(self) -> int:
        """Pieces of work at workers."""
        return len(self._out)

    def counts(self) -> RequestCounts:
        """Return the requests that all workers have sent, as far as they have told."""
        return sum(self._counts, self._lost_counts)

    def run(self, works: Iterator[WorkT], stop: Callable[[], bool] = lambda: False) -> None:
        """Have all work done. Raises the first failure, or CancelledError, when the workers have ended.

        `stop` tells whether no more is to be handed out; what is under way ends.
        """
        try:
            self._do(works, stop)
        except BaseException:
            self._cancel.cancel(f"the {self._kind.run} failed")
            self._finish(abandon=True, deadline=time.monotonic() + STAGING_STOP_S)
            raise
        finally:
            self._clean_up(self._leftovers, self._lost_at)

    def _do(self, works: Iterator[WorkT], stop: Callable[[], bool]) -> None:
        for each in range(self._workers.count):
            self._workers.send(each, self._setup)
        exhausted = False
        while True:
            self._cancel.raise_if_cancelled()
            while (worker := self._free_worker()) is not None and not (exhausted and not self._again):
                if stop():
                    exhausted = True
                    self._again.clear()
                elif not self._hand_out(worker, works):
                    exhausted = True
            if exhausted and not self._again and not self._out:
                break
            self._events.extend(self._workers.wait(self._on_pause()))
            while self._events:  # one of them may end the run; those behind it are for `_finish`
                event = self._events.popleft()
                if isinstance(event, WorkerEnded):
                    self._replace(event)
                else:
                    self._take(event)
        self._finish(abandon=False, deadline=None)

    def _free_worker(self) -> int | None:
        worker = min(self._running, key=self._load.__getitem__, default=None)
        if worker is None or self._load[worker] >= self._ahead:
            return None
        return worker

    def _hand_out(self, worker: int, works: Iterator[WorkT]) -> bool:
        """Hand out what comes next; return False if there is nothing more."""
        if self._again:
            work, round_ = self._again.popleft()
        else:
            following = next(works, None)
            if following is None:
                return False
            work, round_ = following, 0
        self._out[work.number] = _HandedOut(work, worker, round_)
        self._load[worker] += 1
        self._workers.send(worker, Assignment(work, round_))
        return True

    def _take(self, event: WorkerMessage) -> None:
        match event.message:
            case WorkDone(number, result, counts):
                self._counts[event.worker] = counts
                out = self._out.pop(number)
                self._load[out.worker] -= 1
                self._on_result(out.work, result)
            case WorkFailed(_, error):
                raise error
            case WorkProgress(objects, size):
                self.progress = WorkProgress(self.progress.objects + objects, self.progress.bytes + size)
            case WorkerFinished() as finished:
                self._take_finished(event.worker, finished)

    def _take_finished(self, worker: int, message: WorkerFinished) -> None:
        self._running.discard(worker)
        self._counts[worker] = message.counts
        self._leftovers += message.leftovers
        if message.process != os.getpid():  # else a thread of this process, whose usage the owner counts
            self.processes.append((f"worker {worker}", message.usage))

    def _replace(self, ended: WorkerEnded) -> None:
        """Give the work of a dead worker to others."""
        self._note_end(ended.worker)
        if isinstance(ended.error, DatafluxError):
            raise ended.error
        kind = self._kind
        lost = [out for out in self._out.values() if out.worker == ended.worker]
        how = f"exit code {ended.exitcode}" if ended.error is None else repr(ended.error)
        _LOG.warning(
            "Worker %d of the %s died (%s); its %d %s are done again.",
            ended.worker,
            kind.run,
            how,
            len(lost),
            kind.plural,
        )
        self.workers_lost += 1
        for out in lost:
            del self._out[out.work.number]
            if out.round_ + 1 == _ROUNDS:
                raise EngineError(
                    f"{_ROUNDS} worker processes died while they {kind.describe(out.work)} (the last with {how}). Look "
                    "for the kernel's out-of-memory messages, and give the task more memory or less max_in_flight."
                ) from ended.error
            self._again.append((out.work, out.round_ + 1))
        self._load[ended.worker] = 0
        self._workers.replace(ended.worker)
        self._running.add(ended.worker)
        self._workers.send(ended.worker, self._setup)

    def _note_end(self, worker: int) -> None:
        if worker in self._running:  # it has not said what it left
            self._running.discard(worker)
            self._lost_at = time.monotonic()
        self._lost_counts += self._counts[worker]
        self._counts[worker] = RequestCounts()

    def _finish(self, *, abandon: bool, deadline: float | None) -> None:
        for worker in self._running:
            self._workers.send(worker, NoMoreWork(abandon))
        while self._running and (deadline is None or time.monotonic() < deadline):
            remaining_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._events:
                self._events.extend(self._workers.wait(remaining_s))
            while self._events:
                event = self._events.popleft()
                if isinstance(event, WorkerEnded):
                    self._note_end(event.worker)
                elif isinstance(event.message, WorkerFinished):
                    self._take_finished(event.worker, event.message)
        if self._running:
            self._lost_at = time.monotonic()
