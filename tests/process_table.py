"""Processes that are not this one's to wait for, as the kernel lists them.

A process can end between any two looks at it. psutil tells that apart from every other failure; a read of /proc raises
one of two errors, depending on the moment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable

import psutil

ENGINE = "airflow_dataflux.core.runtime.engine"


def is_alive(pid: int) -> bool:
    """Return whether a process runs. One that has ended and was not waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids: list[int], limit_s: float = 12.0) -> list[int]:
    """Return those of the processes that are still alive when the limit has passed: none, as soon as all have ended."""
    end = time.monotonic() + limit_s
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def children(pid: int) -> list[int]:
    """Return the child processes of a process; none if it is gone."""
    return _below(pid, recursive=False)


def descendants(pid: int) -> list[int]:
    """Return the children of a process and theirs; none if it is gone."""
    return _below(pid, recursive=True)


def engines() -> list[int]:
    """Return the engines among this process's children."""
    return engines_among(children(os.getpid()))


def engines_among(pids: Iterable[int]) -> list[int]:
    """Return which of the processes are engines, or workers of one: a fork keeps the command line."""
    found = []
    for pid in pids:
        try:
            if any(ENGINE in word for word in psutil.Process(pid).cmdline()):
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def kill_all(started: subprocess.Popen[str]) -> None:
    """Kill a whole tree at one moment: frozen from above, nothing is started or tidied up meanwhile."""
    pids: list[int] = []
    found = [started.pid]
    while found != pids:
        pids = found
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        found = [started.pid, *descendants(started.pid)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    started.communicate()
    assert wait_until_gone(pids[1:]) == []


def parent_of(pid: int) -> int:
    """Return the process that started this one. Raises psutil.NoSuchProcess."""
    return psutil.Process(pid).ppid()


def _below(pid: int, *, recursive: bool) -> list[int]:
    try:
        return [process.pid for process in psutil.Process(pid).children(recursive=recursive)]
    except psutil.NoSuchProcess:
        return []
