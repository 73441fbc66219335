"""Record batches as `Row` objects, for code that looks at objects one by one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pyarrow as pa

from airflow_dataflux.core.model import EPOCH, Row
from airflow_dataflux.core.rowschema import ROW_SCHEMA


def rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    """Yield the rows of a batch in `ROW_SCHEMA`, at about 2 CPU-seconds per million."""
    # Microseconds, because Arrow's own conversion of a timestamp with a zone takes longer than all other columns.
    columns = [
        batch.column(field.name).view(pa.int64()) if field.name == "updated" else batch.column(field.name)
        for field in ROW_SCHEMA
    ]
    for name, size, generation, crc32c, storage_class, updated, content_type, content_encoding in zip(
        *(column.to_pylist() for column in columns), strict=True
    ):
        yield Row(
            name=name,
            size=size,
            generation=generation,
            crc32c=crc32c,
            storage_class=storage_class,
            updated=EPOCH + timedelta(microseconds=updated),
            content_type=content_type,
            content_encoding=content_encoding,
        )
