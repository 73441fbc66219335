"""Inline manifests: the rows in the reference itself, for listings small enough for XCom.

An object is a list in the order of `OBJECT_COLUMNS`, which is that of `ROW_SCHEMA`, with `updated` as whole
microseconds since 1970-01-01 UTC. Everything is a JSON string, a JSON integer below 2**63, or null.

Guarantees: what is collected never exceeds `INLINE_MAX_BYTES` of JSON; the batch that would exceed it raises, so
a listing too large for XCom ends as soon as that is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from airflow_dataflux.core.arrow import ROW_SCHEMA, column, total
from airflow_dataflux.core.errors import InvalidRequestError, ManifestError, ManifestTooLargeError
from airflow_dataflux.core.manifest.fingerprint import Digest
from airflow_dataflux.core.manifest.index import Index, request_as_read
from airflow_dataflux.core.manifest.schema import FORMAT, check_rows
from airflow_dataflux.core.namerange import NameRange

INLINE_MAX_BYTES = 256 << 10
"""Most JSON bytes of objects in a reference: XCom is a database row, and 1 MB takes 0.2 s to push."""

OBJECT_COLUMNS = tuple(ROW_SCHEMA.names)
"""Order of the values of one object in a reference."""


def check_inline_bytes(inline_bytes: int) -> None:
    """Raise ManifestTooLargeError once the rows kept so far cannot fit into a reference."""
    if inline_bytes > INLINE_MAX_BYTES:
        raise ManifestTooLargeError(
            f"The listing does not fit into XCom: what was listed so far takes at least {inline_bytes} bytes, "
            f"at most {INLINE_MAX_BYTES} are allowed. Set manifest_uri (gs://…, file://… or any fsspec path) to write "
            "the manifest there and pass only a reference.",
            limit_bytes=INLINE_MAX_BYTES,
        )


def encode_objects(rows: pa.RecordBatch) -> list[list[Any]]:
    """Return the rows as JSON-safe lists in the order of `OBJECT_COLUMNS`."""
    columns = [
        rows.column(field.name).view(pa.int64()).to_pylist()
        if field.name == "updated"
        else rows.column(field.name).to_pylist()
        for field in ROW_SCHEMA
    ]
    return [list(values) for values in zip(*columns, strict=True)]


def decode_objects(objects: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Undo encode_objects. Raises InvalidRequestError for anything else."""
    try:
        columns = list(zip(*objects, strict=True)) or [()] * len(OBJECT_COLUMNS)
        arrays = [column(values, field.type) for field, values in zip(ROW_SCHEMA, columns, strict=True)]
        rows = pa.record_batch(arrays, schema=ROW_SCHEMA)
        rows.validate(full=True)
        check_rows(rows, None)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, ManifestError) as error:
        raise InvalidRequestError(
            f'The "objects" of this manifest reference are damaged ({error}). Each must be a list of '
            f"{', '.join(OBJECT_COLUMNS)}, sorted by name.",
        ) from error
    return rows


def json_bytes(rows: pa.RecordBatch) -> int:
    """Return how many bytes the rows take in a reference, as Airflow's JSON encoder writes it."""
    return len(json.dumps(encode_objects(rows)))


class InlineCollector:
    """Collects the rows of a small listing, from any number of name ranges, in any order of batches.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0
        self._object_count = 0

    @property
    def object_count(self) -> int:
        """Rows appended so far."""
        return self._object_count

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows in `ROW_SCHEMA`, sorted in themselves.

        Raises ManifestTooLargeError, before adding anything, if the rows so far would not fit into a reference.
        """
        check_rows(batch, None)
        if batch.num_rows == 0:
            return
        self._bytes += json_bytes(batch)
        self._object_count += batch.num_rows
        if self._bytes > INLINE_MAX_BYTES:
            raise ManifestTooLargeError(
                f"The listing does not fit into XCom: {self._object_count} objects so far take {self._bytes} bytes of "
                f"JSON, at most {INLINE_MAX_BYTES} are allowed. Set manifest_uri (gs://…, file://… or any fsspec path) "
                "to write the manifest there and pass only a reference.",
                object_count=self._object_count,
                limit_bytes=INLINE_MAX_BYTES,
            )
        self._batches.append(batch)

    def rows(self) -> pa.RecordBatch:
        """Return all rows as one batch, sorted. Raises ManifestError if batches overlap."""
        ordered = sorted(self._batches, key=lambda batch: batch.column("name")[0].as_py())
        table = pa.Table.from_batches(ordered, ROW_SCHEMA).combine_chunks()
        rows = table.to_batches()[0] if table.num_rows else pa.record_batch(_empty_columns(), schema=ROW_SCHEMA)
        check_rows(rows, None)
        return rows


def inline_index(
    rows: pa.RecordBatch,
    *,
    bucket: str,
    prefixes: Sequence[str],
    listed_at: datetime,
    stats: Mapping[str, Any],
    request: object,
    name_range: NameRange | None = None,
) -> Index:
    """Describe rows that no part holds. Raises InvalidRequestError if `listed_at` has no time zone."""
    if listed_at.tzinfo is None:
        raise InvalidRequestError(f"listed_at needs a time zone, got {listed_at.isoformat()}.")
    return Index(
        format=FORMAT,
        bucket=bucket,
        prefixes=tuple(prefixes),
        object_count=rows.num_rows,
        total_bytes=total(rows.column("size")),
        fingerprint=Digest().extend(rows).fingerprint(),
        listed_at=listed_at,
        request=request_as_read(request),
        stats=dict(stats),
        name_range=name_range,
    )


def collect(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """Return all rows of `batches` as one batch, sorted. Raises ManifestTooLargeError and ManifestError."""
    collector = InlineCollector()
    for batch in batches:
        collector.append(batch)
    return collector.rows()


def _empty_columns() -> list[pa.Array]:
    return [pa.nulls(0, field.type) for field in ROW_SCHEMA]
