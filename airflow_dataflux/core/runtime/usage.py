"""What a process has used of the machine, and when the parts of a run were."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec

_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
"""getrusage(2) gives kibibytes on Linux and bytes on macOS."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """CPU seconds (user and system) and the peak resident memory of one process, in bytes."""

    cpu_s: float
    peak_rss_bytes: int


def usage_by_role(own: Usage, workers: Iterable[tuple[str, Usage]]) -> list[tuple[str, float, int]]:
    """Return role, CPU seconds and peak memory of the process that runs a job and of its worker processes."""
    others = sorted((role, usage.cpu_s, usage.peak_rss_bytes) for role, usage in workers)
    return [("engine" if others else "task", own.cpu_s, own.peak_rss_bytes), *others]


def process_usage() -> Usage:
    """Return what this process, without its children, has used since its start."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(cpu_s=used.ru_utime + used.ru_stime, peak_rss_bytes=used.ru_maxrss * _RSS_UNIT_BYTES)


class RunClock:
    """When the parts of one run began and ended, and what this process used for it. One thread, the owner's.

    Attributes:
        started: when the run was asked for, on the monotonic clock, which all processes of a machine share.
        phases: name, begin and end of its parts, in seconds since it was asked for.
    """

    def __init__(self, started: float) -> None:
        self.started = started
        self.phases: list[tuple[str, float, float]] = []
        self._cpu_before_s = process_usage().cpu_s

    def elapsed_s(self) -> float:
        """Return the seconds since the run was asked for."""
        return time.monotonic() - self.started

    def began(self) -> None:
        """Record that the work begins, in the engine or here: the phase "start" ends."""
        self.phases.append(("start", 0.0, self.elapsed_s()))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record when a part of the run began and ended."""
        began_s = self.elapsed_s()
        try:
            yield
        finally:
            self.phases.append((name, began_s, self.elapsed_s()))

    def own_usage(self) -> Usage:
        """Return what this process has used for the run."""
        used = process_usage()
        return Usage(cpu_s=used.cpu_s - self._cpu_before_s, peak_rss_bytes=used.peak_rss_bytes)
