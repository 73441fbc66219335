"""How a task ends the work of the core, with real signals and a real dead parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from airflow_dataflux.core.errors import CancelledError, EngineError
from airflow_dataflux.hooks.task_watch import TaskWatch


def test_a_kill_cancels_the_work_under_way() -> None:
    watch = TaskWatch()
    with watch.working() as token:
        assert not token.cancelled
        watch.kill("because")
        watch.kill("again")
        with pytest.raises(CancelledError, match="because"):
            token.raise_if_cancelled()


def test_a_kill_that_comes_before_the_work_is_not_lost() -> None:
    watch = TaskWatch()
    watch.kill("early")
    with watch.working() as token:
        assert token.cancelled
        assert token.reason == "early"


def test_one_cancelled_piece_of_work_does_not_cancel_the_next() -> None:
    watch = TaskWatch()
    with watch.working() as token:
        token.cancel("the job ended with an error")
    with watch.working() as token:
        assert not token.cancelled


def test_a_signal_handler_may_kill_while_the_main_thread_waits() -> None:
    watch = TaskWatch()
    before = signal.signal(signal.SIGUSR1, lambda *_: watch.kill("signal"))
    try:
        with watch.working() as token:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            assert token.wait(30)
        assert token.reason == "signal"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_no_thread_is_left_after_the_work() -> None:
    before = set(threading.enumerate())
    with TaskWatch().working():
        assert set(threading.enumerate()) != before
    assert set(threading.enumerate()) == before


def test_the_work_is_cancelled_when_the_supervising_process_is_killed() -> None:
    # A supervisor that starts a "task", tells its pid, and is killed; the task reports through the inherited pipe.
    task = textwrap.dedent("""
        import sys
        from airflow_dataflux.hooks.task_watch import TaskWatch
        with TaskWatch().working() as token:
            print("working", flush=True)
            print(token.wait(60), token.reason, flush=True)
    """)
    supervisor = textwrap.dedent(f"""
        import subprocess, sys
        subprocess.Popen([sys.executable, "-c", {task!r}], stdin=subprocess.DEVNULL).wait()
    """)
    with subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "working\n"
        running.kill()
        assert running.stdout.readline() == f"True the process {running.pid} that supervised this task is gone\n"


def test_a_watch_that_may_not_start_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with (
        pytest.raises(EngineError, match=r"dataflux-parent-watch could not be started .*pids\.max"),
        TaskWatch().working(),
    ):
        pass
