"""Files of other trees that are objects of this manifest: linked instead of fetched.

A tree is another destination whose receipt vouches for its files, or one that an interrupted staging of this
destination left. A file is taken if the receipt recorded the same object (bucket, name, generation) and the file is
untouched since; without a receipt, if its bytes have the object's crc32c. It gets a second name in the new tree; where
the file systems cannot do that (two of them, or too many links), its bytes are copied and verified.

Guarantees: what is put in place is the object's content, or the object is fetched as if there were no other tree. The
other trees are only read. A linked file is one file with two names: who edits it in one tree edits it in the other.
Both receipts tell such a file from an untouched one, and the next staging replaces it in its own tree alone.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

import msgspec

from airflow_dataflux.core.errors import DestinationError
from airflow_dataflux.core.staging.checksum import extend
from airflow_dataflux.core.staging.earlier_files import (
    EarlierObject,
    ListedObject,
    Obstruction,
    TreeReader,
    earlier_stagings,
    is_same_version,
    is_untouched,
)
from airflow_dataflux.core.staging.localfile import FileIdentity, TreeWriter, open_own_directory, open_root
from airflow_dataflux.core.staging.receipt import EXTRANEOUS, SKIPPED

MOST_TREES = 200
"""Receipts that are read along with a manifest; each holds some thousand rows and two descriptors."""


class LinkableTree(msgspec.Struct):
    """One tree, read along with a manifest in the order of names.

    Attributes:
        root: its path.
        reader: of its files.
        strip_prefix: what its paths lack of object names.
        vouched: what its receipt has, in the order of names; None where there is no receipt, and the bytes must tell.
    """

    root: str
    reader: TreeReader
    strip_prefix: str
    vouched: Iterator[EarlierObject] | None
    _next: EarlierObject | None = None

    def find(self, wanted: ListedObject) -> FileIdentity | None:
        """Return what identifies the file that is this object's content, None if there is none."""
        if not wanted.path or wanted.path.endswith("/"):
            return None
        try:
            if self.vouched is None:
                return self._by_content(wanted)
            earlier = self._take(wanted.name, self.vouched)
            if earlier is None or not is_same_version(earlier, wanted):
                return None
            status = self.reader.status(earlier.path)
        except (OSError, Obstruction):
            return None
        if status is None or not stat.S_ISREG(status.st_mode) or not is_untouched(earlier, status):
            return None
        return FileIdentity(status.st_mtime_ns, status.st_ino)

    def path(self, name: str) -> str:
        """Return where an object that was found lies in this tree."""
        return name[len(self.strip_prefix) :]

    def _take(self, name: str, vouched: Iterator[EarlierObject]) -> EarlierObject | None:
        while self._next is None or self._next.name < name:
            following = next(vouched, None)
            if following is None:
                return None
            self._next = following
        return self._next if self._next.name == name else None

    def _by_content(self, wanted: ListedObject) -> FileIdentity | None:
        status = self.reader.status(self.path(wanted.name))
        if status is None or not stat.S_ISREG(status.st_mode) or status.st_size != wanted.size:
            return None
        if wanted.decompressed or wanted.crc32c is None or self.reader.crc32c(self.path(wanted.name)) != wanted.crc32c:
            return None
        return FileIdentity(status.st_mtime_ns, status.st_ino)


def expand_trees(patterns: Sequence[str], destination: str) -> list[str]:
    """Return the existing directories that paths and globs name, without the destination itself.

    Raises DestinationError for a path, not a glob, that is there and is no directory.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        matching = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        for path in matching:
            if os.path.isdir(path):
                found[os.path.normpath(path)] = None
            elif not glob.has_magic(pattern) and os.path.lexists(path):
                raise DestinationError(f"reuse_from: {path} is not a directory.", path=path)
    return [path for path in found if not _is_same(path, destination)]


def _is_same(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return first == second


def open_trees(
    roots: Iterable[str], unfinished: Iterable[str], *, bucket: str, strip_prefix: str, closing: ExitStack
) -> list[LinkableTree]:
    """Open trees to link from; `closing` closes them.

    Args:
        roots: directories with receipts; those without one for this bucket are left out.
        unfinished: directories of interrupted stagings with the paths of this one.
        bucket: the manifest's.
        strip_prefix: what paths of unfinished trees lack of names.
        closing: closes what was opened.
    """
    trees: list[LinkableTree] = []
    for root in roots:
        trees += _with_receipts(root, bucket, closing)
    for root in unfinished:
        trees += _with_receipts(root, bucket, closing) or _without_receipt(root, strip_prefix, closing)
    return trees[:MOST_TREES]


def _with_receipts(root: str, bucket: str, closing: ExitStack) -> list[LinkableTree]:
    root_fd = open_root(root, closing)
    own_fd = None if root_fd is None else open_own_directory(root_fd, None, closing)
    if root_fd is None or own_fd is None:
        return []
    return [
        LinkableTree(
            root,
            closing.enter_context(TreeReader(root_fd)),
            staging.receipt.strip_prefix,
            (one for one in staging.take_until(None) if one.status not in (SKIPPED, EXTRANEOUS)),
        )
        for staging in earlier_stagings(own_fd, "")
        if staging.receipt.bucket == bucket
    ]


def _without_receipt(root: str, strip_prefix: str, closing: ExitStack) -> list[LinkableTree]:
    root_fd = open_root(root, closing)
    if root_fd is None:
        return []
    return [LinkableTree(root, closing.enter_context(TreeReader(root_fd)), strip_prefix, None)]


def put_in_place(
    wanted: ListedObject, expected: FileIdentity, tree: LinkableTree, writer: TreeWriter
) -> FileIdentity | None:
    """Link a file that was found, or copy it; None if it is not what it was any more, and nothing was put in place.

    Raises DestinationError if the destination cannot be written to.
    """
    source = tree.path(wanted.name)
    try:
        located = tree.reader.locate(source)
        if located is None:
            return None
        identity = writer.link(wanted.path, *located)
    except (OSError, Obstruction):
        return _copy(wanted, source, expected, tree, writer)
    if identity == expected:
        return identity
    writer.remove(wanted.path)
    return None


def _copy(
    wanted: ListedObject, source: str, expected: FileIdentity, tree: LinkableTree, writer: TreeWriter
) -> FileIdentity | None:
    crc, size = 0, 0
    with writer.begin(wanted.path) as file:
        try:
            for chunk in tree.reader.chunks(source):
                crc = extend(crc, chunk)
                size += len(chunk)
                file.append(chunk)
            status = tree.reader.status(source)
        except (OSError, Obstruction):
            return None
        unchanged = status is not None and FileIdentity(status.st_mtime_ns, status.st_ino) == expected
        if size != wanted.size or crc != (crc if wanted.crc32c is None else wanted.crc32c) or not unchanged:
            return None
        return file.publish()
