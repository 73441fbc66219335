"""Making a manifest: of parts that were written, or of rows held in memory.

Guarantees: the index is written after every part, in one atomic write, so a manifest appears whole or not at all; what
replaces an earlier manifest deletes the parts of *that manifest's own index* and the page about its listing, after the
new index is in place, and nothing else. Parts of a listing that died are in no index: they are never read and never
deleted here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from airflow_dataflux.core.errors import DatafluxError, ManifestError
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.index import Index, build_index, encode_index, read_index
from airflow_dataflux.core.manifest.inlining import collect, inline_index
from airflow_dataflux.core.manifest.location import INDEX_NAME, REPORT_NAME, join_uri, manifest_location
from airflow_dataflux.core.manifest.manifest import Manifest
from airflow_dataflux.core.manifest.parts import PartInfo
from airflow_dataflux.core.manifest.reader import InlineRows, PartedRows
from airflow_dataflux.core.namerange import NameRange

_logger = logging.getLogger(__name__)


def publish(
    files: ManifestFiles,
    *,
    manifest_uri: str,
    bucket: str,
    prefixes: Sequence[str],
    parts: Sequence[PartInfo],
    listed_at: datetime,
    stats: Mapping[str, Any],
    request: object,
    name_range: NameRange | None = None,
) -> Manifest:
    """Write the index over `parts` and return the manifest.

    Args:
        files: where to write.
        manifest_uri: directory of the manifest; an earlier manifest there is replaced.
        bucket: bare name of the bucket that was listed.
        prefixes: prefixes that were listed.
        parts: all parts, in any order; none for an empty listing.
        listed_at: start of the listing, aware.
        stats: JSON-safe; travels in every whole reference, so keep it below about 1 KB.
        request: what was asked for: a JSON-safe mapping or a dataclass; kept in the index only.
        name_range: the only names that were listed; None: all.

    Raises ManifestError if parts overlap, and what writing raises: there is no new manifest then, and an earlier one
    is untouched. What cannot be deleted of the earlier manifest is logged as a warning by its URI.
    """
    directory = manifest_location(manifest_uri).uri
    index = build_index(
        bucket=bucket,
        prefixes=prefixes,
        parts=parts,
        listed_at=listed_at,
        stats=stats,
        request=request,
        name_range=name_range,
    )
    replaced = _earlier_files(files, directory)
    files.write(join_uri(directory, INDEX_NAME), encode_index(index))
    kept = {part.path for part in index.parts}
    _delete(files, directory, [path for path in replaced if path not in kept])
    return Manifest(index=index, source=PartedRows(files, directory, index), uri=directory, shard=None)


def inline(
    bucket: str,
    prefixes: Sequence[str],
    batches: Iterable[pa.RecordBatch],
    *,
    listed_at: datetime,
    stats: Mapping[str, Any],
    request: object = None,
    name_range: NameRange | None = None,
) -> Manifest:
    """Return a manifest that holds its rows itself, for listings small enough for XCom.

    Args:
        bucket: bare name of the bucket that was listed.
        prefixes: prefixes that were listed.
        batches: rows in `ROW_SCHEMA`; each batch sorted, and no two overlapping, in any order.
        listed_at: start of the listing, aware.
        stats: JSON-safe; travels in every reference.
        request: as for `publish`; not kept by references.
        name_range: as for `publish`.

    Raises ManifestTooLargeError as soon as the rows exceed `INLINE_MAX_BYTES`, ManifestError if they overlap.
    """
    rows = collect(batches)
    index = inline_index(
        rows,
        bucket=bucket,
        prefixes=prefixes,
        listed_at=listed_at,
        stats=stats,
        request=request or {},
        name_range=name_range,
    )
    return Manifest(index=index, source=InlineRows(rows), uri=None, shard=None)


def _earlier_files(files: ManifestFiles, directory: str) -> list[str]:
    """Return the paths of what belongs to the manifest that is there now, but for its index: none if there is none."""
    try:
        earlier: Index = read_index(files, directory)
    except ManifestError:
        # Missing or damaged: then nothing says which files are its own, and nothing is deleted.
        return []
    # Only files directly in the directory: what a join took over from elsewhere belongs to another manifest.
    return [*(part.path for part in earlier.parts if "/" not in part.path), REPORT_NAME]


def _delete(files: ManifestFiles, directory: str, paths: Sequence[str]) -> None:
    for path in paths:
        uri = join_uri(directory, path)
        try:
            files.delete(uri)
        except (DatafluxError, OSError) as error:
            _logger.warning("Could not delete %s, which belonged to the manifest that was replaced: %s", uri, error)
