"""What a listing remembers for its report: which stream listed which names when, and how fast.

The owner of a job shows the recorder every order it gives and every message it gets: two method calls of a few
microseconds for each page. What is kept is bounded (`SpanLog`, `Series`), so a listing of any size can be recorded.
Times are seconds since the listing began, on the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pyarrow as pa

from airflow_dataflux.core.listing.messages import (
    ListRange,
    Order,
    PageListed,
    Probe,
    Probed,
    RangeEnded,
    ShrinkAnswered,
)
from airflow_dataflux.core.report.census import Census
from airflow_dataflux.core.report.series import Series
from airflow_dataflux.core.report.spans import Span, SpanKind, SpanLog


@dataclass(slots=True)
class JobRecord:
    """How one job of a listing went. Pickles.

    Attributes:
        start_s, end_s: since the listing began.
        isolated: it ran in an engine; else in threads of the calling process.
        log: its ranges, probes and steals.
        objects: objects listed, before filters, over time.
        census: the objects that passed the filters.
        lost: workers that died, with the moment.
    """

    start_s: float
    isolated: bool = False
    end_s: float = 0.0
    log: SpanLog = field(default_factory=SpanLog)
    objects: Series = field(default_factory=Series)
    census: Census = field(default_factory=Census)
    lost: list[tuple[int, float]] = field(default_factory=list)


@dataclass(slots=True)
class ListingRecord:
    """What a listing remembers for its report: its first page, then its jobs.

    Attributes:
        began: when it began, on the monotonic clock.
        first: the first page.
        first_census: its objects that passed the filters.
        jobs: in the order in which they ran.
    """

    began: float
    first: Span | None = None
    first_census: Census = field(default_factory=Census)
    jobs: list[JobRecord] = field(default_factory=list)

    def first_page(self, listed: int, kept: pa.RecordBatch, *, low: str, high: str | None) -> None:
        """Take note of the first page, when it is there."""
        end_s = time.monotonic() - self.began
        self.first = Span(0, 0, 0.0, end_s, SpanKind.LISTED, low, high, listed, 1, listed_s=end_s)
        self.first_census.add(kept)

    def census(self) -> Census:
        """Return the objects of the manifest."""
        whole = Census()
        whole.merge(self.first_census)
        for job in self.jobs:
            whole.merge(job.census)
        return whole


class Recorder:
    """Records one job. One thread: the owner's."""

    def __init__(self, began: float) -> None:
        """`began` is when the listing began, on the monotonic clock."""
        self._began = began
        self._record = JobRecord(self._now_s())

    def ordered(self, order: Order) -> None:
        """Take note of an instruction."""
        match order.instruction:
            case ListRange(range_id, names, _):
                self._record.log.begin(range_id, order.worker, self._now_s(), low=names.start, high=names.end)
            case Probe(probe_id, names, _):
                self._record.log.begin(
                    probe_id, order.worker, self._now_s(), low=names.start, high=names.end, probe=True
                )

    def took(self, message: object) -> None:
        """Take note of a message of a worker."""
        record = self._record
        match message:
            case PageListed():
                now_s = self._now_s()
                record.log.listed(message.range_id, now_s, message.listed)
                record.objects.add(now_s, message.listed)
            case RangeEnded():
                # Steals moved the end in the log, too: who ended elsewhere was told to stop.
                whole = record.log.high_of(message.range_id) == message.end
                kind = SpanKind.LISTED if whole else SpanKind.HANDED_OVER
                record.log.end(message.range_id, self._now_s(), kind, high=message.end)
                if message.census is not None:
                    record.census.merge(message.census)
            case ShrinkAnswered(range_id, _, point) if point is not None:
                record.log.shrunk(range_id, self._now_s(), point)
            case Probed():
                record.log.end(message.probe_id, self._now_s())

    def lost(self, worker: int) -> None:
        """Take note of a worker that died."""
        self._record.log.lose(worker, self._now_s())
        self._record.lost.append((worker, self._now_s()))

    def finish(self) -> JobRecord:
        """Return what was recorded, when the job is done."""
        self._record.end_s = self._now_s()
        self._record.log.close(self._record.end_s)
        return self._record

    def _now_s(self) -> float:
        return time.monotonic() - self._began
