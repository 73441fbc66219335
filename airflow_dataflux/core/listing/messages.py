"""What the parts of a listing say to each other. Plain, picklable data.

A `ListingPlan` is what a job is given, an `Outcome` what it gives back; a `Remainder`, in both, is what one job leaves
to the next, and `Figures` what a job used. The rest goes between the scheduler's owner and the workers.

`ListRange`, `Shrink`, `Probe` and `Halt` are the scheduler's instructions, each in an `Order` that names the worker;
`PageListed`, `RangeEnded`, `ShrinkAnswered`, `Probed` are its events, as are `WorkerJoined`, `StreamsAdded` and
`WorkerLost`.

Structs of msgspec, because every process of a listing makes these classes first: 0.01 ms each, a dataclass takes 0.5.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from airflow_dataflux.core.config import ListRequest
from airflow_dataflux.core.gcs.store import RequestCounts, StoreFactory
from airflow_dataflux.core.manifest.parts import PartInfo
from airflow_dataflux.core.namerange import NameRange
from airflow_dataflux.core.report.object_statistics import ObjectStatistics

if TYPE_CHECKING:
    from airflow_dataflux.core.listing.known_names import Level
    from airflow_dataflux.core.listing.listing_record import JobRecord


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
    processes: list[ProcessFigures] = []
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


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    """When a job stops and hands over what is left.

    Attributes:
        after_pages: not before so many pages are listed.
        remaining_pages: if more than this is expected to be left; if nobody can tell, after so many pages.
    """

    after_pages: int
    remaining_pages: int


class Remainder(msgspec.Struct, kw_only=True):
    """What is left to list, and what is known by then.

    Attributes:
        waiting: the name ranges that are left.
        examples, empty_ranges: names that were seen, and ranges without any.
        levels: the directories that were asked for.
        found_reads_per_s: what the bucket was found to bear; None: nothing was refused.
        page_s: how long a page takes that waits for nothing else; None: not measured.
        page_cpu_s: processor time of a request in threads of one process; None: not measured.
        next_range_id: ids below were given already.
    """

    waiting: tuple[NameRange, ...] = ()
    examples: tuple[str, ...] = ()
    empty_ranges: tuple[NameRange, ...] = ()
    levels: tuple[Level, ...] = ()
    found_reads_per_s: float | None = None
    page_s: float | None = None
    page_cpu_s: float | None = None
    next_range_id: int = 1


class HandingOver(msgspec.Struct, frozen=True):
    """Told by a job that stops after the pages in flight: an engine will list the rest, and may be started now."""


class ListingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing job has to do.

    Attributes:
        request, store_config: what is listed, and where it is.
        prefixes: the distinct prefixes of the request.
        remainder: what is left to list, and what is known already.
        parts_uri: where parts go.
        run_id: makes their names unique.
        streams: list requests in flight at first, over all workers of this job.
        most_streams: up to so many, if pages are found to take that long.
        page_rows: rows to ask for in a page; None leaves it to the server.
        free_waste: requests that may be wasted, besides those for each page.
        before: what the listing had used and done before this job.
        before_s: how long that took.
        expected: how many objects an earlier listing of the same had; None: not known.
        hand_over: when to stop and hand over what is left; None: list everything.
        recorded_from: when the listing began, on the monotonic clock, if the job is to be recorded.
    """

    request: ListRequest
    store_config: StoreFactory
    prefixes: tuple[str, ...]
    remainder: Remainder
    parts_uri: str
    run_id: str
    streams: int
    most_streams: int
    page_rows: int | None = None
    free_waste: int
    before: Figures
    before_s: float = 0.0
    expected: int | None = None
    hand_over: HandOver | None = None
    recorded_from: float | None = None


class FinishedRange(msgspec.Struct, frozen=True):
    """A range that was listed to its end, and where its rows are."""

    names: NameRange
    parts: tuple[PartInfo, ...]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a job has done with how many streams at most, and what it learned for the next one."""

    finished: tuple[FinishedRange, ...]
    remainder: Remainder
    figures: Figures
    streams: int
    record: JobRecord | None = None


def part_prefix(run_id: str, range_id: int) -> str:
    """Return how the parts of one range of one run are named: sorted by the order in which ranges were started."""
    return f"{run_id}-{range_id:06d}"


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The first message to a worker: what it lists, where its parts go, how many streams it runs at most.

    `found_reads_per_s` is what the bucket was found to bear from all workers, None if nothing was refused so far;
    `page_rows` is what a page is asked for, None for what the server finds right.
    """

    request: ListRequest
    store_config: StoreFactory
    parts_uri: str
    run_id: str
    streams: int
    found_reads_per_s: float | None = None
    page_rows: int | None = None


class ListRange(msgspec.Struct, frozen=True):
    """List `names`, all of which begin with `prefix`."""

    range_id: int
    names: NameRange
    prefix: str


class Shrink(msgspec.Struct, frozen=True):
    """End the range at the first of `points` that is still ahead, and say which, at once."""

    range_id: int
    steal_id: int
    points: tuple[str, ...]


class Probe(msgspec.Struct, frozen=True):
    """Find the first name in `names`, with the cheapest request there is, or the directories just below `prefix`.

    All of `names` begin with `prefix`.
    """

    probe_id: int
    names: NameRange
    prefix: str
    directories: bool = False


class Halt(msgspec.Struct, frozen=True):
    """End every range after the page that is in flight."""


Instruction = ListRange | Shrink | Probe | Halt


class Order(msgspec.Struct, frozen=True):
    """An instruction and the worker that gets it."""

    worker: int
    instruction: Instruction


class PageListed(msgspec.Struct, frozen=True):
    """One page of a range arrived; `first` and `last` are None if it held no name of the range.

    Attributes:
        range_id: the range.
        listed: rows of the range, before filters.
        kept: rows after filters.
        kept_bytes: lower bound of what the kept rows need in an inline manifest.
        first, last: names of the first and the last row.
        examples: some names between them.
        more: the range goes on; False on its last page, whose `RangeEnded` follows once its parts are durable.
        seconds: from the request to the rows.
    """

    range_id: int
    listed: int
    kept: int
    kept_bytes: int
    first: str | None
    last: str | None
    examples: tuple[str, ...] = ()
    more: bool = True
    seconds: float = 0.0


class RangeEnded(msgspec.Struct, frozen=True):
    """The range was listed up to `end`, and its rows are in `parts`.

    `end` is the range's own end, or an earlier name after a Halt; `parts` are durable; `dropped` counts what each
    filter left out; `object_statistics` counts what is in the parts, where a report was asked for.
    """

    range_id: int
    end: str | None
    parts: tuple[PartInfo, ...] = ()
    dropped: dict[str, int] = {}
    object_statistics: ObjectStatistics | None = None


class ShrinkAnswered(msgspec.Struct, frozen=True):
    """The range now ends at `point`, one of those asked for; None: it was past them all, or had ended."""

    range_id: int
    steal_id: int
    point: str | None


class Probed(msgspec.Struct, frozen=True):
    """What a probe found: one name, or directories, in order; `more` if there is more than that in its range.

    `only_directories` says that there are no objects beside and between those directories.
    """

    probe_id: int
    found: tuple[str, ...]
    more: bool
    only_directories: bool = False


class WorkerJoined(msgspec.Struct, frozen=True):
    """A worker is there and runs so many streams."""

    worker: int
    streams: int


class StreamsAdded(msgspec.Struct, frozen=True):
    """A worker runs so many streams more."""

    worker: int
    streams: int


class WorkerLost(msgspec.Struct, frozen=True):
    """A worker is gone, and with it everything it had not reported."""

    worker: int


Event = PageListed | RangeEnded | ShrinkAnswered | Probed | WorkerJoined | StreamsAdded | WorkerLost


class WorkerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has used: with `final=False` from time to time, with True as its last message.

    `found_reads_per_s` is the rate that the bucket was found to bear from this worker, None while nothing was refused.
    """

    counts: RequestCounts
    found_reads_per_s: float | None = None
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    final: bool = False


class StreamFailed(msgspec.Struct, frozen=True):
    """A request failed for good, or the rows could not be written: the listing cannot be finished."""

    range_id: int | None
    error: BaseException


class Finish:
    """No more work: send the final figures and end."""
