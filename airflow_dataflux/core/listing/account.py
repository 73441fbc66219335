"""What a manifest says about its own listing: the request, and what it took."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from airflow_dataflux.core.config import ListRequest
from airflow_dataflux.core.listing.plan import Figures, ProcessFigures


def stats_of(figures: Figures, task: ProcessFigures, *, wall_s: float, workers: int, streams: int) -> dict[str, Any]:
    """Return the statistics, JSON-safe and flat but for `dropped` and `processes`.

    Args:
        figures: of all jobs of the listing.
        task: what the calling process used for it.
        wall_s: how long it took.
        workers: worker processes, 0 if all was done in the calling process.
        streams: list requests in flight at most.

    `peak_rss_bytes` adds up the processes' own peaks, which need not fall together, and counts what forked
    processes share once for each: it is an upper bound.
    """
    processes = [task, *figures.processes]
    return {
        "requests": figures.requests,
        "wasted_requests": figures.wasted_requests,
        "steals": figures.steals,
        "retries": figures.retries,
        "throttled": figures.throttled,
        "lost_workers": figures.lost_workers,
        "listed": figures.listed,
        "dropped": dict(figures.dropped),
        "wall_s": round(wall_s, 3),
        "cpu_s": round(sum(process.cpu_s for process in processes), 3),
        "peak_rss_bytes": sum(process.peak_rss_bytes for process in processes),
        "processes": [
            {"role": process.role, "cpu_s": round(process.cpu_s, 3), "peak_rss_bytes": process.peak_rss_bytes}
            for process in processes
        ],
        "workers": workers,
        "streams": streams,
    }


def described(request: ListRequest) -> dict[str, Any]:
    """Return the request as JSON-safe data, for the index."""
    described = asdict(request)
    filters = described["filters"]
    if filters["storage_classes"] is not None:
        filters["storage_classes"] = sorted(filters["storage_classes"])
    for name in ("updated_after", "updated_before"):
        if filters[name] is not None:
            filters[name] = filters[name].isoformat()
    return described
