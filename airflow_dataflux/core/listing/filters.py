"""Filters that the server does not apply, one vectorised pass a filter, with what each dropped counted.

A row that several filters would drop counts for the first of them, in the order of `Filters`' attributes, so that
kept and dropped rows add up to the rows listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import pyarrow as pa

from airflow_dataflux.core.arrowcompute import compute, ends_with, is_in
from airflow_dataflux.core.arrowvalues import column, number
from airflow_dataflux.core.config import Filters
from airflow_dataflux.core.model import EPOCH
from airflow_dataflux.core.rowschema import ROW_SCHEMA

_ZERO = number(0, pa.int64())

_Mask = Callable[[pa.RecordBatch], pa.Array]


class RowFilter:
    """The client's part of `filters`. Not thread-safe: one for each range.

    Attributes:
        dropped: rows dropped so far, by the name of the filter.
    """

    def __init__(self, filters: Filters) -> None:
        self.dropped: Counter[str] = Counter()
        self._masks = _masks(filters)

    def apply(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows that pass all filters."""
        for name, mask in self._masks:
            if rows.num_rows == 0:
                return rows
            kept = mask(rows)
            dropped = len(kept) - kept.true_count
            if dropped:
                self.dropped[name] += dropped
                rows = compute("filter", rows, kept)
        return rows


def _masks(filters: Filters) -> list[tuple[str, _Mask]]:
    masks: list[tuple[str, _Mask]] = []
    if filters.storage_classes is not None:
        classes = column(sorted(filters.storage_classes), pa.string())
        masks.append(("storage_classes", lambda rows: is_in(rows.column("storage_class"), classes)))
    for name, of, bound, comparison in (
        ("updated_after", "updated", filters.updated_after, "greater_equal"),
        ("updated_before", "updated", filters.updated_before, "less"),
        ("min_bytes", "size", filters.min_bytes, "greater_equal"),
        ("max_bytes", "size", filters.max_bytes, "less_equal"),
    ):
        if bound is not None:
            masks.append((name, _comparison(of, bound, comparison)))
    if not filters.include_placeholders:
        masks.append(("include_placeholders", _not_placeholder))
    return masks


def _comparison(name: str, bound: int | datetime, comparison: str) -> _Mask:
    value = bound if isinstance(bound, int) else (bound - EPOCH) // timedelta(microseconds=1)
    scalar = number(value, ROW_SCHEMA.field(name).type)
    return lambda rows: compute(comparison, rows.column(name), scalar)


def _not_placeholder(rows: pa.RecordBatch) -> pa.Array:
    full = compute("not_equal", rows.column("size"), _ZERO)
    if not full.false_count:
        return full
    return compute("or", full, compute("invert", ends_with(rows.column("name"), "/")))
