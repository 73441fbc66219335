"""Names that divide a manifest's rows evenly: where the ranges of the next listing begin."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

import pyarrow as pa

from airflow_dataflux.core.manifest.parts import Mark
from airflow_dataflux.core.manifest.schema import MARK_ROWS
from airflow_dataflux.core.manifest.shards import Interval

_ROWS_PER_MARK_NEEDED = 2 * MARK_ROWS
"""Ranges shorter than this would differ by half and more if they had to begin at a mark."""


_FREEDOM = 4
"""A boundary may be this part of a range's rows away from its even place, if that spares a request."""


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
    reach = rows // (count + 1) // _FREEDOM
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


def _cost(row: int, before: int, wanted: int, page_rows: int) -> tuple[int, int]:
    """Judge a boundary: by the rows that are missing from the last page of the range before it, then by its place."""
    return ((before - row) % page_rows if page_rows > 1 else 0), abs(row - wanted)
