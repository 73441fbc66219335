"""What earlier stagings put at a destination, and which of their files are still right.

Guarantees: a file is called right only if an earlier receipt, or what an interrupted try noted, has this very object
there and the file is untouched since (size, modification time, inode), or if its bytes have the object's crc32c. No
symlink is followed, and nothing is written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import reduce

import msgspec
import pyarrow as pa

from airflow_dataflux.core.manifest.files import open_file
from airflow_dataflux.core.staging.checksum import extend
from airflow_dataflux.core.staging.localfile import FileIdentity, OpenDirectory
from airflow_dataflux.core.staging.receipt import (
    DECOMPRESSED,
    SKIPPED,
    Receipt,
    read_objects,
    read_receipt,
    receipt_names,
)

_READ_BYTES = 1 << 20


class EarlierObject(msgspec.Struct, frozen=True):
    """An object as an earlier receipt has it."""

    path: str
    name: str
    size: int
    generation: int
    crc32c: int | None
    status: int
    mtime_ns: int
    inode: int


class EarlierStaging:
    """The objects of one earlier receipt, read along with a manifest in the order of paths.

    `accountable` tells whether its files that are not in the manifest are this staging's to deal with.
    """

    def __init__(self, receipt: Receipt, batches: Iterator[pa.RecordBatch], *, accountable: bool) -> None:
        self.receipt = receipt
        self.accountable = accountable
        self._rows = _rows(batches)
        self._next = next(self._rows, None)

    def take_until(self, path: str | None) -> Iterator[EarlierObject]:
        """Yield the objects with paths before `path` (all that are left for None)."""
        while self._next is not None and (path is None or self._next.path < path):
            yield self._next
            self._next = next(self._rows, None)

    def take(self, path: str) -> EarlierObject | None:
        """Return the object at `path` if it comes next."""
        if self._next is None or self._next.path != path:
            return None
        taken = self._next
        self._next = next(self._rows, None)
        return taken


def _rows(batches: Iterator[pa.RecordBatch]) -> Iterator[EarlierObject]:
    for batch in batches:
        columns = [batch[name].to_pylist() for name in EarlierObject.__struct_fields__]
        for values in zip(*columns, strict=True):
            yield EarlierObject(*values)


def earlier_stagings(own_fd: int | None, scope: str) -> list[EarlierStaging]:
    """Open the receipts of a destination, the latest first, for a staging of this scope."""
    if own_fd is None:
        return []
    receipts = [receipt for name in receipt_names(own_fd) if (receipt := read_receipt(own_fd, name))]
    receipts.sort(key=lambda receipt: receipt.finished_at, reverse=True)
    return [
        EarlierStaging(receipt, _keep_open(own_fd, receipt), accountable=is_accountable(scope, receipt.scope))
        for receipt in receipts
    ]


def is_accountable(scope: str, earlier_scope: str) -> bool:
    """Return whether a staging of `scope` deals with what a receipt of `earlier_scope` placed.

    A whole manifest's staging deals with all. A shard's deals with its own; the first shard also with those of other
    divisions of the data, which have no staging of their own any more.
    """
    if not scope or scope == earlier_scope:
        return True
    index, count = scope.split("-of-")
    return int(index) == 0 and not earlier_scope.endswith(f"-of-{count}")


def _keep_open(own_fd: int, receipt: Receipt) -> Iterator[pa.RecordBatch]:
    own = os.dup(own_fd)
    try:
        yield from read_objects(own, receipt)
    finally:
        os.close(own)


class Obstruction(Exception):  # noqa: N818 - not an error of its own: it becomes part of one that names them all
    """Something stands where a file or directory belongs."""


class TreeReader:
    """Looks at files below a directory, best in the order of paths. One thread, in a `with` block."""

    def __init__(self, root_fd: int) -> None:
        self._directory = OpenDirectory(root_fd)

    def __enter__(self) -> TreeReader:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._directory.__exit__()

    def status(self, path: str) -> os.stat_result | None:
        """Return the status of what is at `path`, None if nothing is. Raises Obstruction if it cannot be reached."""
        found = self.locate(path)
        if found is None:
            return None
        directory_fd, name = found
        try:
            return os.stat(name, dir_fd=directory_fd, follow_symlinks=False) if name else os.fstat(directory_fd)
        except FileNotFoundError:
            return None

    def locate(self, path: str) -> tuple[int, str] | None:
        """Return the directory of `path`, open until the next call, and its name in it; None if there is none."""
        above, _, name = path.rpartition("/")
        try:
            return self._directory.enter(above), name
        except FileNotFoundError:
            return None
        except OSError as error:
            way = above[: len(self._directory.path) + 1] + above[len(self._directory.path) + 1 :].partition("/")[0]
            raise Obstruction(f"{way!r} stands in its way and is not a directory ({error.strerror})") from error

    def chunks(self, path: str) -> Iterator[bytes]:
        """Yield the bytes of the file at `path`. Raises OSError."""
        found = self.locate(path)
        if found is None:
            raise FileNotFoundError(path)
        directory_fd, name = found
        descriptor = open_file(name, dir_fd=directory_fd)
        try:
            while data := os.read(descriptor, _READ_BYTES):
                yield data
        finally:
            os.close(descriptor)

    def crc32c(self, path: str) -> int:
        """Return the checksum of the file at `path`. Raises OSError."""
        return reduce(extend, self.chunks(path), 0)


class ListedObject(msgspec.Struct, frozen=True):
    """An object as the manifest lists it, with its path; `decompressed` if its file is to hold the unpacked bytes."""

    path: str
    name: str
    size: int
    generation: int
    crc32c: int | None
    decompressed: bool = False


def still_right(
    wanted: ListedObject, earlier: list[EarlierObject], fetched: FileIdentity | None, reader: TreeReader
) -> FileIdentity | None:
    """Return what is at the object's path if it is the object's content, None if it must be fetched.

    `fetched` is what an interrupted try of the same manifest noted of the file that it put there.
    Raises Obstruction if it could not be put there.
    """
    directory = wanted.path.endswith("/") or not wanted.path
    status = reader.status(wanted.path.rstrip("/"))
    if status is None:
        return None
    if directory:
        if not stat.S_ISDIR(status.st_mode):
            raise Obstruction("something that is not a directory is in its place")
        return FileIdentity(0, 0)
    if stat.S_ISDIR(status.st_mode):
        raise Obstruction("a directory is in its place")
    if not stat.S_ISREG(status.st_mode):
        return None
    placed = FileIdentity(status.st_mtime_ns, status.st_ino)
    if placed == fetched or any(is_untouched(one, status) and is_same_version(one, wanted) for one in earlier):
        return placed
    if wanted.decompressed or status.st_size != wanted.size:
        return None
    return placed if _has_content(wanted, wanted.path, reader) else None


def _has_content(wanted: ListedObject, path: str, reader: TreeReader) -> bool:
    """Return whether the bytes of a file have the object's checksum; no if that is unknown or it cannot be read."""
    try:
        return wanted.crc32c is not None and reader.crc32c(path) == wanted.crc32c
    except OSError:
        return False


def is_same_version(earlier: EarlierObject, wanted: ListedObject) -> bool:
    """Return whether a receipt recorded this very version of the object, unpacked or not as it is wanted."""
    return (
        earlier.status != SKIPPED
        and (earlier.status == DECOMPRESSED) == wanted.decompressed
        and earlier.name == wanted.name
        and earlier.generation == wanted.generation
        and earlier.size == wanted.size
    )


def is_untouched(earlier: EarlierObject, status: os.stat_result) -> bool:
    """Return whether a file is the one that a receipt recorded, unmodified."""
    same_size = earlier.status == DECOMPRESSED or earlier.size == status.st_size
    return same_size and (earlier.mtime_ns, earlier.inode) == (status.st_mtime_ns, status.st_ino)
