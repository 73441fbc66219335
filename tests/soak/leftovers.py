"""What a piece of work may leave behind in its process and on the machine, and does not here."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa

_SETTLE_S = 5.0
"""A killed process is gone, and a joined thread's stack freed, a moment later."""


def memory_bytes() -> int:
    """Return what this process has resident, without what Arrow and the C library only keep for later."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(0)
    return int(psutil.Process().memory_info().rss)


class Baseline:
    """What this process had at a moment at which nothing was running.

    Args:
        scratch: the directory of temporary files, which belongs to this program alone.
        children: processes that may run.
    """

    def __init__(self, *, scratch: Path, children: set[int]) -> None:
        self._scratch = scratch
        self._children = children
        self._threads = threading.active_count()
        self._descriptors = _descriptors()

    def leaked(self) -> list[str]:
        """Return what is more than it was, once what is about to go has had its moment to go."""
        deadline = time.monotonic() + _SETTLE_S
        while (found := self._now()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def _now(self) -> list[str]:
        gc.collect()
        found = []
        left = [child for child in psutil.Process().children(recursive=True) if child.pid not in self._children]
        if left:
            found.append(f"processes {[child.pid for child in left]}")
        if threading.active_count() > self._threads:
            found.append(f"threads {sorted(thread.name for thread in threading.enumerate())}")
        more = {number: target for number, target in _descriptors().items() if number not in self._descriptors}
        if more:
            found.append(f"descriptors {more}")
        files = [path.name for path in self._scratch.iterdir()]
        if files:
            found.append(f"temporary files {files[:5]}")
        return found


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that lists the directory
            continue
    return found
