"""What a listing remembers for its report: its first page, and how each of its jobs went.

It is bounded (`SpanLog`, `Series`), so a listing of any size can be recorded. Times are seconds since the listing
began, on the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import time

import msgspec
import pyarrow as pa

from airflow_dataflux.core.report.activity import Series, Span, SpanKind, SpanLog
from airflow_dataflux.core.report.object_statistics import ObjectStatistics


class JobRecord(msgspec.Struct):
    """How one job of a listing went. Pickles.

    Attributes:
        start_s, end_s: since the listing began.
        isolated: it ran in an engine; else in threads of the calling process.
        log: its ranges, probes and steals.
        objects: objects listed, before filters, over time.
        object_statistics: the objects that passed the filters.
        lost: workers that died, with the moment.
    """

    start_s: float
    isolated: bool = False
    end_s: float = 0.0
    log: SpanLog = msgspec.field(default_factory=SpanLog)
    objects: Series = msgspec.field(default_factory=Series)
    object_statistics: ObjectStatistics = msgspec.field(default_factory=ObjectStatistics)
    lost: list[tuple[int, float]] = []


class ListingRecord(msgspec.Struct):
    """What a listing remembers for its report: its first page, then its jobs.

    Attributes:
        began: when it began, on the monotonic clock.
        first: the first page.
        first_objects: its objects that passed the filters.
        jobs: in the order in which they ran.
    """

    began: float
    first: Span | None = None
    first_objects: ObjectStatistics = msgspec.field(default_factory=ObjectStatistics)
    jobs: list[JobRecord] = []

    def first_page(self, listed: int, kept: pa.RecordBatch, *, low: str, high: str | None) -> None:
        """Take note of the first page, when it is there."""
        end_s = time.monotonic() - self.began
        self.first = Span(0, 0, 0.0, end_s, SpanKind.LISTED, low, high, listed, 1, listed_s=end_s)
        self.first_objects.add(kept)

    def object_statistics(self) -> ObjectStatistics:
        """Return the objects of the manifest."""
        whole = ObjectStatistics()
        whole.merge(self.first_objects)
        for job in self.jobs:
            whole.merge(job.object_statistics)
        return whole
