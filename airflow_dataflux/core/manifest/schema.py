"""The format of a manifest on disk: what a part file looks like, and how large its pieces are.

A part is a Parquet file with the columns of `ROW_SCHEMA`, sorted by name in UTF-8 byte order, names unique. The
encodings below were chosen by measurement (docs/reference/manifest-format.md has the table): about 0.2 CPU-seconds
and 16-34 MB per million rows. No statistics: the index knows the first and last name of each part, which is what
a reader needs.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from airflow_dataflux.core.arrow import ROW_SCHEMA, compute
from airflow_dataflux.core.errors import ManifestError

FORMAT = "dataflux-manifest/1"
"""Carried by the index and by every reference. A change that an old reader would misread needs another number."""

ROW_GROUP_ROWS = 2048
"""Rows encoded at once: with 64 writers up to 15 MB of rows wait in all; smaller groups cost CPU and bytes.

A group is cut where an appended batch ends, so it may have up to twice as many."""

ROW_GROUP_BYTES = 2 << 20
"""The same cap in bytes of Arrow memory, for long names."""

MARK_ROWS = 1000
"""Rows between two marks of the index, 50 KB of it per million rows: one page of a listing, so that the ranges of a
seeded listing can begin where pages began."""

PART_BYTES = 512 << 10
"""Encoded bytes at which a part is closed where each costs a request, and a writer's time until it is answered.

It is in memory until then, and 64 writers may be alive on a machine."""

LOCAL_PART_BYTES = 128 << 10
"""The same on a file system, where a part costs next to nothing. 10,000,000 rows by two processes with 32 writers each:
93 MB a process, 1.26 times as much as for 1,000,000; with 512 KiB and twice the rows waiting 120 MB, 1.58 times."""

PART_ROWS = 128 << 10
"""Rows at which a part is closed, however well they compress: a reader of a shard reads whole parts."""

PART_MOST_BYTES = 64 << 20
PART_MOST_ROWS = 1 << 20
GROUP_MOST_ROWS = 8 << 10
"""What a reader takes at most: several times what any writer of this format makes. What is larger is not a part, and
might not fit into memory."""

NAME_MOST_BYTES = 1024
"""Longest object name (https://cloud.google.com/storage/docs/objects#naming)."""

TEXT_MOST_BYTES = 8 << 10
"""Longest content type or encoding that is read: all custom metadata of an object may have 8 KiB
(https://cloud.google.com/storage/quotas#objects)."""

PARQUET_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "write_statistics": False,
    "store_schema": True,
    # Few distinct values. Everything else is distinct in nearly every row, where a dictionary is built in vain.
    "use_dictionary": ["storage_class", "content_type", "content_encoding"],
    "column_encoding": {
        "name": "DELTA_BYTE_ARRAY",  # sorted names share their beginnings
        "size": "DELTA_BINARY_PACKED",
        "generation": "DELTA_BINARY_PACKED",
        "updated": "DELTA_BINARY_PACKED",
    },
}


_REQUIRED_COLUMNS = tuple(number for number, field in enumerate(ROW_SCHEMA) if not field.nullable)


def check_rows(batch: pa.RecordBatch, after: str | None) -> None:
    """Check that `batch` is in `ROW_SCHEMA` and its names are unique, sorted and greater than `after`.

    Raises TypeError for another schema or missing values, and ManifestError for names out of order.
    """
    if not batch.schema.equals(ROW_SCHEMA):
        raise TypeError(f"Expected rows in ROW_SCHEMA, got {batch.schema}.")
    for number in _REQUIRED_COLUMNS:
        if batch.column(number).null_count:
            raise TypeError(f"Expected rows in ROW_SCHEMA, got rows without {ROW_SCHEMA.field(number).name}.")
    names = batch.column("name")
    if len(names) == 0:
        return
    first = names[0].as_py()
    if after is not None and first <= after:
        raise ManifestError(
            f"Rows are not sorted and unique by name: {first!r} comes after {after!r}.", names=[after, first]
        )
    ascending = compute("less", names[:-1], names[1:])
    if ascending.false_count:
        at = ascending.to_pylist().index(False)
        before, name = names[at].as_py(), names[at + 1].as_py()
        raise ManifestError(
            f"Rows are not sorted and unique by name: {name!r} comes after {before!r}.", names=[before, name]
        )
