"""What a process has used of the machine."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
"""getrusage(2) gives kibibytes on Linux and bytes on macOS."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """CPU seconds (user and system) and the peak resident memory of one process, in bytes."""

    cpu_s: float
    peak_rss_bytes: int


def process_usage() -> Usage:
    """Return what this process, without its children, has used since its start."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(cpu_s=used.ru_utime + used.ru_stime, peak_rss_bytes=used.ru_maxrss * _RSS_UNIT_BYTES)
