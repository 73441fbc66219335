"""Reading rows back, by row interval, verified against the index.

Guarantees: rows come sorted and unique; every part is the very file that the index describes (length and hash), holds
the rows it counts, and, where it is read whole, has their digest; memory is at most five parts (about half a MiB each)
and one row group, whatever the manifest's size. A missing, truncated or foreign part is an error that names it, never a
shorter listing.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from airflow_dataflux.core.arrow import ROW_SCHEMA, compute, total
from airflow_dataflux.core.errors import ManifestChangedError, ManifestError, ManifestNotFoundError
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.fingerprint import Digest
from airflow_dataflux.core.manifest.index import Index, read_index
from airflow_dataflux.core.manifest.location import join_uri
from airflow_dataflux.core.manifest.parts import Mark, PartInfo
from airflow_dataflux.core.manifest.schema import (
    GROUP_MOST_ROWS,
    MARK_ROWS,
    NAME_MOST_BYTES,
    PART_MOST_BYTES,
    TEXT_MOST_BYTES,
    check_rows,
)
from airflow_dataflux.core.runtime.threads import ThreadPool

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile


_MOST_TEXT_BYTES = {
    field.name: NAME_MOST_BYTES if field.name == "name" else TEXT_MOST_BYTES
    for field in ROW_SCHEMA
    if field.type == pa.string()
}

_BATCH_MOST_BYTES = 128 << 20
"""What rows that are decoded at once may become at worst, a column."""

_PARTS_AHEAD = 4
"""Parts fetched ahead from afar: 20-100 ms of latency each, against about 8 ms to decode one."""


class RowSource(Protocol):
    """The rows of a whole manifest, wherever they are. Row positions count from 0; intervals are half-open."""

    @property
    def object_count(self) -> int:
        """Rows in all."""
        ...

    def batches(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows `[start, stop)` in `ROW_SCHEMA`, sorted, in batches that are not empty."""
        ...

    def marks(self) -> Sequence[Mark]:
        """Return remembered rows, ascending, the first at 0, at most `MARK_ROWS` apart; empty without rows."""
        ...

    def columns(self, column: str) -> Callable[[int, int], pa.Array]:
        """Return a function that reads one column of the rows `[start, stop)`; cheap for ascending, near intervals."""
        ...


class PartedRows:
    """Rows in part files.

    Args:
        files: where to read.
        uri: the manifest's directory.
        index: its index.
    """

    def __init__(self, files: ManifestFiles, uri: str, index: Index) -> None:
        self._files = files
        self._uri = uri
        self._index = index
        self._starts = [0, *accumulate(part.object_count for part in index.parts)]

    @property
    def object_count(self) -> int:
        """Rows in all."""
        return self._starts[-1]

    def marks(self) -> Sequence[Mark]:
        """Return the marks of all parts, with positions and bytes counted from the manifest's first row."""
        marks: list[Mark] = []
        bytes_before = 0
        for start, part in zip(self._starts, self._index.parts, strict=False):
            if not part.marks or part.marks[0].row != 0:  # another writer of the format may keep fewer marks
                marks.append(Mark(start, bytes_before, part.first_name))
            marks += [Mark(start + mark.row, bytes_before + mark.bytes_before, mark.name) for mark in part.marks]
            bytes_before += part.total_bytes
        return marks

    def batches(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows `[start, stop)`, one batch per row group.

        Raises ManifestError for a missing, truncated or foreign part, ManifestChangedError if the manifest was
        replaced meanwhile.
        """
        last_name: str | None = None
        wanted = [number for number in range(len(self._index.parts)) if self._overlaps(number, start, stop)]
        for number, data in self._ahead(wanted):
            part, offset = self._index.parts[number], self._starts[number]
            first, end = max(start - offset, 0), min(stop - offset, part.object_count)
            digest = Digest() if (first, end) == (0, part.object_count) else None
            for batch in self._part_rows(part, data, first, end):
                check_rows(batch, last_name)
                last_name = batch.column("name")[-1].as_py()
                if digest is not None:
                    digest = digest.extend(batch)
                yield batch
            if digest is not None and digest.to_text() != part.digest:
                raise self._wrong_part(part, "its rows do not have the digest that the index states")

    def columns(self, column: str) -> Callable[[int, int], pa.Array]:
        """Return a reader of one column that keeps the part it read last."""
        kept: dict[int, ParquetFile] = {}

        def read(start: int, stop: int) -> pa.Array:
            pieces = []
            while start < stop:
                number = bisect_right(self._starts, start) - 1
                if number not in kept:
                    kept.clear()
                    kept[number] = self._open(self._index.parts[number], self._data(number))
                offset, end = self._starts[number], min(stop, self._starts[number + 1])
                try:
                    for group, first, last in _overlapping_groups(kept[number], start - offset, end - offset):
                        values = _read_group(kept[number], group, [column]).column(0)
                        pieces.append(values.combine_chunks().slice(first, last - first))
                except (pa.ArrowException, OSError, _OversizedError) as error:
                    raise self._wrong_part(self._index.parts[number], f"its rows cannot be read ({error})") from error
                start = end
            return pa.chunked_array(pieces).combine_chunks()

        return read

    def _overlaps(self, number: int, start: int, stop: int) -> bool:
        return self._starts[number] < stop and start < self._starts[number + 1]

    def _ahead(self, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield each part's bytes; from afar, the next parts are fetched while this one is decoded."""
        if self._uri.startswith("file://") or len(numbers) < 2:
            yield from ((number, self._data(number)) for number in numbers)
            return
        with ThreadPool(_PARTS_AHEAD, "manifest-reader") as fetchers:
            coming: deque[tuple[int, Future[bytes]]] = deque()
            try:
                for number in numbers:
                    coming.append((number, fetchers.submit(self._data, number)))
                    if len(coming) > _PARTS_AHEAD:
                        first, data = coming.popleft()
                        yield first, data.result()
                while coming:
                    first, data = coming.popleft()
                    yield first, data.result()
            finally:
                for _number, unwanted in coming:
                    unwanted.cancel()

    def _data(self, number: int) -> bytes:
        """Return a part's verified bytes."""
        part = self._index.parts[number]
        try:
            data = self._files.read(join_uri(self._uri, part.path), most_bytes=PART_MOST_BYTES)
        except FileNotFoundError as error:
            raise self._wrong_part(part, "it does not exist") from error
        if len(data) != part.file_bytes:
            raise self._wrong_part(part, f"it has {len(data)} bytes, expected {part.file_bytes}")
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise self._wrong_part(part, "its content does not have the hash that the index states")
        return data

    def _open(self, part: PartInfo, data: bytes) -> ParquetFile:
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:
            raise self._wrong_part(part, f"it is no Parquet file ({error})") from error
        if file.metadata.num_rows != part.object_count:
            raise self._wrong_part(part, f"it has {file.metadata.num_rows} rows, expected {part.object_count}")
        if not file.schema_arrow.equals(ROW_SCHEMA):
            raise self._wrong_part(part, "its columns are not those of a manifest")
        return file

    def _part_rows(self, part: PartInfo, data: bytes, first: int, end: int) -> Iterator[pa.RecordBatch]:
        file = self._open(part, data)
        try:
            for group, start, stop in _overlapping_groups(file, first, end):
                yield from _read_group(file, group).slice(start, stop - start).to_batches()
        except (pa.ArrowException, OSError, _OversizedError) as error:
            raise self._wrong_part(part, f"its rows cannot be read ({error})") from error

    def _wrong_part(self, part: PartInfo, finding: str) -> ManifestError:
        """Return the error for a part that is not what the index says; a replaced manifest is the usual cause."""
        uri = join_uri(self._uri, part.path)
        try:
            current = read_index(self._files, self._uri).parts
        except ManifestNotFoundError:
            return ManifestNotFoundError(
                f"The manifest at {self._uri} was deleted while it was read: {uri} and the index are gone.",
                uri=self._uri,
            )
        except ManifestError:
            current = self._index.parts
        if current != self._index.parts:
            return ManifestChangedError(
                f"The manifest at {self._uri} was replaced while it was read ({uri}: {finding}). Read it again, and "
                "give each run a manifest_uri of its own.",
                uri=self._uri,
            )
        return ManifestError(
            f"The manifest at {self._uri} is damaged: its part {uri} is not what the index describes: {finding}. List "
            "the bucket again.",
            uri=self._uri,
            part=uri,
        )


class _OversizedError(Exception):
    """What a row group holds is far more than rows of objects can be."""


def _read_group(file: ParquetFile, group: int, columns: Sequence[str] = ROW_SCHEMA.names) -> pa.Table:
    """Read a row group in bounded memory, whatever the file says and holds. Raises _OversizedError and ArrowException.

    Encodings that shorten repetition can make gigabytes of a small file: each text may be as long as all that is stored
    of its column. So rows are read a few at a time where that could be too much, and their texts measured.
    """
    described = file.metadata.row_group(group)
    if described.num_rows > GROUP_MOST_ROWS or described.total_byte_size > PART_MOST_BYTES:
        raise _OversizedError(f"a row group has {described.num_rows} rows and {described.total_byte_size} bytes")
    texts = [described.column(ROW_SCHEMA.names.index(name)) for name in columns if name in _MOST_TEXT_BYTES]
    longest = max((text.total_uncompressed_size for text in texts), default=1)
    step = max(1, _BATCH_MOST_BYTES // max(1, longest))
    if step >= described.num_rows:
        table = file.read_row_group(group, columns=list(columns), use_threads=False)
    else:
        batches = file.iter_batches(step, row_groups=[group], columns=list(columns), use_threads=False)
        table = pa.Table.from_batches([_measured(batch) for batch in batches])
    table.validate(full=True)  # texts that are no UTF-8, above all
    return table.combine_chunks()


def _measured(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows if no text of them is longer than an object's can be. Raises _OversizedError."""
    for name, most in _MOST_TEXT_BYTES.items():
        if name in rows.schema.names:
            longest = compute("max", compute("binary_length", rows.column(name))).as_py()
            if longest is not None and longest > most:
                raise _OversizedError(f"a {name} has {longest} bytes")
    return rows


def _overlapping_groups(file: ParquetFile, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield `(row group, first, end)` for the rows `[start, stop)` of the file; first and end count in the group."""
    offset = 0
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        first, end = max(start - offset, 0), min(stop - offset, rows)
        if first < end:
            yield group, first, end
        offset += rows


class InlineRows:
    """Rows held in memory: those of an inline manifest.

    Args:
        rows: in `ROW_SCHEMA`, sorted, unique.
    """

    def __init__(self, rows: pa.RecordBatch) -> None:
        self._rows = rows

    @property
    def object_count(self) -> int:
        """Rows in all."""
        return int(self._rows.num_rows)

    def batches(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows `[start, stop)`."""
        if start < stop:
            yield self._rows.slice(start, stop - start)

    def marks(self) -> Sequence[Mark]:
        """Return every `MARK_ROWS`-th row."""
        names, sizes = self._rows.column("name"), self._rows.column("size")
        marks: list[Mark] = []
        bytes_before = 0
        for row in range(0, self.object_count, MARK_ROWS):
            marks.append(Mark(row, bytes_before, names[row].as_py()))
            bytes_before += total(sizes[row : row + MARK_ROWS])
        return marks

    def columns(self, column: str) -> Callable[[int, int], pa.Array]:
        """Return a reader of one column."""
        values = self._rows.column(column)
        return lambda start, stop: values[start:stop]


class RememberedRows:
    """Rows of another source, kept once they were all read: later walks over the same interval read nothing.

    What takes more than `most_bytes` is let go while it is read, and read anew each time.
    """

    def __init__(self, source: RowSource, most_bytes: int) -> None:
        self._source = source
        self._most_bytes = most_bytes
        self._kept: dict[tuple[int, int], list[pa.RecordBatch]] = {}

    @property
    def object_count(self) -> int:
        """Rows in all."""
        return self._source.object_count

    def batches(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows `[start, stop)`."""
        kept = self._kept.get((start, stop))
        if kept is not None:
            yield from kept
            return
        reading: list[pa.RecordBatch] = []
        size = 0
        for batch in self._source.batches(start, stop):
            size += batch.nbytes
            if size <= self._most_bytes:
                reading.append(batch)
            else:
                reading.clear()
            yield batch
        if size <= self._most_bytes:
            self._kept = {(start, stop): reading}

    def marks(self) -> Sequence[Mark]:
        """Return remembered rows of the source."""
        return self._source.marks()

    def columns(self, column: str) -> Callable[[int, int], pa.Array]:
        """Return a reader of one column of the source."""
        return self._source.columns(column)
