"""Names that divide a manifest's rows evenly: where the ranges of the next listing begin."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import pyarrow as pa

from airflow_dataflux.core.manifest.parts import Mark
from airflow_dataflux.core.manifest.schema import MARK_ROWS
from airflow_dataflux.core.manifest.shards import Interval

_ROWS_PER_MARK_NEEDED = 2 * MARK_ROWS
"""Ranges shorter than this would differ by half and more if they had to begin at a mark."""


def boundary_names(
    interval: Interval, count: int, marks: Sequence[Mark], names: Callable[[int, int], pa.Array]
) -> list[str]:
    """Return up to `count` names of rows inside `interval`, evenly spaced, ascending and unique; never its first row's.

    Args:
        interval: the rows to divide.
        count: boundaries wanted; there are fewer if there are not that many rows to begin at.
        marks: of the manifest, ascending.
        names: reads names by row; called only if the marks are too far apart.
    """
    rows = interval.stop - interval.start
    count = min(count, rows - 1)
    if count < 1:
        return []
    wanted = [interval.start + rows * k // (count + 1) for k in range(1, count + 1)]
    if rows // (count + 1) < _ROWS_PER_MARK_NEEDED:
        return [names(row, row + 1)[0].as_py() for row in wanted]
    inside = [mark for mark in marks if interval.start < mark.row < interval.stop]
    positions = [mark.row for mark in inside]
    chosen: dict[int, str] = {}
    for row in wanted:
        at = bisect_left(positions, row)
        nearest = min(inside[max(at - 1, 0) : at + 1], key=lambda mark: abs(mark.row - row))
        chosen[nearest.row] = nearest.name
    return list(chosen.values())
