"""Rows and manifests for the manifest tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from airflow_dataflux.core.arrow import ROW_SCHEMA
from airflow_dataflux.core.manifest import Manifest, ManifestFiles, PartInfo, PartWriter, publish

LISTED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def batch(names: Sequence[str], *, sizes: Sequence[int] | None = None, generations: Sequence[int] | None = None) -> Any:
    """Rows with the given names; whatever is not given differs from row to row."""
    count = len(names)
    return pa.record_batch(
        [
            pa.array(names, pa.string()),
            pa.array(sizes if sizes is not None else [100 + number for number in range(count)], pa.int64()),
            pa.array(generations if generations is not None else [10**15 + 7 * n for n in range(count)], pa.int64()),
            pa.array([None if number % 5 == 4 else number * 977 for number in range(count)], pa.uint32()),
            pa.array(["STANDARD" if number % 3 else "NEARLINE" for number in range(count)], pa.string()),
            pa.array([1_700_000_000_123_456 + number for number in range(count)], pa.timestamp("us", tz="UTC")),
            pa.array([None if number % 4 == 3 else "image/jpeg" for number in range(count)], pa.string()),
            pa.array(["gzip" if number % 7 == 6 else None for number in range(count)], pa.string()),
        ],
        schema=ROW_SCHEMA,
    )


def numbered(count: int, *, start: int = 0) -> Any:
    """The rows `[start, start + count)` of one endless listing."""
    return batch([f"train/{number:08d}.jpg" for number in range(start + count)]).slice(start)


def write_parts(
    files: ManifestFiles, uri: str, pieces: Iterable[Any], *, prefix: str = "run", **caps: int
) -> list[PartInfo]:
    """One writer per piece, as if each piece were a name range of its own."""
    parts: list[PartInfo] = []
    for number, piece in enumerate(pieces):
        writer = PartWriter(files, uri, f"{prefix}-{number}", **caps)
        writer.append(piece)
        parts += writer.finish()
    return parts


def publish_rows(
    uri: str | Path, pieces: Iterable[Any], *, files: ManifestFiles | None = None, **more: Any
) -> Manifest:
    """A published manifest with one writer per piece."""
    files = files or ManifestFiles()
    stats = more.pop("stats", {"requests": 3})
    name_range = more.pop("name_range", None)
    parts = write_parts(files, str(uri), pieces, **more)
    return publish(
        files,
        manifest_uri=str(uri),
        bucket="a-bucket",
        prefixes=["train/"],
        parts=parts,
        listed_at=LISTED_AT,
        stats=stats,
        request={"bucket": "a-bucket"},
        name_range=name_range,
    )
