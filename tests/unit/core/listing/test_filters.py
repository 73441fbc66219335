"""What each filter keeps, and that nothing is dropped without being counted."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from airflow_dataflux.core.config import Filters
from airflow_dataflux.core.listing.filters import RowFilter
from airflow_dataflux.core.rowschema import ROW_SCHEMA

_DAY = [datetime(2024, 1, day, tzinfo=UTC) for day in range(1, 6)]


def _rows() -> pa.RecordBatch:
    rows = [
        {"name": "a", "size": 0, "storage_class": "STANDARD", "updated": _DAY[0]},
        {"name": "b/", "size": 0, "storage_class": "STANDARD", "updated": _DAY[1]},
        {"name": "c", "size": 10, "storage_class": "NEARLINE", "updated": _DAY[2]},
        {"name": "d/", "size": 20, "storage_class": "STANDARD", "updated": _DAY[3]},
    ]
    return pa.RecordBatch.from_pylist([{**row, "generation": 1, "crc32c": None} for row in rows], schema=ROW_SCHEMA)


@pytest.mark.parametrize(
    ("filters", "kept", "dropped"),
    [
        (Filters(), ["a", "c", "d/"], {"include_placeholders": 1}),
        (Filters(include_placeholders=True), ["a", "b/", "c", "d/"], {}),
        (Filters(storage_classes=frozenset({"NEARLINE"})), ["c"], {"storage_classes": 3}),
        (
            Filters(updated_after=_DAY[1], updated_before=_DAY[3], include_placeholders=True),
            ["b/", "c"],
            {"updated_after": 1, "updated_before": 1},
        ),
        (Filters(min_bytes=10, max_bytes=10), ["c"], {"min_bytes": 2, "max_bytes": 1}),
    ],
)
def test_rows_are_kept_or_counted(filters: Filters, kept: list[str], dropped: dict[str, int]) -> None:
    row_filter = RowFilter(filters)
    assert row_filter.apply(_rows()).column("name").to_pylist() == kept
    assert dict(row_filter.dropped) == dropped


def test_a_page_without_rows_passes() -> None:
    assert RowFilter(Filters()).apply(_rows().slice(0, 0)).num_rows == 0
