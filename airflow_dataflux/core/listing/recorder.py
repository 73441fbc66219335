"""Recording a job of a listing, for the report: which stream listed which names when, and how fast.

The owner of a job shows the recorder every order it gives and every message it gets: two method calls of a few
microseconds for each page. `listing_record.py` has what is kept.
"""

from __future__ import annotations

import time

from airflow_dataflux.core.listing.listing_record import JobRecord
from airflow_dataflux.core.listing.messages import (
    ListRange,
    Order,
    PageListed,
    Probe,
    Probed,
    RangeEnded,
    ShrinkAnswered,
)
from airflow_dataflux.core.report.activity import SpanKind


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
                if message.object_statistics is not None:
                    record.object_statistics.merge(message.object_statistics)
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
