"""A manifest as a person looks at it: figures, a few rows from its ends, and those whose names begin with a prefix.

Whoever can push an XCom chooses the manifest, so neither it nor its parts are trusted. Guarantees: parts are read only
below the manifest's own directory, or from a bucket with the task's own connection; no more than a few parts are read
for a page, each within the bounds of `documents`; a part that cannot be read is a sentence on the page.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_dataflux.core.errors import DatafluxError, ManifestError
from airflow_dataflux.core.manifest.bucket_files import check_size
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.index import Index, decode_index
from airflow_dataflux.core.manifest.location import Location, manifest_location, parse_location
from airflow_dataflux.core.manifest.reader import PartedRows
from airflow_dataflux.plugin.documents import DocumentUnavailableError, read_file

if TYPE_CHECKING:
    from airflow_dataflux.core.gcs.store import Store

SHOWN_ROWS = 20
"""From each end of a manifest."""

FOUND_ROWS = 200
"""Rows that a search shows at most."""

_PARQUET_BEGINS = b"PAR1"


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestView:
    """What the page shows.

    Attributes:
        uri: of the manifest's directory.
        index: what is known without reading rows.
        columns: name and type of each column of the rows.
        prefix: what was searched for; empty for none.
        found: rows whose names begin with it, the first `FOUND_ROWS`.
        more: whether there are more of these.
        first, last: rows of a page without a search; `last` has none of `first`.
        problem: why rows are missing, empty if none are.
    """

    uri: str
    index: Index
    columns: tuple[tuple[str, str], ...]
    prefix: str
    found: tuple[dict[str, Any], ...] = ()
    more: bool = False
    first: tuple[dict[str, Any], ...] = ()
    last: tuple[dict[str, Any], ...] = ()
    problem: str = ""


def read_manifest(data: bytes, uri: str, prefix: str, open_store: Callable[[], Store]) -> ManifestView:
    """Return what is shown of the manifest whose index, at `uri`, has the bytes `data`.

    Raises DocumentUnavailableError if the index is damaged.
    """
    from airflow_dataflux.core.arrow import ROW_SCHEMA

    place = manifest_location(uri)
    try:
        index = decode_index(data, uri)
    except ManifestError as error:
        raise DocumentUnavailableError(error.message) from error
    columns = tuple((field.name, str(field.type)) for field in ROW_SCHEMA)
    with ExitStack() as closing_store:
        store = closing_store.enter_context(closing(open_store())) if place.scheme == "gs" else None
        source = PartedRows(_OwnParts(place, store), place.uri, index)
        try:
            if prefix:
                found = tuple(islice(_beginning_with(source, index, prefix), FOUND_ROWS + 1))
                shown, more = found[:FOUND_ROWS], len(found) > FOUND_ROWS
                return ManifestView(uri=place.uri, index=index, columns=columns, prefix=prefix, found=shown, more=more)
            count = source.object_count
            first = tuple(_rows(source, 0, min(SHOWN_ROWS, count)))
            last = tuple(_rows(source, max(SHOWN_ROWS, count - SHOWN_ROWS), count))
        except (DatafluxError, OSError) as error:
            problem = error.message if isinstance(error, DatafluxError) else "A part could not be read from here."
            return ManifestView(uri=place.uri, index=index, columns=columns, prefix=prefix, problem=problem)
    return ManifestView(uri=place.uri, index=index, columns=columns, prefix="", first=first, last=last)


def _rows(source: PartedRows, start: int, stop: int) -> Iterator[dict[str, Any]]:
    for batch in source.batches(start, stop):
        yield from batch.to_pylist()


def _beginning_with(source: PartedRows, index: Index, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield the rows whose names begin with `prefix`: they are neighbours, since names are sorted."""
    part = bisect_left([part.last_name for part in index.parts], prefix)
    start = sum(one.object_count for one in index.parts[:part])
    for row in _rows(source, start, source.object_count):
        if row["name"].startswith(prefix):
            yield row
        elif row["name"] > prefix:
            return


class _OwnParts(ManifestFiles):
    """Reads the parts of one manifest, and no file that is none of it."""

    def __init__(self, place: Location, store: Store | None) -> None:
        super().__init__(store)
        self._place = place
        self._store_of_task = store

    def read(self, uri: str, *, most_bytes: int | None = None) -> bytes:
        location = parse_location(uri)
        below = location.uri.startswith(f"{self._place.uri}/")
        if location.scheme != self._place.scheme or not (below or location.scheme == "gs"):
            raise DocumentUnavailableError(
                f"Its rows lie in {location.uri}, outside the manifest's own directory, so they are not shown here."
            )
        data = read_file(location, _PARQUET_BEGINS, self._store_of_task)
        check_size(location, len(data), most_bytes)
        return data
