"""The progress line of a listing: what is listed, how fast, and an honest guess of what is left."""

from __future__ import annotations

from airflow_dataflux.core.listing.plan import Figures
from airflow_dataflux.core.listing.scheduler import Scheduler
from airflow_dataflux.core.runtime.progress import Progress


def progress_line(scheduler: Scheduler, figures: Figures, *, listed_before: int, elapsed_s: float) -> Progress:
    """Describe a running job.

    Args:
        scheduler: of the job.
        figures: of the job until now.
        listed_before: objects that were listed before the job.
        elapsed_s: since the job began.
    """
    totals = scheduler.totals
    objects = listed_before + totals.listed
    rate = totals.listed / elapsed_s if elapsed_s else 0.0
    remaining = scheduler.remaining()
    text = (
        f"Listed {objects:,} objects, {rate:,.0f} objects/s, {figures.requests} requests, "
        f"{scheduler.active_streams} streams, {figures.steals} steals, {figures.retries} retries; "
    )
    shown: dict[str, int | float] = {
        "objects": objects,
        "objects_per_s": round(rate, 1),
        "requests": figures.requests,
        "active_streams": scheduler.active_streams,
        "steals": figures.steals,
        "retries": figures.retries,
        "remaining_pages": round(remaining.pages),
        "remaining_pages_margin": round(remaining.margin_pages),
        "unknown_ranges": remaining.unknown_ranges,
    }
    if remaining.unknown_ranges:
        text += (
            f"{remaining.pages:,.0f} pages (give or take {remaining.margin_pages:,.0f}) are expected, "
            f"and {remaining.unknown_ranges} ranges of which nobody can tell yet."
        )
    elif totals.pages:
        eta_s = remaining.pages * elapsed_s / totals.pages
        shown["eta_s"] = round(eta_s, 1)
        text += (
            f"about {remaining.pages:,.0f} pages (give or take {remaining.margin_pages:,.0f}) to come, {eta_s:.0f} s."
        )
    return Progress(stage="listing", text=text, figures=shown)
