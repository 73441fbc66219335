"""Dividing rows: shards of nearly equal bytes, and names where the ranges of the next listing begin. Pure arithmetic.

A row weighs its bytes plus `OBJECT_WEIGHT_BYTES`. The k-th of n cuts lies at the row whose cumulated weight is nearest
to k/n of all, so a shard differs from the n-th part by at most one row's weight, unless fewer bytes than shards force
single rows. Guarantees: shards are contiguous, cover the interval, are never empty, and depend on nothing but the rows
and n. Cost: only rows between two marks are read, for each cut.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import msgspec
import pyarrow as pa

from airflow_dataflux.core.arrow import total
from airflow_dataflux.core.manifest.parts import Mark
from airflow_dataflux.core.manifest.schema import MARK_ROWS

OBJECT_WEIGHT_BYTES = 4096
"""What an object weighs beside its bytes: the block that even an empty file takes on a usual file system."""

_ROWS_PER_MARK_NEEDED = 2 * MARK_ROWS
"""Ranges shorter than this would differ by half and more if they had to begin at a mark."""

_SHIFT_DIVISOR = 4
"""A boundary may be this part of a range's rows away from its even place, if that spares a request."""

Sizes = Callable[[int, int], pa.Array]
"""Reads the sizes of the rows `[start, stop)`."""


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """Which piece of a manifest a shard is.

    Attributes:
        index: from 0.
        count: pieces in all.
        object_count, total_bytes: of this piece.
        start: position of its first row in the whole manifest.
    """

    index: int
    count: int
    object_count: int
    total_bytes: int
    start: int


class Interval(msgspec.Struct, frozen=True, kw_only=True):
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


def boundary_names(
    interval: Interval, count: int, marks: Sequence[Mark], names: Callable[[int, int], pa.Array], *, page_rows: int = 1
) -> list[str]:
    """Return up to `count` names of rows inside `interval`, evenly spaced, ascending and unique; never its first row's.

    Args:
        interval: the rows to divide.
        count: boundaries wanted; there are fewer if there are not that many rows to begin at.
        marks: of the manifest, ascending.
        names: reads names by row; called only if the marks are too far apart.
        page_rows: prefer ranges of a multiple of so many rows: a range whose last page is short costs a request more.
    """
    rows = interval.stop - interval.start
    count = min(count, (rows - 1) // page_rows)
    if count < 1:
        return []
    wanted = [interval.start + rows * k // (count + 1) for k in range(1, count + 1)]
    if rows // (count + 1) < _ROWS_PER_MARK_NEEDED:
        whole = {interval.start + max(1, (row - interval.start) // page_rows) * page_rows for row in wanted}
        return [names(row, row + 1)[0].as_py() for row in sorted(whole)]
    inside = [mark for mark in marks if interval.start < mark.row < interval.stop]
    positions = [mark.row for mark in inside]
    reach = rows // (count + 1) // _SHIFT_DIVISOR
    chosen: dict[int, str] = {}
    before = interval.start
    for row in wanted:
        at = bisect_left(positions, row)
        first = min(max(at - 1, 0), bisect_left(positions, row - reach))
        near = inside[first : max(at + 1, bisect_right(positions, row + reach))]
        best = min(near, key=lambda mark: _cost(mark.row, before, row, page_rows))
        chosen[best.row] = best.name
        before = best.row
    return [chosen[row] for row in sorted(chosen)]


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


def _cost(row: int, before: int, wanted: int, page_rows: int) -> tuple[int, int]:
    """Judge a boundary: by the rows that are missing from the last page of the range before it, then by its place."""
    return ((before - row) % page_rows if page_rows > 1 else 0), abs(row - wanted)
