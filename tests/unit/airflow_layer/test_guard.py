"""How a task ends the work of the core, with real signals and a real dead parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from airflow_dataflux.core.errors import CancelledError
from airflow_dataflux.hooks.guard import Guard


def test_a_kill_cancels_the_work_under_way() -> None:
    guard = Guard()
    with guard.working() as token:
        assert not token.cancelled
        guard.kill("because")
        guard.kill("again")
        with pytest.raises(CancelledError, match="because"):
            token.raise_if_cancelled()


def test_a_kill_that_comes_before_the_work_is_not_lost() -> None:
    guard = Guard()
    guard.kill("early")
    with guard.working() as token:
        assert token.cancelled
        assert token.reason == "early"


def test_one_cancelled_piece_of_work_does_not_cancel_the_next() -> None:
    guard = Guard()
    with guard.working() as token:
        token.cancel("the job ended with an error")
    with guard.working() as token:
        assert not token.cancelled


def test_a_signal_handler_may_kill_while_the_main_thread_waits() -> None:
    guard = Guard()
    before = signal.signal(signal.SIGUSR1, lambda *_: guard.kill("signal"))
    try:
        with guard.working() as token:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            assert token.wait(30)
        assert token.reason == "signal"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_no_thread_is_left_after_the_work() -> None:
    before = set(threading.enumerate())
    with Guard().working():
        assert set(threading.enumerate()) != before
    assert set(threading.enumerate()) == before


def test_the_work_is_cancelled_when_the_supervising_process_is_killed() -> None:
    # A supervisor that starts a "task", tells its pid, and is killed; the task reports through the inherited pipe.
    task = textwrap.dedent("""
        import sys
        from airflow_dataflux.hooks.guard import Guard
        with Guard().working() as token:
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
