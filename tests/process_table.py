"""Processes that are not this one's to wait for, as the kernel lists them.

A process can end between any two looks at it. psutil tells that apart from every other failure; a read of /proc raises
one of two errors, depending on the moment.
"""

from __future__ import annotations

import os
import time

import psutil


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
    found = []
    for pid in children(os.getpid()):
        try:
            if any("runtime.engine" in word for word in psutil.Process(pid).cmdline()):
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def _below(pid: int, *, recursive: bool) -> list[int]:
    try:
        return [process.pid for process in psutil.Process(pid).children(recursive=recursive)]
    except psutil.NoSuchProcess:
        return []
