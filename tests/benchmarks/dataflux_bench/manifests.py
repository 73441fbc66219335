"""Manifests of data sets, written without a listing: what a staging gets, and what seeds a listing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from airflow_dataflux.core.arrow import ROW_SCHEMA
from airflow_dataflux.core.manifest import ManifestFiles, PartWriter, publish
from dataflux_bench.server.dataset import CHUNK, Dataset

_FROM = datetime(2024, 1, 1, tzinfo=UTC)


def write_manifest(dataset: Dataset, *, bucket: str, uri: str) -> dict[str, Any]:
    """Write the manifest of a data set and return its reference."""
    files = ManifestFiles()
    writer = PartWriter(files, uri, "benchmark")
    for batch in _batches(dataset):
        writer.append(batch)
    manifest = publish(
        files,
        manifest_uri=uri,
        bucket=bucket,
        prefixes=[""],
        parts=writer.finish(),
        listed_at=_FROM,
        stats={},
        request={},
    )
    return manifest.reference()


def _batches(dataset: Dataset) -> Iterator[pa.RecordBatch]:
    for first in range(0, dataset.count, CHUNK):
        names = [name.decode() for name in dataset.names(first, min(first + CHUNK, dataset.count))]
        last = first + len(names)
        indices = range(first, last)
        yield pa.RecordBatch.from_pydict(
            {
                "name": names,
                "size": dataset.sizes[first:last],
                "generation": [dataset.generation(index) for index in indices],
                "crc32c": dataset.checksums[first:last],
                "storage_class": ["STANDARD"] * len(names),
                "updated": [_FROM + timedelta(milliseconds=index) for index in indices],
                "content_type": ["application/octet-stream"] * len(names),
                "content_encoding": [None] * len(names),
            },
            schema=ROW_SCHEMA,
        )
