"""Rows of a manifest for tests that only care about names and sizes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from airflow_dataflux.core.arrow import ROW_SCHEMA


def rows_of(sizes: dict[str, int]) -> Any:
    """Return rows of these names and sizes, in the order in which they stand."""
    count = len(sizes)
    return pa.record_batch(
        [
            list(sizes),
            list(sizes.values()),
            list(range(1, count + 1)),
            [7] * count,
            ["STANDARD"] * count,
            [datetime(2026, 11, 1, tzinfo=UTC)] * count,
            ["image/jpeg"] * count,
            [None] * count,
        ],
        schema=ROW_SCHEMA,
    )
