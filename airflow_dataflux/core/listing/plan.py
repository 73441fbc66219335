"""What a listing job is given, and what it gives back. Plain, picklable data."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from airflow_dataflux.core.config import ListRequest, StoreConfig
from airflow_dataflux.core.namerange import NameRange

if TYPE_CHECKING:
    from airflow_dataflux.core.listing.recording import JobRecord
    from airflow_dataflux.core.manifest.parts import PartInfo


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    """When a job stops and hands over what is left.

    Attributes:
        after_pages: not before so many pages are listed.
        remaining_pages: if more than this is expected to be left.
        unknown_after_pages: if nobody can tell how much is left, after so many pages.
    """

    after_pages: int
    remaining_pages: int
    unknown_after_pages: int


class ListingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing job has to do.

    Attributes:
        request, store_config: what is listed, and where it is.
        prefixes: the distinct prefixes of the request.
        waiting: the name ranges that are left to list.
        parts_uri: where parts go.
        run_id: makes their names unique.
        streams: list requests in flight, over all workers of this job.
        page_rows: rows to ask for in a page; None leaves it to the server.
        first_range_id: ids below were given already.
        examples, voids: names, and empty ranges, known already.
        listed, inline_bytes: what was listed before this job.
        found_reads_per_s: what the bucket was found to bear before this job; None: nothing was refused.
        hand_over: when to stop and hand over what is left; None: list everything.
        recorded_from: when the listing began, on the monotonic clock, if the job is to be recorded.
    """

    request: ListRequest
    store_config: StoreConfig
    prefixes: tuple[str, ...]
    waiting: tuple[NameRange, ...]
    parts_uri: str
    run_id: str
    streams: int
    page_rows: int | None = None
    first_range_id: int = 1
    examples: tuple[str, ...] = ()
    voids: tuple[NameRange, ...] = ()
    listed: int = 0
    inline_bytes: int = 0
    found_reads_per_s: float | None = None
    hand_over: HandOver | None = None
    recorded_from: float | None = None


class FinishedRange(msgspec.Struct, frozen=True):
    """A range that was listed to its end, and where its rows are."""

    names: NameRange
    parts: tuple[PartInfo, ...]


class ProcessFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one process used: "task" is the caller's, "engine" the one it started, "worker 0" and so on its workers."""

    role: str
    cpu_s: float
    peak_rss_bytes: int


class Figures(msgspec.Struct, kw_only=True):
    """What a listing used and did; figures of several jobs add up."""

    requests: int = 0
    wasted_requests: int = 0
    retries: int = 0
    throttled: int = 0
    steals: int = 0
    lost_workers: int = 0
    listed: int = 0
    inline_bytes: int = 0
    processes: list[ProcessFigures] = msgspec.field(default_factory=list)
    dropped: Counter[str] = msgspec.field(default_factory=Counter)

    def add(self, other: Figures) -> None:
        """Add another job's figures."""
        for name in (
            "requests",
            "wasted_requests",
            "retries",
            "throttled",
            "steals",
            "lost_workers",
            "listed",
            "inline_bytes",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.processes.extend(other.processes)
        self.dropped.update(other.dropped)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a job has done, and what it learned for the next one."""

    finished: tuple[FinishedRange, ...]
    leftover: tuple[NameRange, ...]
    examples: tuple[str, ...]
    voids: tuple[NameRange, ...]
    found_reads_per_s: float | None
    next_range_id: int
    figures: Figures
    record: JobRecord | None = None


def part_prefix(run_id: str, range_id: int) -> str:
    """Return how the parts of one range of one run are named: sorted by the order in which ranges were started."""
    return f"{run_id}-{range_id:06d}"
