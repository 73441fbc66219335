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
    pages = scheduler.remaining_pages()
    eta_s = pages * elapsed_s / totals.pages if pages is not None and totals.pages else None
    text = (
        f"Listed {objects:,} objects, {rate:,.0f} objects/s, {figures.requests} requests, "
        f"{scheduler.active_streams} streams, {figures.steals} steals, {figures.retries} retries; "
        + (
            f"about {pages:,.0f} pages ({eta_s:.0f} s) to come."
            if eta_s is not None
            else "how much is left is not known yet."
        )
    )
    shown: dict[str, int | float] = {
        "objects": objects,
        "objects_per_s": round(rate, 1),
        "requests": figures.requests,
        "active_streams": scheduler.active_streams,
        "steals": figures.steals,
        "retries": figures.retries,
    }
    if eta_s is not None and pages is not None:
        shown |= {"remaining_pages": round(pages), "eta_s": round(eta_s, 1)}
    return Progress(stage="listing", text=text, figures=shown)
