"""Files of earlier stagings that the manifest lacks: removed when asked, remembered when not.

Guarantees: only regular files are removed, only those that a receipt of this destination lists, and none that the
whole manifest still has (a shard may lose an object to its neighbour). No symlink is followed. Directories that
become empty go too.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable

from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.staging.localfile import DestinationTree, open_existing
from airflow_dataflux.core.staging.reuse import EarlierObject


def missing_in_manifest(candidates: Iterable[EarlierObject], whole: Manifest, strip_prefix: str) -> list[EarlierObject]:
    """Return those candidates whose paths no object of `whole` has, sorted, each once."""
    by_path = {one.path: one for one in candidates}
    if by_path:
        stripped = len(strip_prefix)
        for rows in whole.batches():
            for name in rows["name"].to_pylist():
                if name.startswith(strip_prefix):
                    by_path.pop(name[stripped:], None)
            if not by_path:
                break
    return [by_path[path] for path in sorted(by_path)]


def remove_files(tree: DestinationTree, files: Iterable[EarlierObject]) -> int:
    """Remove files and the directories that become empty; return how many files were removed."""
    removed = 0
    for one in files:
        segments = one.path.rstrip("/").split("/")
        descriptors = [os.dup(tree.root_fd)]
        try:
            for segment in segments[:-1]:
                descriptors.append(open_existing(segment, descriptors[-1]))
            removed += _remove(segments[-1], descriptors[-1], directory=one.path.endswith("/"))
            _remove_empty(segments[:-1], descriptors)
        except OSError:
            continue  # it is gone already, or is not what it was
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
    return removed


def _remove(name: str, directory_fd: int, *, directory: bool) -> int:
    status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    if directory:
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(name, dir_fd=directory_fd)
        return 0
    if not stat.S_ISREG(status.st_mode):
        return 0
    os.unlink(name, dir_fd=directory_fd)
    return 1


def _remove_empty(segments: list[str], descriptors: list[int]) -> None:
    with contextlib.suppress(OSError):  # not empty: the usual end
        for depth in range(len(segments) - 1, -1, -1):
            os.rmdir(segments[depth], dir_fd=descriptors[depth])
