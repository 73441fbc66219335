"""What a staging remembers for its report: how its batches went over time, in fixed numbers of buckets.

The owner shows each batch that came back, which costs some ten microseconds. Times are seconds since the staging was
asked for, on the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import time

from airflow_dataflux.core.report.series import Series
from airflow_dataflux.core.staging.plan import Batch, BatchKind
from airflow_dataflux.core.staging.transfer import Outcome

COMPOSING, READING_COMPOSITES, READING_DIRECTLY, READING_RANGES = range(4)
"""What a batch may be busy with."""


class StagingRecord:
    """How the batches of one staging went. One thread: the owner's."""

    def __init__(self, began: float) -> None:
        """`began` is when the staging was asked for, on the monotonic clock."""
        self._began = began
        self.objects = Series()
        self.bytes_by_kind = {kind: Series() for kind in BatchKind}
        self.busy = [Series() for _ in range(4)]
        self.batches = 0

    def took(self, batch: Batch, outcome: Outcome) -> None:
        """Take note of a batch that came back."""
        now_s = time.monotonic() - self._began
        began_s = min(now_s, outcome.began - self._began)
        self.batches += 1
        self.objects.spread(began_s, now_s, len(outcome.ordinals))
        kind = BatchKind.DIRECT if outcome.fell_back else batch.kind
        self.bytes_by_kind[kind].spread(began_s, now_s, outcome.downloaded_bytes)
        if batch.kind is BatchKind.COMPOSITE:
            composed_s = min(now_s, began_s + outcome.compose_s)
            self.busy[COMPOSING].spread(began_s, composed_s, composed_s - began_s)
            reading = READING_DIRECTLY if outcome.fell_back else READING_COMPOSITES
            self.busy[reading].spread(composed_s, now_s, now_s - composed_s)
        elif batch.kind is not BatchKind.LOCAL:
            reading = READING_RANGES if batch.kind is BatchKind.RANGED else READING_DIRECTLY
            self.busy[reading].spread(began_s, now_s, now_s - began_s)
