"""What is told of a listing: what a manifest says of its figures, and the progress line of a running job."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_dataflux.core.config import ListRequest
from airflow_dataflux.core.listing.messages import Figures, ProcessFigures
from airflow_dataflux.core.report.formatting import plural, roughly
from airflow_dataflux.core.runtime.progress import Progress

if TYPE_CHECKING:
    from airflow_dataflux.core.listing.scheduler import Scheduler


_MOST_TIMES_MORE = 20
"""An estimate of many times what was listed comes from the first names alone, and is off by as much."""


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
    # What the result of the listing means is not what was listed.
    del described["on_empty"], described["unchanged_fingerprint"]
    filters = described["filters"]
    if filters["storage_classes"] is not None:
        filters["storage_classes"] = sorted(filters["storage_classes"])
    for name in ("updated_after", "updated_before"):
        if filters[name] is not None:
            filters[name] = filters[name].isoformat()
    return described


def progress_line(
    scheduler: Scheduler,
    figures: Figures,
    *,
    before: Figures,
    elapsed_s: float,
    before_s: float = 0.0,
    expected: int | None = None,
) -> Progress:
    """Describe a running job, first what a person looks for: a log is cut where a line does not fit.

    Args:
        scheduler: of the job.
        figures: of the job until now.
        before: figures of the listing before the job, so that none of a line is less than in the line before.
        elapsed_s: since the job began.
        before_s: how long the listing had taken until then.
        expected: how many objects an earlier listing of the same had. It says more than what the names tell: that
            estimate was off by 2 to 46 % of the whole on average, and jumped by up to 67 %, depending on the names.
    """
    totals = scheduler.totals
    objects = before.listed + totals.listed
    requests = before.requests + figures.requests
    steals, retries = before.steals + figures.steals, before.retries + figures.retries
    whole_s = before_s + elapsed_s
    rate = objects / whole_s if whole_s else 0.0
    if expected is not None and objects >= expected:
        expected = None  # the bucket has grown
    pages = scheduler.remaining_pages() if expected is None else None
    if pages is not None and pages > _MOST_TIMES_MORE * requests:
        pages = None
    eta_s = pages * elapsed_s / totals.pages if pages is not None and totals.pages else None
    shown: dict[str, int | float] = {
        "objects": objects,
        "objects_per_s": round(rate, 1),
        "requests": requests,
        "active_streams": scheduler.active_streams,
        "steals": steals,
        "retries": retries,
    }
    left = "how much is left is not known yet"
    if eta_s is not None and pages is not None:
        shown |= {"remaining_pages": round(pages), "eta_s": round(eta_s, 1)}
        left = f"about {roughly(eta_s)} left ({plural(round(pages), 'page')})"
    counted = plural(objects, "object")
    if expected is not None:
        shown["expected_objects"] = expected
        counted = f"{objects:,} of about {plural(expected, 'object')}"
        if rate:
            shown["eta_s"] = round((expected - objects) / rate, 1)
            left = f"about {roughly(shown['eta_s'])} left"
    text = (
        f"Listed {counted} at {rate:,.0f}/s, {left}; {plural(requests, 'request')}, "
        f"{plural(scheduler.active_streams, 'stream')}, {plural(steals, 'steal')}, "
        f"{plural(retries, 'retry', 'retries')}"
    )
    return Progress(stage="listing", text=text, figures=shown)
