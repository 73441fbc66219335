"""What the scheduler's owner and the workers of a listing say to each other. Plain, picklable data.

`ListRange`, `Shrink`, `Probe` and `Halt` are the scheduler's instructions, each in an `Order` that names the worker;
`PageListed`, `RangeEnded`, `ShrinkAnswered`, `Probed` are its events, as are `WorkerJoined` and `WorkerLost`.

Structs of msgspec, because every process of a listing makes these classes first: 0.01 ms each, a dataclass takes 0.5.
"""

from __future__ import annotations

import msgspec

from airflow_dataflux.core.config import ListRequest, StoreConfig
from airflow_dataflux.core.gcs.store import RequestCounts
from airflow_dataflux.core.manifest.parts import PartInfo
from airflow_dataflux.core.namerange import NameRange
from airflow_dataflux.core.report.census import Census


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The first message to a worker: what it lists, where its parts go, how many streams it runs.

    `found_reads_per_s` is what the bucket was found to bear from all workers, None if nothing was refused so far;
    `page_rows` is what a page is asked for, None for what the server finds right.
    """

    request: ListRequest
    store_config: StoreConfig
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
    """Find the first name in `names`, with the cheapest request there is."""

    probe_id: int
    names: NameRange
    prefix: str


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
    """

    range_id: int
    listed: int
    kept: int
    kept_bytes: int
    first: str | None
    last: str | None
    examples: tuple[str, ...] = ()
    more: bool = True


class RangeEnded(msgspec.Struct, frozen=True):
    """The range was listed up to `end`, and its rows are in `parts`.

    `end` is the range's own end, or an earlier name after a Halt; `parts` are durable; `dropped` counts what each
    filter left out; `census` counts what is in the parts, where a report was asked for.
    """

    range_id: int
    end: str | None
    parts: tuple[PartInfo, ...] = ()
    dropped: dict[str, int] = msgspec.field(default_factory=dict)
    census: Census | None = None


class ShrinkAnswered(msgspec.Struct, frozen=True):
    """The range now ends at `point`, one of those asked for; None: it was past them all, or had ended."""

    range_id: int
    steal_id: int
    point: str | None


class Probed(msgspec.Struct, frozen=True):
    """The first name of a probe's range, None if there is none."""

    probe_id: int
    name: str | None


class WorkerJoined(msgspec.Struct, frozen=True):
    """A worker is there and runs so many streams."""

    worker: int
    streams: int


class WorkerLost(msgspec.Struct, frozen=True):
    """A worker is gone, and with it everything it had not reported."""

    worker: int


Event = PageListed | RangeEnded | ShrinkAnswered | Probed | WorkerJoined | WorkerLost


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
