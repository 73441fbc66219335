"""How many streams a listing has where nobody says. Pure."""

from __future__ import annotations

import math

from airflow_dataflux.core.config import DEFAULT_STREAMS

FEWEST_STREAMS = 24
"""With pages of 65 ms, threads of one process were not faster with more."""

MOST_STREAMS = 256

MOST_STREAMS_OF_A_PROCESS = 96
"""Threads of the task's own process: each holds a row group in memory."""

STREAMS_PER_NEEDED = 1.5
"""Some streams ask where names lie, and some look for a part of another's range. With twice as many as the processors
need, 11 sets of 1,000,000 names took as long, 5 % more processor time, and 3 % more requests (docs/decisions/0005)."""

PAGE_CPU_S = 0.004
"""Processor time of a page of 1,000 names where it is not measured: 1,000,000 objects take 2.9 to 4.4 CPU-seconds
(docs/performance). A slow processor takes three times as long."""


def streams_for(
    page_s: float | None, *, processors: int, page_cpu_s: float | None = None, requests_per_s: float | None = None
) -> int:
    """Return how many streams keep the processors busy where a page takes so long, and half as many again.

    Args:
        page_s: from the request of a page to its rows; None: not known.
        processors: how many there are. Threads of one process count as one.
        page_cpu_s: processor time of a page; None: not known.
        requests_per_s: what the bucket was found to bear; None: nothing was refused.
    """
    if page_s is None:
        return DEFAULT_STREAMS
    wanted = STREAMS_PER_NEEDED * page_s * processors / (page_cpu_s or PAGE_CPU_S)
    if requests_per_s is not None:
        wanted = min(wanted, 2 * page_s * requests_per_s)
    return max(FEWEST_STREAMS, min(MOST_STREAMS, math.ceil(wanted)))
