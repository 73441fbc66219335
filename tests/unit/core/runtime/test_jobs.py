from __future__ import annotations

import errno
import logging
import multiprocessing.connection
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import process_table
import pytest
from process_table import is_alive, wait_until_gone

from airflow_dataflux.core.errors import CancelledError, EngineError, StoreError
from airflow_dataflux.core.runtime import launch, timeouts
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.jobs import run_job
from airflow_dataflux.core.runtime.process_workers import ProcessGroup
from airflow_dataflux.core.runtime.threads import ThreadPool
from airflow_dataflux.core.runtime.tokens import AnonymousTokens, CachedTokens, Token
from airflow_dataflux.core.runtime.workers import Job

sys.path.insert(0, str(Path(__file__).parent))
import jobs_under_test as jobs

BOTH_WAYS = pytest.mark.parametrize("isolated", [False, True], ids=["threads", "engine"])


class CountingTokens:
    def __init__(self, valid_for_s: float | None = None) -> None:
        self.asked = 0
        self.valid_for_s = valid_for_s

    def fetch(self) -> Token:
        self.asked += 1
        return Token(value=f"token-{self.asked}", valid_for_s=self.valid_for_s)


def run(
    job_function, body, payload=None, *, workers=2, isolated=True, tokens=None, cancel=None, on_event=lambda _: None
):
    return run_job(
        Job(run=job_function, worker_body=body, workers=workers, payload=payload),
        tokens=tokens or AnonymousTokens(),
        cancel=cancel or CancelToken(),
        on_event=on_event,
        isolated=isolated,
    )


@BOTH_WAYS
def test_a_job_gets_its_workers_answers_and_its_events_reach_the_caller(isolated: bool) -> None:
    events: list[object] = []
    result = run(jobs.sum_of_doubles, jobs.double, list(range(100)), isolated=isolated, on_event=events.append)
    assert result["total"] == 9900
    assert events == [{"answers": 100}]


def test_an_isolated_job_runs_in_other_processes_that_import_neither_airflow_nor_google() -> None:
    result = run(jobs.sum_of_doubles, jobs.double, list(range(10)))
    assert len(result["pids"]) == 2
    assert not result["pids"] & {os.getpid(), result["engine"]}
    assert result["engine"] != os.getpid()
    assert result["modules"] == []


def test_an_engine_has_arrow_without_numpy_and_yet_numpy_for_who_asks() -> None:
    assert run(jobs.what_arrow_loaded, jobs.double) == (3, False, 6)


@BOTH_WAYS
def test_workers_get_the_callers_token(isolated: bool) -> None:
    source = CountingTokens(valid_for_s=3600)
    assert run(jobs.tokens_of_workers, jobs.report_token, isolated=isolated, tokens=CachedTokens(source)) == [
        "token-1",
        "token-1",
    ]
    assert source.asked == 1


def test_a_token_is_not_part_of_any_process_arguments_or_environment(tmp_path: Path) -> None:
    source = CountingTokens(valid_for_s=3600)
    seen: list[bytes] = []

    class Spy:
        def fetch(self) -> Token:
            for child in Path("/proc").glob("[0-9]*"):
                try:
                    seen.append((child / "cmdline").read_bytes() + (child / "environ").read_bytes())
                except OSError:
                    continue
            return source.fetch()

    run(jobs.tokens_of_workers, jobs.report_token, tokens=Spy())
    assert seen
    assert not any(b"token-1" in text for text in seen)


@BOTH_WAYS
def test_an_error_of_the_job_arrives_as_it_was_raised(isolated: bool) -> None:
    with pytest.raises(StoreError, match="gs://b/n#1") as caught:
        run(jobs.raise_store_error, jobs.double, isolated=isolated)
    assert caught.value.status == 500


@BOTH_WAYS
def test_an_error_of_a_worker_arrives_with_its_end(isolated: bool) -> None:
    ended = run(jobs.wait_for_one_message, jobs.raise_in_worker, "go", isolated=isolated)
    assert isinstance(ended.error, StoreError)
    assert "gs://b/n#2" in str(ended.error)


def test_an_error_that_does_not_pickle_arrives_quoted() -> None:
    with pytest.raises(EngineError, match="UnpicklableError: cannot travel"):
        run(jobs.raise_unpicklable, jobs.double)


def test_log_records_arrive_and_stray_prints_disturb_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="airflow_dataflux"):
        assert run(jobs.wait_for_one_message, jobs.log_and_print, "go", workers=1) == "done"
    assert "said something by a worker, 100% sure" in caplog.messages
    assert "the job waits" in caplog.messages


def test_a_killed_worker_is_noticed_at_once_and_can_be_replaced() -> None:
    assert run(jobs.notice_death_then_replace, jobs.die) == [("ended", 0, -signal.SIGKILL), "alive"]


def test_a_killed_engine_is_an_error_that_says_so_and_leaves_no_process() -> None:
    with pytest.raises(EngineError, match=r"SIGKILL.*about to die"):
        run(jobs.kill_myself, jobs.double)


@BOTH_WAYS
def test_a_cancel_reaches_the_workers_and_ends_the_job(isolated: bool) -> None:
    cancel = CancelToken()
    events: list[tuple[str, object]] = []

    def on_event(event: object) -> None:
        events.append(event)
        if sum(kind == "started" for kind, _ in events) == 2:
            cancel.cancel("the test says so")

    with pytest.raises(CancelledError, match="the test says so"):
        run(jobs.run_until_cancelled, jobs.stop_on_cancel, isolated=isolated, cancel=cancel, on_event=on_event)
    assert ("tidied", 2) in events
    if isolated:
        assert wait_until_gone([pid for kind, pid in events if kind in ("engine", "started")]) == []


def test_a_cancelled_token_stops_a_job_before_it_starts() -> None:
    cancel = CancelToken()
    cancel.cancel("too late")
    with pytest.raises(CancelledError, match="too late"):
        run(jobs.sum_of_doubles, jobs.double, [1], cancel=cancel)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_nothing_outlives_a_killed_task(number: signal.Signals) -> None:
    """SIGKILL goes to the task alone (its children see end-of-file), SIGTERM to its whole process group."""
    script = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {[str(Path(__file__).parent), str(Path(process_table.__file__).parent)]}
        import jobs_under_test as jobs
        from test_jobs import run
        run(jobs.run_until_cancelled, jobs.stop_on_cancel, on_event=lambda event: print(*event, flush=True))
    """)
    task = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).parents[4],
    )
    assert task.stdout is not None
    pids = [int(task.stdout.readline().split()[1]) for _ in range(3)]
    assert all(map(is_alive, pids))
    if number == signal.SIGKILL:
        task.kill()
    else:
        os.killpg(task.pid, number)
    task.wait()
    task.stdout.close()
    assert wait_until_gone(pids, 10.0) == []


def test_cached_tokens_ask_again_shortly_before_the_end_and_after_a_discard(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    source = CountingTokens(valid_for_s=100)
    tokens = CachedTokens(source)
    assert tokens.fetch() == tokens.fetch()
    now += 51
    assert tokens.fetch().value == "token-2"
    tokens.discard()
    assert tokens.fetch().value == "token-3"


def test_stacked_caches_tell_what_is_left_of_a_tokens_life(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    source = CountingTokens(valid_for_s=1000)
    engine = CachedTokens(source)
    assert engine.fetch().valid_for_s == 1000
    now += 600
    worker = CachedTokens(engine)
    assert worker.fetch() == Token(value="token-1", valid_for_s=400)
    now += 345
    assert worker.fetch().value == "token-2"
    worker.discard()
    assert worker.fetch().value == "token-3"


def test_a_token_that_a_worker_found_refused_is_not_handed_out_again() -> None:
    source = CountingTokens(valid_for_s=3600)
    found = run(jobs.tokens_of_workers, jobs.report_token_after_refusal, workers=1, tokens=source)
    assert found == ["token-2"]


def test_each_process_outlives_what_it_waits_for_and_none_a_kill_by_ten_seconds() -> None:
    airflow_kills_after_s, gone_after_a_kill_s = 5.0, 10.0
    assert airflow_kills_after_s > timeouts.ENGINE_CANCEL_S
    assert timeouts.STAGING_STOP_S < timeouts.ENGINE_ORPHAN_S < timeouts.WORKER_ORPHAN_S < gone_after_a_kill_s
    assert timeouts.WORKER_ORPHAN_S < timeouts.WORKER_JOIN_S
    assert gone_after_a_kill_s < timeouts.LOCK_WAIT_S


def refuse_threads(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_a_worker_thread_that_may_not_start_is_an_error_that_says_why_and_the_others_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = set(threading.enumerate())
    refuse_threads(monkeypatch, "dataflux-worker-2")
    with pytest.raises(EngineError, match=r"dataflux-worker-2 could not be started .*ulimit -u"):
        run(jobs.sum_of_doubles, jobs.double, [1], workers=4, isolated=False)
    assert set(threading.enumerate()) == before


def test_an_engine_that_may_not_start_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(EngineError, match=r"The engine process could not be started .*pids\.max"):
        run(jobs.sum_of_doubles, jobs.double, [1])


def test_an_engine_ends_where_the_thread_beside_it_may_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(process_table.children(os.getpid()))
    refuse_threads(monkeypatch, "dataflux-engine-stderr")
    with pytest.raises(EngineError, match="dataflux-engine-stderr could not be started"):
        run(jobs.sum_of_doubles, jobs.double, [1])
    assert set(process_table.children(os.getpid())) <= before


def test_a_worker_process_that_may_not_start_is_an_error_and_the_others_end(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, forked = os.fork, []

    def refuse_the_third() -> int:
        if len(forked) == 2:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        forked.append(child := fork())
        return child

    monkeypatch.setattr(os, "fork", refuse_the_third)
    with pytest.raises(EngineError, match="Worker process 2 could not be started"):
        ProcessGroup(jobs.double, 4, tokens=CachedTokens(AnonymousTokens()), cancel=CancelToken())
    assert len(forked) == 2
    assert not any(is_alive(child) for child in forked)


@pytest.mark.parametrize("beside", [0, 1])
def test_a_pool_thread_that_may_not_start_is_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch, beside: int
) -> None:
    before = set(threading.enumerate())
    refuse_threads(monkeypatch, f"dataflux-look_{beside}")
    go_on = threading.Event()

    def look_at_two() -> None:
        with ThreadPool(4, "dataflux-look") as pool:
            try:
                list(pool.map(lambda _each: go_on.wait(10), range(2)))
            finally:
                go_on.set()

    with pytest.raises(EngineError, match=r"A dataflux-look thread could not be started .*pids\.max.* fewer") as caught:
        look_at_two()
    assert caught.value.retryable
    assert set(threading.enumerate()) == before


def test_what_is_asked_of_a_pool_after_its_end_is_no_lack_of_threads() -> None:
    with ThreadPool(1, "dataflux-look") as pool:
        assert pool.submit(sum, [1, 2]).result() == 3
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(sum, [1, 2])


def test_a_worker_process_without_a_pipe_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(multiprocessing.connection, "Pipe", refuse)
    with pytest.raises(EngineError, match=r"Worker process 0 could not be started .*`-n`"):
        ProcessGroup(jobs.double, 2, tokens=CachedTokens(AnonymousTokens()), cancel=CancelToken())


def test_an_engine_that_was_started_ahead_runs_the_job_and_ends() -> None:
    before = set(process_table.children(os.getpid()))
    engine = launch.Engine()
    (started,) = set(process_table.children(os.getpid())) - before
    job = Job(run=jobs.sum_of_doubles, worker_body=jobs.double, workers=2, payload=[1, 2])
    result = run_job(
        job, tokens=AnonymousTokens(), cancel=CancelToken(), on_event=lambda _: None, isolated=True, engine=engine
    )
    assert (result["total"], result["engine"]) == (6, started)
    engine.end()
    assert set(process_table.children(os.getpid())) <= before


def test_an_engine_that_was_started_ahead_in_vain_ends_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    before = set(process_table.children(os.getpid()))
    with launch.Engine() as engine:
        process = engine._process
    engine.end()
    assert process.returncode == 0
    assert caplog.records == []
    assert set(process_table.children(os.getpid())) <= before


def test_an_engine_without_descriptors_for_its_pipes_is_an_error_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(process_table.children(os.getpid()))

    def refuse(_descriptor: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(launch.os, "dup", refuse)
    with pytest.raises(EngineError, match="The engine process could not be started"):
        run(jobs.sum_of_doubles, jobs.double, [1])
    assert set(process_table.children(os.getpid())) <= before
