"""The per-object state that a receipt keeps: the manifest's rows, what became of each, and what stays beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from airflow_dataflux.core.arrowcompute import without_prefix
from airflow_dataflux.core.arrowvalues import column
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.staging.receipt import EXTRANEOUS, STATE_SCHEMA
from airflow_dataflux.core.staging.reuse import EarlierObject
from airflow_dataflux.core.staging.survey import ObjectStates


def final_states(
    manifest: Manifest, states: ObjectStates, strip_prefix: str, kept: list[EarlierObject]
) -> Iterator[pa.RecordBatch]:
    """Yield the state of all objects in `STATE_SCHEMA`, sorted by path; `kept` (sorted) are extraneous files."""
    first = 0
    waiting = kept
    for rows in manifest.batches():
        names = rows["name"]
        paths = without_prefix(names, strip_prefix)
        status, mtime_ns, inode = states.columns(first, rows.num_rows)
        columns = [paths, names, rows["size"], rows["generation"], rows["crc32c"], status, mtime_ns, inode]
        batch = pa.record_batch(columns, schema=STATE_SCHEMA)
        first += rows.num_rows
        last = paths[-1].as_py()
        before = [one for one in waiting if one.path < last] if waiting else []
        if not before:
            yield batch
            continue
        waiting = waiting[len(before) :]
        merged = pa.Table.from_batches([batch, _extraneous(before)]).sort_by("path").combine_chunks()
        yield from merged.to_batches()
    if waiting:
        yield _extraneous(waiting)


def _extraneous(files: list[EarlierObject]) -> pa.RecordBatch:
    columns = [[getattr(one, field.name) for one in files] for field in STATE_SCHEMA]
    columns[STATE_SCHEMA.get_field_index("status")] = [EXTRANEOUS] * len(files)
    return pa.record_batch(
        [column(values, field.type) for values, field in zip(columns, STATE_SCHEMA, strict=True)],
        schema=STATE_SCHEMA,
    )
