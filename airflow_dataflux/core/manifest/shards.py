"""Cutting rows into byte-balanced pieces: pure arithmetic over cumulated weights.

A row weighs its bytes plus `OBJECT_WEIGHT_BYTES`. The k-th of n cuts lies at the row whose cumulated weight is nearest
to k/n of all, so a shard differs from the n-th part by at most one row's weight, unless fewer bytes than shards force
single rows. Guarantees: shards are contiguous, cover the interval, are never empty, and depend on nothing but the rows
and n. Cost: only rows between two marks are read, for each cut.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import pyarrow as pa

from airflow_dataflux.core.arrowcompute import total
from airflow_dataflux.core.manifest.parts import Mark

OBJECT_WEIGHT_BYTES = 4096
"""What an object weighs beside its bytes: the block that even an empty file takes on a usual file system."""

Sizes = Callable[[int, int], pa.Array]
"""Reads the sizes of the rows `[start, stop)`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """The rows `[start, stop)` and the sum of their objects' sizes."""

    start: int
    stop: int
    total_bytes: int


def cut(interval: Interval, count: int, marks: Sequence[Mark], sizes: Sizes) -> list[Interval]:
    """Cut `interval` into `count` pieces, or into one per row if there are fewer rows.

    Args:
        interval: what to cut.
        count: at least 1.
        marks: of the manifest, ascending, the first at row 0.
        sizes: reads sizes by row.
    """
    rows = interval.stop - interval.start
    count = min(count, rows)
    if count == 0:
        return []
    weights = _Weights(interval, marks, sizes)
    cuts = [(interval.start, 0)]
    for k in range(1, count):
        row = weights.nearest(weights.total * k, count)
        # Each piece keeps at least one row, and leaves one for each piece to come.
        row = min(max(row, cuts[-1][0] + 1), interval.stop - (count - k))
        cuts.append((row, weights.bytes_before(row)))
    cuts.append((interval.stop, interval.total_bytes))
    return [
        Interval(start=start, stop=stop, total_bytes=bytes_stop - bytes_start)
        for (start, bytes_start), (stop, bytes_stop) in pairwise(cuts)
    ]


class _Weights:
    """Cumulated weights of the rows of one interval: known at marks, read between two marks when asked for."""

    def __init__(self, interval: Interval, marks: Sequence[Mark], sizes: Sizes) -> None:
        self._start = interval.start
        self._sizes = sizes
        self.total = interval.total_bytes + OBJECT_WEIGHT_BYTES * (interval.stop - interval.start)
        inside = [mark for mark in marks if interval.start < mark.row < interval.stop]
        bytes_at_start = _bytes_before(interval.start, marks, sizes)
        self._rows = [interval.start, *(mark.row for mark in inside), interval.stop]
        self._at = [0, *(self._weigh(mark.row, mark.bytes_before - bytes_at_start) for mark in inside), self.total]
        self._segment = -1
        self._inside: list[int] = []

    def nearest(self, target: int, divisor: int) -> int:
        """Return the row with the weight before it nearest to `target / divisor`; of two, the first."""
        segment = min(bisect_right(self._at, target // divisor), len(self._at) - 1) - 1
        weights = self._load(segment)
        below = min(bisect_right(weights, target // divisor), len(weights) - 1) - 1
        nearer_above = weights[below + 1] * divisor - target < target - weights[below] * divisor
        return self._rows[segment] + below + nearer_above

    def bytes_before(self, row: int) -> int:
        """Return the bytes of the interval's rows before `row`."""
        segment = min(bisect_right(self._rows, row), len(self._rows) - 1) - 1
        weight = self._load(segment)[row - self._rows[segment]]
        return weight - OBJECT_WEIGHT_BYTES * (row - self._start)

    def _weigh(self, row: int, bytes_before: int) -> int:
        return bytes_before + OBJECT_WEIGHT_BYTES * (row - self._start)

    def _load(self, segment: int) -> list[int]:
        """Return the weights before each row of a segment, and at its end."""
        if segment != self._segment:
            sizes = self._sizes(self._rows[segment], self._rows[segment + 1]).to_pylist()
            self._inside = list(accumulate((size + OBJECT_WEIGHT_BYTES for size in sizes), initial=self._at[segment]))
            self._segment = segment
        return self._inside


def _bytes_before(row: int, marks: Sequence[Mark], sizes: Sizes) -> int:
    """Return the bytes of the manifest's rows before `row`."""
    mark = marks[bisect_right(marks, row, key=lambda mark: mark.row) - 1]
    return mark.bytes_before + (total(sizes(mark.row, row)) if mark.row < row else 0)
