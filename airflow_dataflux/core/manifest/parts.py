"""Writing parts: sorted rows in, Parquet files and their descriptions out.

Guarantees: rows are checked to be sorted and unique as they come; a part file appears whole or not at all, and is
described (hash, digest, counts) by whoever wrote it; a PartInfo pickles and is a few hundred bytes. Memory: at most
`ROW_GROUP_BYTES` of rows and one part encoded. A part alone is worth nothing: only an index makes a manifest, so what
a writer leaves when it fails is never read, and whoever drafts the manifest deletes it (`publishing.py`). Not
thread-safe: one writer belongs to one thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

import msgspec
import pyarrow as pa

from airflow_dataflux.core.arrow import ROW_SCHEMA, total
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.fingerprint import Digest
from airflow_dataflux.core.manifest.location import join_uri, manifest_location
from airflow_dataflux.core.manifest.schema import (
    LOCAL_PART_BYTES,
    MARK_ROWS,
    PARQUET_OPTIONS,
    PART_BYTES,
    PART_ROWS,
    ROW_GROUP_BYTES,
    ROW_GROUP_ROWS,
    check_rows,
)

_T = TypeVar("_T")


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A row of a part, remembered in the index so that shards and boundary names need not open the part.

    Attributes:
        row: position in the part, from 0.
        bytes_before: sum of the sizes of the part's rows before it.
        name: its object name.
    """

    row: int
    bytes_before: int
    name: str


class PartInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One part, as the index describes it.

    Attributes:
        path: relative to the manifest's directory, or a URI (parts that a join took over from elsewhere).
        first_name, last_name: names of its first and last object.
        object_count: rows, at least 1.
        total_bytes: sum of the objects' sizes.
        digest: composable digest of its rows (`Digest.from_text`).
        sha256: hash of the file's bytes, hexadecimal.
        file_bytes: length of the file.
        marks: every `MARK_ROWS`-th row.
    """

    path: str
    first_name: str
    last_name: str
    object_count: int
    total_bytes: int
    digest: str
    sha256: str
    file_bytes: int
    marks: tuple[Mark, ...] = ()


class PartWriter:
    """Writes one sorted sequence of rows as parts of a manifest.

    Args:
        files: where to write.
        manifest_uri: URI of the manifest's directory.
        part_prefix: makes the parts' names unique, also among earlier and concurrent listings into the same
            directory: carry a run's random id and the range in it. Letters, digits, `.`, `_`, `-`.
        part_bytes: where a part is closed; it exceeds that by less than one row group. None: as suits the place.
        part_rows: the same in rows.
        encoder: the one thread in which rows are encoded, for writers of many threads; None: the calling thread.
            Encoders side by side are no faster where other work fills the processors, each holds its row group
            twice, and Arrow's allocator keeps some MB for every thread that ever encoded.
    """

    def __init__(
        self,
        files: ManifestFiles,
        manifest_uri: str,
        part_prefix: str,
        *,
        part_bytes: int | None = None,
        part_rows: int = PART_ROWS,
        encoder: Executor | None = None,
    ) -> None:
        self._files = files
        location = manifest_location(manifest_uri)
        self._directory = location.uri
        self._prefix = part_prefix
        self._part_bytes = part_bytes or (LOCAL_PART_BYTES if location.scheme == "file" else PART_BYTES)
        self._part_rows = part_rows
        self._encoder = encoder
        self._written: list[PartInfo] = []
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._part: _OpenPart | None = None
        self._last_name: str | None = None
        self._object_count = 0

    @property
    def object_count(self) -> int:
        """Rows appended so far."""
        return self._object_count

    @property
    def last_name(self) -> str | None:
        """Name of the last row appended, None before the first."""
        return self._last_name

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows in `ROW_SCHEMA`, sorted, unique, and after all rows appended before.

        Writes a file whenever a part is full, in this thread (gs: one class A request per part).
        Raises ManifestError for rows out of order, before anything is added, and what writing raises: the writer is of
        no use then.
        """
        check_rows(batch, self._last_name)
        if batch.num_rows == 0:
            return
        self._last_name = batch.column("name")[-1].as_py()
        self._object_count += batch.num_rows
        held_bytes = batch.get_total_buffer_size()
        for piece in _pieces(batch, held_bytes):
            self._waiting.append(piece)
            self._waiting_rows += piece.num_rows
            self._waiting_bytes += held_bytes * piece.num_rows // batch.num_rows
            if self._waiting_rows >= ROW_GROUP_ROWS or self._waiting_bytes >= ROW_GROUP_BYTES:
                self._encode()

    def finish(self) -> list[PartInfo]:
        """Write what is left and return the parts in order; an empty list if nothing was appended."""
        self._encode()
        self._close_part()
        return list(self._written)

    def _encode(self) -> None:
        if not self._waiting:
            return
        if self._part is None:
            self._part = _OpenPart()
        part, batches = self._part, self._waiting
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0
        self._in_turn(lambda: part.add(batches))
        if self._part.encoded_bytes >= self._part_bytes or self._part.row_count >= self._part_rows:
            self._close_part()

    def _close_part(self) -> None:
        if self._part is None:
            return
        path = f"part-{self._prefix}-{len(self._written):05d}.parquet"
        part, self._part = self._part, None
        data, info = self._in_turn(lambda: part.close(path))
        self._files.create(join_uri(self._directory, path), data)
        self._written.append(info)

    def _in_turn(self, work: Callable[[], _T]) -> _T:
        return work() if self._encoder is None else self._encoder.submit(work).result()


class _OpenPart:
    """One Parquet file in memory, and what the index will say of it."""

    def __init__(self) -> None:
        # Imported here: a process that lists one page never writes a part.
        import pyarrow.parquet as pq

        self._pool = pa.system_memory_pool()
        self._sink = pa.BufferOutputStream(self._pool)
        self._writer = pq.ParquetWriter(self._sink, ROW_SCHEMA, memory_pool=self._pool, **PARQUET_OPTIONS)
        self._digest = Digest()
        self._marks: list[Mark] = []
        self._total_bytes = 0
        self._first_name = ""
        self._last_name = ""
        self.row_count = 0

    @property
    def encoded_bytes(self) -> int:
        return int(self._sink.tell())

    def add(self, batches: list[pa.RecordBatch]) -> None:
        """Encode `batches` (not empty) as one row group."""
        group = pa.Table.from_batches(batches, ROW_SCHEMA).combine_chunks(self._pool).to_batches()[0]
        names, sizes = group.column("name"), group.column("size")
        if self.row_count == 0:
            self._first_name = names[0].as_py()
        self._last_name = names[-1].as_py()
        start = 0
        while start < group.num_rows:
            if (self.row_count + start) % MARK_ROWS == 0:
                self._marks.append(Mark(self.row_count + start, self._total_bytes, names[start].as_py()))
            stop = start + MARK_ROWS - (self.row_count + start) % MARK_ROWS
            self._total_bytes += total(sizes[start:stop])
            start = stop
        self._digest = self._digest.extend(group)
        self.row_count += group.num_rows
        self._writer.write_batch(group, row_group_size=group.num_rows)

    def close(self, path: str) -> tuple[bytes, PartInfo]:
        self._writer.close()
        data = self._sink.getvalue().to_pybytes()
        return data, PartInfo(
            path=path,
            first_name=self._first_name,
            last_name=self._last_name,
            object_count=self.row_count,
            total_bytes=self._total_bytes,
            digest=self._digest.to_text(),
            sha256=hashlib.sha256(data).hexdigest(),
            file_bytes=len(data),
            marks=tuple(self._marks),
        )


def _pieces(batch: pa.RecordBatch, held_bytes: int) -> list[pa.RecordBatch]:
    """Cut a batch that is much larger than a row group, so that the caps hold whatever is appended."""
    rows_per_piece = ROW_GROUP_ROWS
    if held_bytes > ROW_GROUP_BYTES:
        rows_per_piece = min(rows_per_piece, max(1, batch.num_rows * ROW_GROUP_BYTES // held_bytes))
    if batch.num_rows <= rows_per_piece:
        return [batch]
    return [batch.slice(start, rows_per_piece) for start in range(0, batch.num_rows, rows_per_piece)]
