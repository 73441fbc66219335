"""Remove staged trees that are not needed any more, and keep those that are being read.

A *staged tree* is a directory with a receipt of ours. `prune_staged` removes some of them, oldest first; `lease` keeps
one from being removed while somebody reads it.

Guarantees:
- Nothing is removed but whole trees that carry our receipt and hold nothing that no staging put there.
- A tree that is being staged or is leased stays. A lease ends with its process, however that ends.
- A tree disappears in one step: it is renamed first. What a killed prune leaves is hidden, and removed by the next one.

How a prune, a staging and a reader keep out of each other's way (flock(2), advisory):
1. Each staging locks `.dataflux/lock*` and then makes sure that the directory is still at its path.
2. Each reader locks `.dataflux/lease`, shared, and then does the same.
3. A prune takes all of these locks and holds them until the tree is renamed and removed. So a reader's tree never
   leaves its path, not for a moment; a reader or staging that comes later waits, and then finds that the directory is
   not at its path any more.
4. A staging of a shard can make a lock file of its own while the prune takes the others. So the prune looks again after
   it has renamed the tree, and renames it back if that lock is held.

Not protected: whoever reads without a lease.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import re
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from airflow_dataflux.core.config import PruneRequest
from airflow_dataflux.core.errors import DestinationError
from airflow_dataflux.core.staging.localpath import OWN_DIRECTORY
from airflow_dataflux.core.staging.receipt import Receipt, read_receipt, receipt_names

LEASE_NAME = "lease"

_PRUNED = ".dataflux-pruned-"
_PRUNED_NAME = re.compile(r"\..*\.dataflux-pruned-[0-9a-f]{12}")
_BLOCK_BYTES = 512
"""What `st_blocks` counts, whatever the file system's own blocks are (stat(2))."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def lease(destination: str) -> Iterator[None]:
    """Keep a staged tree from being pruned while the block runs, or until this process ends.

    Any number of readers may hold one. Raises DestinationError if there is no staged tree.
    """
    for _ in range(10):
        descriptor = _open_lease(destination)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _is_at(descriptor, os.path.join(destination, OWN_DIRECTORY)):
                yield
                return
        finally:
            os.close(descriptor)
        # It was removed, or staged anew, between the two system calls: look again.
    raise _no_tree(destination)


def _open_lease(destination: str) -> int:
    """Open the file that leases lock; the directory itself where nothing may be written."""
    try:
        own_fd = os.open(os.path.join(destination, OWN_DIRECTORY), _DIRECTORY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_tree(destination) from error
    except OSError as error:
        raise DestinationError(
            f"The tree at {destination} cannot be leased: {error.strerror}. Run as a user with permission to read it.",
            path=destination,
        ) from error
    try:
        if not receipt_names(own_fd):
            raise _no_tree(destination)
        return os.open(LEASE_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=own_fd)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return os.dup(own_fd)
        place = os.path.join(destination, OWN_DIRECTORY, LEASE_NAME)
        raise DestinationError(
            f"The tree at {destination} cannot be leased: {place} cannot be opened ({error.strerror}). Remove it if it "
            "is no file of a lease, and lease again.",
            path=destination,
        ) from error
    finally:
        os.close(own_fd)


def _no_tree(destination: str) -> DestinationError:
    return DestinationError(
        f"There is no staged tree at {destination}: nothing was staged there, or it was pruned. Stage it again.",
        path=destination,
    )


def _is_at(descriptor: int, own_directory: str) -> bool:
    """Return whether an open lease is the one of the tree that is at its path now."""
    status = os.fstat(descriptor)
    path = own_directory if stat.S_ISDIR(status.st_mode) else os.path.join(own_directory, LEASE_NAME)
    try:
        return os.path.samestat(status, os.stat(path, follow_symlinks=False))
    except OSError:
        return False


class PruneResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a prune found and did.

    Attributes:
        found: staged trees that match.
        removed: paths of those that were removed (in a dry run: would be), oldest first.
        kept: those that the rules chose, and why they stayed all the same, by path.
        freed_bytes: of disk: blocks of files whose last link went.
        total_bytes: what is left of the found trees takes on disk.
        dry_run: nothing was removed.
    """

    found: int
    removed: tuple[str, ...]
    kept: dict[str, str]
    freed_bytes: int
    total_bytes: int
    dry_run: bool

    def summary(self) -> dict[str, Any]:
        """Return the plain dictionary that stands for this in XCom."""
        return {
            "found": self.found,
            "removed": list(self.removed),
            "kept": dict(self.kept),
            "freed_bytes": self.freed_bytes,
            "total_bytes": self.total_bytes,
            "dry_run": self.dry_run,
        }


class _Tree(msgspec.Struct):
    """A staged tree, and the disk that it takes: blocks and number of links of each inode, and our links to it."""

    path: str
    finished_at: datetime
    blocks: dict[tuple[int, int], tuple[int, int]] = {}
    links: Counter[tuple[int, int]] = msgspec.field(default_factory=Counter)
    foreign: str | None = None


def prune_staged(request: PruneRequest) -> PruneResult:
    """Remove staged trees, oldest first. Costs a stat for each file below the root.

    Raises DestinationError if the root cannot be read, or a tree that was renamed cannot be removed.
    """
    root = os.path.normpath(request.root)
    if not os.path.isdir(root):
        raise DestinationError(f"There is no directory {root} to prune.", path=root)
    if not request.dry_run:
        _remove_leftovers(root, request.pattern)
    trees = sorted(_find(root, request.pattern), key=lambda tree: (tree.finished_at, tree.path))
    disk = _Disk(trees)
    candidates = trees[: len(trees) - (request.keep_last or 0)] if request.keep_last is not None else trees
    if request.older_than is not None:
        before = datetime.now(UTC) - request.older_than
        candidates = [tree for tree in candidates if tree.finished_at <= before]
    removed: list[str] = []
    kept: dict[str, str] = {}
    freed = 0
    for tree in candidates:
        if request.max_total_bytes is not None and disk.total_bytes <= request.max_total_bytes:
            break
        reason = _remove(tree, dry_run=request.dry_run)
        if reason is None:
            removed.append(tree.path)
            freed += disk.remove(tree)
        else:
            kept[tree.path] = reason
    return PruneResult(
        found=len(trees),
        removed=tuple(removed),
        kept=kept,
        freed_bytes=freed,
        total_bytes=disk.total_bytes,
        dry_run=request.dry_run,
    )


class _Disk:
    """What all trees take together; a file that several of them have a link to counts once."""

    def __init__(self, trees: list[_Tree]) -> None:
        self._links: Counter[tuple[int, int]] = Counter()
        self.total_bytes = 0
        for tree in trees:
            for inode, (size, _) in tree.blocks.items():
                if inode not in self._links:
                    self.total_bytes += size
                self._links[inode] += tree.links[inode]
        self._outside = {
            inode: links - self._links[inode] for tree in trees for inode, (_, links) in tree.blocks.items()
        }

    def remove(self, tree: _Tree) -> int:
        """Take a tree out; return how many bytes of disk that frees."""
        freed = 0
        for inode, (size, _) in tree.blocks.items():
            self._links[inode] -= tree.links[inode]
            if not self._links[inode]:
                self.total_bytes -= size
                freed += size if self._outside[inode] <= 0 else 0
        return freed


def _find(root: str, pattern: str) -> Iterator[_Tree]:
    for path in _directories(root, pattern):
        receipts = _receipts(path)
        if receipts:
            finished = max(datetime.fromisoformat(receipt.finished_at) for receipt in receipts)
            tree = _Tree(path, finished if finished.tzinfo else finished.replace(tzinfo=UTC))
            _measure(tree, receipts)
            yield tree


def _directories(root: str, pattern: str) -> list[str]:
    """Return the directories that match, none of them through a symlink or inside another one's own directory."""
    found = []
    for relative in glob.glob(pattern, root_dir=root, recursive=True, include_hidden=False):
        path = os.path.normpath(os.path.join(root, relative))
        segments = os.path.relpath(path, root).split("/")
        links = any(os.path.islink(os.path.join(root, *segments[: depth + 1])) for depth in range(len(segments)))
        if not links and OWN_DIRECTORY not in segments and os.path.isdir(path):
            found.append(path)
    return found


def _receipts(path: str) -> list[Receipt]:
    try:
        own_fd = os.open(os.path.join(path, OWN_DIRECTORY), _DIRECTORY)
    except OSError:
        return []
    try:
        return [receipt for name in receipt_names(own_fd) if (receipt := read_receipt(own_fd, name)) is not None]
    finally:
        os.close(own_fd)


def _measure(tree: _Tree, receipts: list[Receipt]) -> None:
    """Count the tree's disk, and look for a file that no staging put there."""
    known = _staged_paths(tree.path, receipts)
    own = os.path.join(tree.path, OWN_DIRECTORY)
    for directory, _, names in os.walk(tree.path):
        is_own = directory == own or directory.startswith(own + "/")
        for name in names:
            path = os.path.join(directory, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            inode = (status.st_dev, status.st_ino)
            tree.blocks[inode] = (status.st_blocks * _BLOCK_BYTES, status.st_nlink)
            tree.links[inode] += 1
            if not is_own and tree.foreign is None and os.path.relpath(path, tree.path) not in known:
                tree.foreign = os.path.relpath(path, tree.path)


def _staged_paths(path: str, receipts: list[Receipt]) -> set[str]:
    import pyarrow.parquet as pq

    known: set[str] = set()
    for receipt in receipts:
        if not receipt.objects_file:
            continue
        try:
            table = pq.read_table(os.path.join(path, OWN_DIRECTORY, receipt.objects_file), columns=["path"])
        except (OSError, ValueError):  # Arrow's errors are ValueErrors: what it listed is unknown, and so is foreign
            continue
        known.update(table.column("path").to_pylist())
    return known


def _remove(tree: _Tree, *, dry_run: bool) -> str | None:
    """Remove a tree; return why it stayed, if it did."""
    if tree.foreign is not None:
        return f"it holds a file that no staging put there: {tree.foreign}"
    with contextlib.ExitStack() as held:
        locked: set[str] = set()
        busy = None if dry_run else _make_lease_file(tree.path)
        busy = busy or _lock_all(tree.path, held, locked)
        if busy or dry_run:
            return busy
        parent, name = os.path.split(tree.path)
        hidden = os.path.join(parent, f".{name[:150]}{_PRUNED}{secrets.token_hex(6)}")
        try:
            os.rename(tree.path, hidden)
        except OSError as error:
            return f"it cannot be renamed: {error.strerror}"
        busy = _lock_all(hidden, held, locked)
        if busy is None:
            _remove_hidden(hidden)
            return None
        if os.path.lexists(tree.path):  # staged anew meanwhile: the next prune removes what is hidden
            return f"{busy}; it is at {hidden} now"
        os.rename(hidden, tree.path)
        return busy


def _make_lease_file(path: str) -> str | None:
    """Make the file that readers lock, so that it can be locked before the first of them; return why not."""
    own = os.path.join(path, OWN_DIRECTORY, LEASE_NAME)
    try:
        os.close(os.open(own, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
    except OSError as error:
        return f"{OWN_DIRECTORY}/{LEASE_NAME} cannot be opened: {error.strerror}"
    return None


def _lock_all(path: str, held: contextlib.ExitStack, locked: set[str]) -> str | None:
    """Take the locks of all stagings and readers that are not taken yet; return why one of them cannot be had."""
    own = os.path.join(path, OWN_DIRECTORY)
    for name in ("", *sorted(os.listdir(own))):
        if name in locked or (name and not (name == LEASE_NAME or name == "lock" or name.startswith("lock-"))):
            continue
        locked.add(name)
        try:
            mode = os.O_RDWR if name else os.O_RDONLY | os.O_DIRECTORY
            descriptor = os.open(os.path.join(own, name), mode | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            return f"{OWN_DIRECTORY}/{name} cannot be opened: {error.strerror}"
        held.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                return "it is being staged" if name.startswith("lock") else "it is leased"
            if name:  # a directory cannot be locked everywhere; where its files cannot be, nobody knows who is at work
                return f"whether it is in use cannot be found out: {error.strerror}"
    return None


def _remove_hidden(hidden: str) -> None:
    """Remove a tree that was renamed, its own directory last: until then it can be told for ours."""
    try:
        with os.scandir(hidden) as entries:
            others = [entry.path for entry in entries if entry.name != OWN_DIRECTORY]
        for path in others:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        shutil.rmtree(hidden)
    except OSError as error:
        raise DestinationError(
            f"A pruned tree could not be removed whole, the rest is in {hidden}: {error.strerror}. Prune again as a "
            "user with permission to remove it.",
            path=hidden,
        ) from error


def _remove_leftovers(root: str, pattern: str) -> None:
    """Remove what a killed prune had renamed and not yet removed."""
    parents = {root, *(os.path.dirname(path) for path in _directories(root, pattern))}
    for parent in parents:
        with os.scandir(parent) as entries:
            hidden = [entry.path for entry in entries if _PRUNED_NAME.fullmatch(entry.name) and entry.is_dir()]
        for path in hidden:
            with contextlib.ExitStack() as held:
                own = os.path.isdir(os.path.join(path, OWN_DIRECTORY))
                if (own and _lock_all(path, held, set()) is None) or not os.listdir(path):
                    _remove_hidden(path)
