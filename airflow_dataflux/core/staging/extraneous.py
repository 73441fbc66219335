"""Files of earlier stagings that the manifest lacks: removed when asked, remembered when not.

Guarantees: only regular files are removed, only those that a receipt of this destination lists, and none that the
whole manifest still has (a shard may lose an object to its neighbour). No symlink is followed. Directories that
become empty go too. A staging that has nothing to put there removes nothing, unless that was asked for.

A shard of an inline manifest knows nothing of its neighbours but their receipts: the shard that finishes last, with the
receipts of all beside its own, removes for all of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.errors import DeletionRefusedError
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.staging.destination_scan import ScanResult
from airflow_dataflux.core.staging.earlier_files import EarlierObject, EarlierStaging, Obstruction, TreeReader
from airflow_dataflux.core.staging.localfile import DestinationTree, OpenDirectory
from airflow_dataflux.core.staging.receipt import EXTRANEOUS, SKIPPED, read_objects, read_receipt, receipt_names


class ExtraneousFiles:
    """What one staging does about them."""

    def __init__(self, manifest: Manifest, request: StageRequest) -> None:
        self._manifest = manifest
        self._request = request
        shard = manifest.shard_info
        self._of_inline_shard = shard is not None and manifest.uri is None

    def refuse_to_empty(self, found: ScanResult) -> None:
        """Refuse, before anything is fetched, to remove all files that are there."""
        if not found.files and self._manifest.shard_info is None:  # of a shard, only the whole manifest tells
            self._refuse(found.extraneous)

    def count(self, found: ScanResult, root_fd: int | None) -> int:
        """Return how many files would be removed."""
        if not self._request.delete_extraneous or root_fd is None:
            return 0
        with TreeReader(root_fd) as reader:
            return sum(_is_file(reader, one.path) for one in self._missing(found)[0])

    def settle(self, found: ScanResult, left_out: int, tree: DestinationTree) -> tuple[list[EarlierObject], int]:
        """Remove what is to be removed; return the files that stay and are to be remembered, and how many went.

        `left_out` objects turned out not to be had.
        """
        if self._of_inline_shard:
            with TreeReader(tree.root_fd) as reader:
                return [one for one in _distinct(found.extraneous) if _is_file(reader, one.path)], 0
        extraneous, has_files = self._missing(found)
        if not extraneous or not self._request.delete_extraneous:
            return extraneous, 0
        if found.files <= left_out and (found.unsafe_count or left_out or not has_files):
            self._refuse(extraneous)
        return [], remove_files(tree, extraneous)

    def settle_inline_shards(self, tree: DestinationTree) -> int:
        """Remove for all shards of an inline manifest, if all have their receipts; return how many files went."""
        shard = self._manifest.shard_info
        if not self._of_inline_shard or shard is None or not self._request.delete_extraneous:
            return 0
        base = self._manifest.fingerprint.partition("[")[0]
        receipts = [receipt for name in receipt_names(tree.own_fd) if (receipt := read_receipt(tree.own_fd, name))]
        division = [
            receipt
            for receipt in receipts
            if receipt.scope.endswith(f"-of-{shard.count:05}") and receipt.fingerprint.partition("[")[0] == base
        ]
        if len(division) < shard.count:
            return 0
        listed: set[str] = set()
        has_files = False
        extraneous: dict[str, EarlierObject] = {}
        for receipt in division:
            for one in EarlierStaging(receipt, read_objects(tree.own_fd, receipt), accountable=True).take_until(None):
                if one.status == EXTRANEOUS:
                    extraneous[one.path] = one
                else:
                    listed.add(one.path)
                    has_files = has_files or (one.status != SKIPPED and not one.path.endswith("/"))
        doomed = [one for path, one in sorted(extraneous.items()) if path not in listed]
        if doomed and not has_files:
            self._refuse(doomed)
        return remove_files(tree, doomed)

    def _missing(self, found: ScanResult) -> tuple[list[EarlierObject], bool]:
        """Return the files that the whole manifest lacks, sorted, each once, and whether it has any file."""
        if self._manifest.shard_info is None or not found.extraneous:
            return _distinct(found.extraneous), found.files > 0
        whole = self._manifest.whole()
        if whole is None:
            return [], True
        by_path = {one.path: one for one in found.extraneous}
        has_files = False
        stripped = len(self._request.strip_prefix)
        for rows in whole.batches():
            for name in rows["name"].to_pylist():
                has_files = has_files or not name.endswith("/")
                if name.startswith(self._request.strip_prefix):
                    by_path.pop(name[stripped:], None)
            if not by_path:
                break
        return _distinct(by_path.values()), has_files

    def _refuse(self, files: Iterable[EarlierObject]) -> None:
        """Raise DeletionRefusedError if there are files among those to remove: they would be the last ones.

        An empty manifest is far more often a prefix that is misspelt than a bucket that is empty.
        """
        paths = [one.path for one in files if one.path and not one.path.endswith("/")]
        if not paths or self._request.delete_extraneous in (False, "even_if_empty"):
            return
        destination = self._request.destination
        raise DeletionRefusedError(
            f"The staging would leave no file in {destination}: it has no object of gs://{self._manifest.bucket} to "
            f"put there, and delete_extraneous would remove all {len(paths)} files of earlier stagings, such as "
            f"{paths[0]!r}. Nothing was removed. Look at the prefix and the filters of the listing. If the files are "
            'to go, say delete_extraneous="even_if_empty".',
            destination=destination,
            files=len(paths),
        )


def _distinct(files: Iterable[EarlierObject]) -> list[EarlierObject]:
    by_path = {one.path: one for one in files}
    return [by_path[path] for path in sorted(by_path)]


def _is_file(reader: TreeReader, path: str) -> bool:
    try:
        status = reader.status(path) if path and not path.endswith("/") else None
    except (Obstruction, OSError):
        return False
    return status is not None and stat.S_ISREG(status.st_mode)


def remove_files(tree: DestinationTree, files: Iterable[EarlierObject]) -> int:
    """Remove files and the directories that become empty; return how many files were removed."""
    removed = 0
    with OpenDirectory(tree.root_fd) as directory:
        for one in files:
            path = one.path.rstrip("/")
            try:
                removed += _remove(path, directory, is_directory=one.path.endswith("/"))
                while path := path.rpartition("/")[0]:
                    above, _, name = path.rpartition("/")
                    os.rmdir(name, dir_fd=directory.enter(above))
            except OSError:
                continue  # it is gone already, is not what it was, or the directory is not empty: the usual end
    return removed


def _remove(path: str, directory: OpenDirectory, *, is_directory: bool) -> int:
    above, _, name = path.rpartition("/")
    directory_fd = directory.enter(above)
    status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    if is_directory:
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(name, dir_fd=directory_fd)
        return 0
    if not stat.S_ISREG(status.st_mode):
        return 0
    os.unlink(name, dir_fd=directory_fd)
    return 1
