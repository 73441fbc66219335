"""What is at the destination already, and which of it is still right.

Guarantees: an object counts as reused only if its file is regular, has the listed size, and either is untouched since
an earlier receipt recorded this very generation (size, modification time and inode), or its content has the listed
CRC32C. Nothing is written here, and no symlink is followed.

Cost: one stat per object, and one read of the file where a receipt does not vouch for it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from airflow_dataflux.core.staging.checksum import extend
from airflow_dataflux.core.staging.localfile import Placed, open_existing
from airflow_dataflux.core.staging.localpath import OWN_DIRECTORY
from airflow_dataflux.core.staging.receipt import SKIPPED, Receipt, read_objects, read_receipt, receipt_names

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class EarlierObject:
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
        columns = [batch[name].to_pylist() for name in EarlierObject.__slots__]
        for values in zip(*columns, strict=True):
            yield EarlierObject(*values)


def earlier_stagings(root_fd: int, scope: str) -> list[EarlierStaging]:
    """Open the receipts of a destination, the latest first, for a staging of this scope."""
    try:
        own_fd = open_existing(OWN_DIRECTORY, root_fd)
    except OSError:
        return []
    try:
        receipts = [receipt for name in receipt_names(own_fd) if (receipt := read_receipt(own_fd, name))]
        receipts.sort(key=lambda receipt: receipt.finished_at, reverse=True)
        return [
            EarlierStaging(receipt, _keep_open(own_fd, receipt), accountable=_is_accountable(scope, receipt.scope))
            for receipt in receipts
        ]
    finally:
        os.close(own_fd)


def _is_accountable(scope: str, earlier_scope: str) -> bool:
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


class Looker:
    """Looks at files below a directory in the order of paths; keeps the directories of the last one open."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._segments: list[str] = []
        self._descriptors: list[int | None] = []

    def __enter__(self) -> Looker:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._leave(0)

    def status(self, path: str) -> os.stat_result | None:
        """Return the status of what is at `path`, None if nothing is. Raises Obstruction if it cannot be reached."""
        directory, _, name = path.rpartition("/")
        directory_fd = self._enter(directory)
        if directory_fd is None:
            return None
        try:
            return os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def crc32c(self, path: str) -> int:
        """Return the checksum of the file at `path`."""
        directory, _, name = path.rpartition("/")
        directory_fd = self._enter(directory)
        if directory_fd is None:
            raise FileNotFoundError(path)
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
        try:
            crc = 0
            while data := os.read(descriptor, _READ_BYTES):
                crc = extend(crc, data)
            return crc
        finally:
            os.close(descriptor)

    def _enter(self, directory: str) -> int | None:
        """Return a descriptor of a directory, None if it is not there."""
        segments = directory.split("/") if directory else []
        if segments != self._segments:
            same = 0
            for mine, wanted in zip(self._segments, segments, strict=False):
                if mine != wanted:
                    break
                same += 1
            self._leave(same)
            for segment in segments[same:]:
                self._descriptors.append(self._open_below(segment))
                self._segments.append(segment)
        return self._descriptors[-1] if self._descriptors else self._root_fd

    def _open_below(self, segment: str) -> int | None:
        above = self._descriptors[-1] if self._descriptors else self._root_fd
        if above is None:
            return None
        try:
            return open_existing(segment, above)
        except FileNotFoundError:
            return None
        except OSError as error:
            way = "/".join([*self._segments, segment])
            raise Obstruction(f"{way!r} stands in its way and is not a directory ({error.strerror})") from error

    def _leave(self, depth: int) -> None:
        for descriptor in self._descriptors[depth:]:
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        del self._descriptors[depth:]
        del self._segments[depth:]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object as the manifest lists it, with its path."""

    path: str
    name: str
    size: int
    generation: int
    crc32c: int | None


def still_right(wanted: Wanted, earlier: list[EarlierObject], looker: Looker) -> Placed | None:
    """Return what is at the object's path if it is the object's content, None if it must be fetched.

    Raises Obstruction if it could not be put there.
    """
    directory = wanted.path.endswith("/")
    status = looker.status(wanted.path.rstrip("/"))
    if status is None:
        return None
    if directory:
        if not stat.S_ISDIR(status.st_mode):
            raise Obstruction("something that is not a directory is in its place")
        return Placed(0, 0)
    if stat.S_ISDIR(status.st_mode):
        raise Obstruction("a directory is in its place")
    if not stat.S_ISREG(status.st_mode) or status.st_size != wanted.size:
        return None
    placed = Placed(status.st_mtime_ns, status.st_ino)
    if any(is_untouched(one, status) and is_same_version(one, wanted) for one in earlier):
        return placed
    if wanted.crc32c is None:
        return None
    try:
        return placed if looker.crc32c(wanted.path) == wanted.crc32c else None
    except OSError:
        return None  # unreadable: it is replaced


def is_same_version(earlier: EarlierObject, wanted: Wanted) -> bool:
    """Return whether a receipt recorded this very version of the object."""
    return (
        earlier.status != SKIPPED
        and earlier.name == wanted.name
        and earlier.generation == wanted.generation
        and earlier.size == wanted.size
    )


def is_untouched(earlier: EarlierObject, status: os.stat_result) -> bool:
    """Return whether a file is the one that a receipt recorded, unmodified."""
    return (earlier.size, earlier.mtime_ns, earlier.inode) == (status.st_size, status.st_mtime_ns, status.st_ino)
