"""Where a staging builds, who may build there, and how the result is published.

- A whole manifest into a destination that does not exist is built beside it, in `.<name>.dataflux-partial-<key>`, and
  published by one rename. The key is that of the manifest and of `strip_prefix`, so an interrupted staging is found
  again by its next try, and by nobody else.
- Everything else (a shard, a destination that exists) is built in place; each file appears in one step.

A lock file below `.dataflux/`, one per scope, admits one staging at a time and holds the record of the composites
that it makes: who finds a record in a lock that nobody holds knows what a killed staging may have left in the bucket.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from airflow_dataflux.core.errors import DestinationError
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.staging.localfile import Branches, DestinationTree
from airflow_dataflux.core.staging.localpath import OWN_DIRECTORY
from airflow_dataflux.core.staging.receipt import receipt_names

_LOCK_PATIENCE_S = 12.0
"""A killed task's engine may live this long (its own grace is shorter) while the next try already waits."""

_NEWBORN_S = 3600.0
"""A partial directory without a lock file may belong to a staging that just begins; older ones do not."""


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Which composites an attempt may have made."""

    bucket: str
    composite_prefix: str
    attempt_prefix: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where to build what.

    Attributes:
        destination: absolute path where the files belong in the end.
        scope: "" for a whole manifest, "00003-of-00016" for a shard.
        key: tells manifests apart that go to the same new destination.
    """

    destination: str
    scope: str
    key: str

    @property
    def partial(self) -> str:
        """Directory beside a new destination."""
        return f"{self._partial_stem}{hashlib.sha256(self.key.encode()).hexdigest()[:16]}"

    @property
    def _partial_stem(self) -> str:
        parent, name = os.path.split(self.destination)
        return os.path.join(parent, f".{_shortened(name)}.dataflux-partial-")

    def other_partials(self) -> list[str]:
        """Return the partial directories of other manifests for the same destination."""
        stem = glob.escape(self._partial_stem)
        return [path for path in glob.glob(stem + "[0-9a-f]" * 16) if path != self.partial]


def _shortened(name: str) -> str:
    """Return a name short enough to get a suffix: a segment holds 255 bytes."""
    if len(os.fsencode(name)) <= 180:
        return name
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:32]


@dataclass(slots=True)
class Workspace:
    """An opened and locked place. Use it in a `with` block.

    Attributes:
        place: what was opened.
        root: directory in which files are built now.
        new_tree: it is published as a whole.
        found_empty: nothing of a staging was in it before.
        tree: the open directory.
        stale: record of a killed attempt of this scope, if there is one.
    """

    place: Place
    root: str
    new_tree: bool
    found_empty: bool
    tree: DestinationTree
    _lock_fd: int
    stale: AttemptRecord | None = None

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.new_tree and _is_empty(self.tree):
            self._remove_fruitless()
        self.tree.close()
        os.close(self._lock_fd)  # and with it the lock

    def record(self, record: AttemptRecord) -> None:
        """Note which composites may exist from now on. Call it before the first one is asked for."""
        self._write_record(msgspec.json.encode(record))

    def clear_record(self) -> None:
        """Note that none of them is left."""
        self._write_record(b"")

    def publish(self) -> None:
        """Give a new tree its final name, in one step."""
        if not self.new_tree:
            return
        try:
            os.rename(self.root, self.place.destination)
        except OSError as error:
            raise DestinationError(
                f"The finished tree {self.root} could not be renamed to {self.place.destination}: {error.strerror}. "
                "Something else made it meanwhile; remove it and run again, nothing is fetched twice.",
                path=self.place.destination,
            ) from error

    def _remove_fruitless(self) -> None:
        """Remove a partial tree in which nothing was put, unless it was published or has a record."""
        if _is_at(self.tree.root_fd, self.place.partial) and _read_record(self._lock_fd) is None:
            shutil.rmtree(self.place.partial, ignore_errors=True)

    def _write_record(self, data: bytes) -> None:
        os.pwrite(self._lock_fd, data, 0)
        os.ftruncate(self._lock_fd, len(data))


def check_destination(destination: str) -> None:
    """Raise DestinationError unless `destination` is, or can become, a writable directory. Makes nothing."""
    existing = nearest_existing(destination)
    if not os.path.isdir(existing):
        raise DestinationError(f"{destination} cannot be a directory: {existing} is not one.", path=destination)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise DestinationError(
            f"{destination} is not writable: this user may not write to {existing}.", path=destination
        )


def nearest_existing(path: str) -> str:
    """Return the nearest path above `path`, or itself, that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def open_workspace(place: Place, cancel: CancelToken) -> Workspace:
    """Make, lock and open the directory to build in.

    Raises DestinationError if it cannot be made or written to, or if another staging holds it for longer than a
    killed one's last seconds.
    """
    check_destination(place.destination)
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        new_tree = not place.scope and not os.path.lexists(place.destination)
        root = place.partial if new_tree else place.destination
        tree = _open_tree(root, place.scope)
        if tree is None:
            continue  # published or removed between two system calls: look again
        lock_fd = -1
        try:
            lock_fd = _open_lock(tree, place.scope)
            _wait_for_lock(lock_fd, root, deadline, cancel)
            found_empty = _is_empty(tree)
            published_meanwhile = new_tree and os.path.lexists(place.destination)
            if not published_meanwhile and _is_at(tree.root_fd, root):
                tree.remove_stale(place.scope)
                return Workspace(place, root, new_tree, found_empty, tree, lock_fd, _read_record(lock_fd))
            if published_meanwhile and found_empty and _is_at(tree.root_fd, root):
                shutil.rmtree(root, ignore_errors=True)
        except BaseException:
            tree.close()
            if lock_fd >= 0:
                os.close(lock_fd)
            raise
        # 1. This one saw no destination. 2. Another one published it. 3. This one made, or waited for, a directory
        # that is the published one now, or that nobody needs any more. So: look again.
        tree.close()
        os.close(lock_fd)


def _open_tree(root: str, scope: str) -> DestinationTree | None:
    """Make and open a directory; None if it went away while that was done."""
    try:
        os.makedirs(root, exist_ok=True)
    except OSError as error:
        if isinstance(error, FileExistsError) and not os.path.lexists(root):
            return None  # it existed at one system call and not at the next
        raise DestinationError(f"The directory {root} cannot be made: {error.strerror}.", path=root) from error
    try:
        return DestinationTree(root, scope)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DestinationError(f"{root} cannot be written to: {error.strerror}.", path=root) from error


def _is_empty(tree: DestinationTree) -> bool:
    """Return whether there is nothing but our own directory, and no receipt in that."""
    if os.listdir(tree.root_fd) != [OWN_DIRECTORY]:
        return False
    with Branches(tree) as branches:
        return not receipt_names(branches.directory(OWN_DIRECTORY))


def _open_lock(tree: DestinationTree, scope: str) -> int:
    name = f"lock-{scope}" if scope else "lock"
    with Branches(tree) as branches:
        own_fd = branches.directory(OWN_DIRECTORY)
        try:
            return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=own_fd)
        except OSError as error:
            raise tree.failed(error, f"{OWN_DIRECTORY}/{name}") from error


def _wait_for_lock(lock_fd: int, root: str, deadline: float, cancel: CancelToken) -> None:
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return  # a file system without locks: go on without
            if time.monotonic() >= deadline:
                raise DestinationError(
                    f"Another staging is at work in {root} and did not end within {_LOCK_PATIENCE_S:.0f} s. Give each "
                    "run a destination of its own, such as one with {{ run_id }} in it.",
                    path=root,
                ) from error
            cancel.wait(0.1)  # flock(2) cannot be waited for together with a cancel
            cancel.raise_if_cancelled()
        else:
            return


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _read_record(lock_fd: int) -> AttemptRecord | None:
    try:
        return msgspec.json.decode(os.pread(lock_fd, 1 << 16, 0), type=AttemptRecord)
    except (OSError, msgspec.DecodeError):
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class AbandonedTree:
    """A tree of another manifest that was begun for this destination and on which nobody works any more.

    Attributes:
        path: where it is.
        record: composites that may be left of it, None if there are none.
    """

    path: str
    record: AttemptRecord | None

    def remove(self) -> None:
        """Remove it, as far as that is possible."""
        shutil.rmtree(self.path, ignore_errors=True)


def abandoned_trees(place: Place) -> Iterator[AbandonedTree]:
    """Yield abandoned trees; each is locked until the next is asked for."""
    for path in place.other_partials():
        try:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                continue
            lock_fd = os.open(os.path.join(path, OWN_DIRECTORY, "lock"), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            if time.time() - _changed_at(path) > _NEWBORN_S:
                yield AbandonedTree(path=path, record=None)
            continue
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass  # somebody works on it
        else:
            yield AbandonedTree(path=path, record=_read_record(lock_fd))
        finally:
            os.close(lock_fd)


def _changed_at(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return time.time()
