"""What happened in a staging: the one object that counts. One thread, the owner's; everything else reads it.

`StagingRecorder.batch` is told each batch that came back, which costs some ten microseconds; `stats.py` makes receipts
and progress lines of what it holds, `staging_report.py` a page. Times are seconds since the staging was asked for, on
the monotonic clock, which all processes of a machine share. Memory: fixed numbers of buckets, and the names left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from airflow_dataflux.core.gcs.store import RequestCounts
from airflow_dataflux.core.report.activity import Series
from airflow_dataflux.core.runtime.usage import RunClock, Usage
from airflow_dataflux.core.staging.batching import RANGE_BYTES, Batch, BatchKind
from airflow_dataflux.core.staging.transfer import BatchResult

COMPOSING, READING_COMPOSITES, READING_DIRECTLY, READING_RANGES = range(4)
"""What a batch may be busy with."""


class TransferTotals(msgspec.Struct):
    """What was fetched so far, or is planned to be."""

    downloaded: int = 0
    downloaded_bytes: int = 0
    composites: int = 0
    composed_bytes: int = 0
    refetched: int = 0
    resumed: int = 0
    compose_s: float = 0.0
    read_s: float = 0.0
    objects_by_kind: Counter[str] = msgspec.field(default_factory=Counter)
    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    changed: list[tuple[int, str]] = []
    unreadable: list[tuple[int, str, str]] = []

    def add(self, batch: Batch, result: BatchResult) -> None:
        """Add a batch."""
        self.downloaded += len(result.ordinals)
        self.downloaded_bytes += result.downloaded_bytes
        self.composites += result.composites
        self.composed_bytes += result.composed_bytes
        self.refetched += result.refetched
        self.resumed += result.resumed
        self.compose_s += result.compose_s
        self.read_s += result.read_s
        self.changed += result.changed
        self.unreadable += result.unreadable
        chosen_direct = result.chosen_direct.total()
        self.objects_by_kind[batch.kind.value] += len(batch.names) - result.fallback_objects - chosen_direct
        if chosen_direct:
            self.objects_by_kind[BatchKind.DIRECT.value] += chosen_direct
            self.reasons += result.chosen_direct
        if result.fallback_objects:
            self.objects_by_kind[BatchKind.DIRECT.value] += result.fallback_objects
            self.reasons[result.fell_back] += result.fallback_objects


class PlannedBatches(msgspec.Struct):
    """What batches would take that were planned and not fetched."""

    requests: RequestCounts = msgspec.field(default_factory=RequestCounts)
    totals: TransferTotals = msgspec.field(default_factory=TransferTotals)

    def add(self, batch: Batch) -> None:
        """Add a batch."""
        count, composite = len(batch.names), batch.kind is BatchKind.COMPOSITE
        reads = count
        if composite:
            reads = int(batch.total_bytes > 0)
        elif batch.kind is BatchKind.RANGED:
            reads = -(-batch.total_bytes // RANGE_BYTES)
        self.requests += RequestCounts(class_a=int(composite), class_b=reads, free=int(composite))
        self.totals.objects_by_kind[batch.kind.value] += count
        self.totals.composites += composite
        self.totals.composed_bytes += batch.total_bytes if composite else 0


class StagingRecorder(RunClock):
    """Records one staging.

    Attributes:
        totals: of all batches that came back.
        planned: of batches that were only planned.
        objects, bytes_by_kind, busy: how batches went over time.
        batches: how many came back.
        lines: for the receipt.
        linked, deleted: objects linked from other trees, extraneous files removed.
        processes: what each worker process used, by its role.
        workers_lost: how many died.
    """

    def __init__(self, started: float) -> None:
        super().__init__(started)
        self.totals = TransferTotals()
        self.planned = PlannedBatches()
        self.objects = Series()
        self.bytes_by_kind = {kind: Series() for kind in BatchKind}
        self.busy = [Series() for _ in range(4)]
        self.batches = 0
        self.lines: list[str] = []
        self.linked = self.deleted = 0
        self.processes: Sequence[tuple[str, Usage]] = ()
        self.workers_lost = 0

    def seconds_by_phase(self) -> dict[str, float]:
        """Return how long each part took."""
        seconds: dict[str, float] = {}
        for name, began_s, ended_s in self.phases:
            seconds[name] = seconds.get(name, 0.0) + ended_s - began_s
        return {name: round(each, 3) for name, each in seconds.items()}

    def note(self, *lines: str) -> None:
        """Keep lines for the receipt."""
        self.lines += lines

    def batch(self, batch: Batch, result: BatchResult) -> None:
        """Record a batch that came back."""
        self.totals.add(batch, result)
        now_s = self.elapsed_s()
        began_s = min(now_s, result.began - self.started)
        self.batches += 1
        self.objects.spread(began_s, now_s, len(result.ordinals))
        direct_bytes = result.direct_bytes if batch.kind is BatchKind.COMPOSITE else 0
        self.bytes_by_kind[BatchKind.DIRECT].spread(began_s, now_s, direct_bytes)
        self.bytes_by_kind[batch.kind].spread(began_s, now_s, result.downloaded_bytes - direct_bytes)
        if batch.kind is BatchKind.COMPOSITE:
            composed_s = min(now_s, began_s + result.compose_s)
            self.busy[COMPOSING].spread(began_s, composed_s, composed_s - began_s)
            reading = READING_DIRECTLY if result.fell_back else READING_COMPOSITES
            self.busy[reading].spread(composed_s, now_s, now_s - composed_s)
        else:
            reading = READING_RANGES if batch.kind is BatchKind.RANGED else READING_DIRECTLY
            self.busy[reading].spread(began_s, now_s, now_s - began_s)
