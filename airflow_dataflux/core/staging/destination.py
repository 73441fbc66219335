"""Where a staging builds, who may build there, and how the result is published.

- A whole manifest into a destination that does not exist is built beside it, in `.<name>.dataflux-partial-<key>`, and
  published by one rename. The key is that of the manifest and of `strip_prefix`, so an interrupted staging is found
  again by its next try, and by nobody else.
- Everything else (a shard, a destination that exists, a file system that cannot rename directories) is built in place;
  each file appears in one step. What unfinished trees of the same destination hold is linked; then they are removed.

A lock file below `.dataflux/`, one per scope, admits one staging at a time and holds the record of the composites
that it makes: who finds a record in a lock that nobody holds knows what a killed staging may have left in the bucket.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator

import msgspec

from airflow_dataflux.core.errors import DestinationBusyError, DestinationError
from airflow_dataflux.core.manifest.files import open_file
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.timeouts import LOCK_WAIT_S
from airflow_dataflux.core.staging.earlier_files import is_accountable
from airflow_dataflux.core.staging.localfile import UNFINISHED, DestinationTree, advice_for
from airflow_dataflux.core.staging.localpath import OWN_DIRECTORY
from airflow_dataflux.core.staging.receipt import ReceiptFiles, progress_name, receipt_name, receipt_names

_LOCK_NAME = re.compile(r"lock(?:-(\d+-of-\d+))?")

_TRIALS = ("-try", "-tried")

_NEWBORN_S = 3600.0
"""A partial directory without a lock file may belong to a staging that just begins; older ones do not."""


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Which composites an attempt may have made."""

    bucket: str
    composite_prefix: str
    attempt_prefix: str


_ATTEMPT = msgspec.json.Decoder(AttemptRecord)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where to build what.

    Attributes:
        destination: absolute path where the files belong in the end.
        scope: "" for a whole manifest, "00003-of-00016" for a shard.
        key: tells manifests apart that go to the same new destination.
        receipt_directory: for receipts and locks; None: `.dataflux` below the destination.
    """

    destination: str
    scope: str
    key: str
    receipt_directory: str | None = None

    @property
    def partial(self) -> str:
        """Directory beside a new destination."""
        return f"{self._partial_stem}{hashlib.sha256(self.key.encode()).hexdigest()[:16]}"

    @property
    def _partial_stem(self) -> str:
        parent, name = os.path.split(self.destination)
        return os.path.join(parent, f".{_shortened(name)}.dataflux-partial-")

    def partials(self, *suffixes: str) -> list[str]:
        """Return the partial directories for this destination that exist, or those with a suffix."""
        any_partial = glob.escape(self._partial_stem) + "[0-9a-f]" * 16
        return [path for suffix in suffixes or ("",) for path in glob.glob(any_partial + suffix)]


def _shortened(name: str) -> str:
    """Return a name short enough to get a suffix: a segment holds 255 bytes."""
    if len(os.fsencode(name)) <= 180:
        return name
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:32]


class Workspace(msgspec.Struct):
    """An opened and locked place. Use it in a `with` block.

    Attributes:
        place: what was opened.
        root: directory in which files are built now.
        new_tree: it is published as a whole.
        found_empty: nothing of a staging was in it before.
        tree: the open directory.
        stale: record of a killed attempt of this scope, if there is one.
        no_rename: why a new tree is built in place; "" if it is not, or there was one before.
    """

    place: Place
    root: str
    new_tree: bool
    found_empty: bool
    tree: DestinationTree
    _lock_fd: int
    stale: AttemptRecord | None = None
    no_rename: str = ""

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
        """Give a new tree its final name, in one step.

        Raises DestinationBusyError if another staging published one meanwhile: go on in place, nothing is lost.
        """
        if not self.new_tree:
            return
        destination = self.place.destination
        try:
            os.rename(self.root, destination)
        except OSError as error:
            if os.path.isdir(destination) and not os.path.islink(destination):
                raise DestinationBusyError(
                    f"Another staging made {destination} meanwhile. Run again: what this one fetched is kept.",
                    path=destination,
                ) from error
            raise DestinationError(
                f"The finished tree could not take its place at {destination}: {error.strerror}. Remove what is "
                "there, and run again: nothing is fetched twice.",
                path=destination,
            ) from error

    def _remove_fruitless(self) -> None:
        """Remove a partial tree in which nothing was put, unless it was published or has a record."""
        if _is_at(self.tree.root_fd, self.place.partial) and _read_record(self._lock_fd) is None:
            shutil.rmtree(self.place.partial, ignore_errors=True)

    def _write_record(self, data: bytes) -> None:
        try:
            os.pwrite(self._lock_fd, data, 0)
            os.ftruncate(self._lock_fd, len(data))
        except OSError as error:
            raise self.tree.failed(error, os.path.join(self.tree.own_path, lock_name(self.place.scope))) from error


def check_destination(destination: str) -> None:
    """Raise DestinationError unless `destination` is, or can become, a writable directory. Makes nothing."""
    existing = nearest_existing(destination)
    if not os.path.isdir(existing):
        raise DestinationError(f"{destination} cannot be a directory: {existing} is not one.", path=destination)
    space = os.statvfs(existing)
    if space.f_flag & os.ST_RDONLY:
        advice = advice_for(OSError(errno.EROFS, "read-only"), existing)
        raise DestinationError(
            f"{destination} is not writable: the file system of {existing} is mounted read-only.{advice}",
            path=destination,
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        advice = advice_for(PermissionError(errno.EACCES, "not writable"), existing)
        raise DestinationError(
            f"{destination} is not writable: this user may not write to {existing}.{advice}", path=destination
        )
    if space.f_blocks == 0:
        raise DestinationError(
            f"{destination} cannot hold files: the file system of {existing} has no space at all, as /proc and /sys "
            "have none. Choose another directory.",
            path=destination,
        )
    _check_lengths(destination, existing)


def check_own_files(place: Place, own_path: str) -> None:
    """Raise DestinationError if something stands where a staging puts a file or directory of its own. Makes nothing.

    A receipt is the last that a staging writes: a directory in its place would be noticed when everything was fetched.
    A link or a pipe in its place is replaced by it.
    """
    for name, fits in (
        ("", stat.S_ISDIR),
        (UNFINISHED, stat.S_ISDIR),
        (lock_name(place.scope), stat.S_ISREG),
        (progress_name(place.scope), stat.S_ISREG),
        (receipt_name(place.scope), lambda mode: not stat.S_ISDIR(mode)),
    ):
        path = os.path.join(own_path, name).rstrip("/")
        try:
            mode = (os.lstat(path) if name or place.receipt_directory is None else os.stat(path)).st_mode
        except OSError:
            continue  # there is nothing; or it cannot be reached, which is another error
        if not fits(mode):
            shown = path.replace(place.partial, place.destination, 1)
            needed = "a directory" if fits is stat.S_ISDIR else "a file"
            raise DestinationError(
                f"{shown} is {_kind_of(mode)}, and a staging needs {needed} of its own there. Nothing was fetched. "
                "Remove it if nobody needs it, or stage to another directory.",
                path=shown,
            )


def _kind_of(mode: int) -> str:
    """Return what a file of this mode is, for people."""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link", stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(mode), "not a regular file")


def _check_lengths(destination: str, existing: str) -> None:
    longest = max((len(os.fsencode(segment)) for segment in destination.split("/")), default=0)
    for length, limit, what in (
        (longest, limit_of(existing, "PC_NAME_MAX", 255), "a segment"),
        (len(os.fsencode(destination)), limit_of(existing, "PC_PATH_MAX", 4096) - 1, "a path"),
    ):
        if length > limit:
            raise DestinationError(
                f"The destination {destination[:100]}… has {what} of {length} bytes; the file system takes {limit}. "
                "Choose a shorter one.",
                path=destination,
            )


def limit_of(where: int | str, name: str, otherwise: int) -> int:
    """Return a limit of the file system of a path or descriptor, `otherwise` if it has none or does not tell."""
    try:
        found = os.pathconf(where, name)
    except (OSError, ValueError):
        return otherwise
    return found if found > 0 else otherwise


def nearest_existing(path: str) -> str:
    """Return the nearest path above `path`, or itself, that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def open_workspace(place: Place, cancel: CancelToken) -> Workspace:
    """Make, lock and open the directory to build in.

    Raises DestinationError if it cannot be made or written to, DestinationBusyError if another staging holds it for
    longer than a killed one's last seconds.
    """
    check_destination(place.destination)
    deadline = time.monotonic() + LOCK_WAIT_S
    no_rename = ""
    while True:
        new_tree = not place.scope and not no_rename and not os.path.lexists(place.destination)
        root = place.partial if new_tree else place.destination
        tree = _open_tree(root, place)
        if tree is None:
            continue  # published or removed between two system calls: look again
        lock_fd = -1
        try:
            lock_fd = _open_lock(tree, place.scope)
            _wait_for_lock(lock_fd, place.destination, deadline, cancel)
            found_empty = _is_empty(tree)
            published_meanwhile = new_tree and os.path.lexists(place.destination)
            if not published_meanwhile and _is_at(tree.root_fd, root):
                no_rename = _why_no_rename(root) if new_tree else no_rename
                if not (new_tree and no_rename):
                    check_own_files(place, tree.own_path)
                    tree.remove_left(place.scope)
                    stale = _read_record(lock_fd)
                    return Workspace(place, root, new_tree, found_empty, tree, lock_fd, stale, no_rename)
            if found_empty and new_tree and _is_at(tree.root_fd, root):
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


def _why_no_rename(partial: str) -> str:
    """Return why a finished tree could not be renamed, "" if it can: tried before anything is fetched.

    Object stores that are mounted as file systems, and some others, cannot rename directories.
    """
    before, after = _trial_paths(partial)
    try:
        os.makedirs(before, exist_ok=True)
        os.rename(before, after)
    except OSError as error:
        return f"directories cannot be renamed here ({error.strerror})"
    finally:
        _remove_trials(partial)
    return ""


def _open_tree(root: str, place: Place) -> DestinationTree | None:
    """Make and open a directory; None if it went away while that was done."""
    destination = place.destination
    try:
        os.makedirs(root, exist_ok=True)
    except OSError as error:
        if isinstance(error, FileExistsError) and not os.path.lexists(root):
            return None  # it existed at one system call and not at the next
        raise DestinationError(
            f"The directory {destination} cannot be made: {error.strerror}.{advice_for(error, os.path.dirname(root))}",
            path=destination,
        ) from error
    try:
        return DestinationTree(root, place.scope, place.receipt_directory, destination=destination)
    except DestinationError:
        if root != destination:
            with contextlib.suppress(OSError):
                os.rmdir(root)  # where it is empty: nothing was put there, and nobody works there
        raise
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DestinationError(
            f"{destination} cannot be written to: {error.strerror}.{advice_for(error, root)}", path=destination
        ) from error


def _is_empty(tree: DestinationTree) -> bool:
    """Return whether there is nothing but our own directory, and no receipt in that."""
    return not set(os.listdir(tree.root_fd)) - {OWN_DIRECTORY} and not receipt_names(tree.own_fd)


def lock_name(scope: str) -> str:
    """Return the name of a scope's lock below `.dataflux`."""
    return f"lock-{scope}" if scope else "lock"


def _open_lock(tree: DestinationTree, scope: str) -> int:
    name = lock_name(scope)
    try:
        return open_file(name, os.O_RDWR | os.O_CREAT, dir_fd=tree.own_fd)
    except OSError as error:
        raise tree.failed(error, os.path.join(tree.own_path, name)) from error


def _wait_for_lock(lock_fd: int, destination: str, deadline: float, cancel: CancelToken) -> None:
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return  # a file system without locks: go on without
            if time.monotonic() >= deadline:
                raise DestinationBusyError(
                    f"Another staging is at work in {destination} and did not end within {LOCK_WAIT_S:.0f} s. Run "
                    "again when it has ended; or give each run a destination of its own, such as one with "
                    "{{ run_id }} in it.",
                    path=destination,
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
        return _ATTEMPT.decode(os.pread(lock_fd, 1 << 16, 0))
    except (OSError, msgspec.DecodeError, RecursionError):
        return None


class AbandonedTree(msgspec.Struct, frozen=True, kw_only=True):
    """A tree that was begun for this destination and on which nobody works any more.

    Attributes:
        path: where it is.
        record: composites that may be left of it, None if there are none.
    """

    path: str
    record: AttemptRecord | None

    def remove(self) -> None:
        """Remove it, as far as that is possible."""
        shutil.rmtree(self.path, ignore_errors=True)


def abandoned_trees(workspace: Workspace, closing: contextlib.ExitStack) -> list[AbandonedTree]:
    """Return the abandoned trees of a destination but the one that is built in; locked until `closing` closes them."""
    found = []
    for trial in workspace.place.partials(*_TRIALS):
        partial = trial.rpartition("-")[0]
        if partial == workspace.root or not os.path.lexists(partial):
            _remove_trials(partial)
    for path in workspace.place.partials():
        if path == workspace.root:
            continue
        try:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                continue
            lock_fd = open_file(os.path.join(path, OWN_DIRECTORY, "lock"), os.O_RDWR)
        except OSError:
            if time.time() - _changed_at(path) > _NEWBORN_S:
                found.append(AbandonedTree(path=path, record=None))
            continue
        closing.callback(os.close, lock_fd)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # somebody works on it
        found.append(AbandonedTree(path=path, record=_read_record(lock_fd)))
        _remove_trials(path)
    return found


class AbandonedScope(msgspec.Struct, frozen=True, kw_only=True):
    """What a killed staging of another scope left, on which nobody works: its lock is held meanwhile.

    Attributes:
        scope: which one.
        record: composites that may be left of it, None if there are none.
    """

    scope: str
    record: AttemptRecord | None
    _tree: DestinationTree
    _lock_fd: int

    def clear(self) -> None:
        """Remove it: no composite of it is left."""
        files = ReceiptFiles(self._tree, self.scope)
        files.remove(progress_name(self.scope))
        files.remove_unnamed_objects()
        if self.record is not None:
            os.ftruncate(self._lock_fd, 0)


def abandoned_scopes(workspace: Workspace) -> Iterator[AbandonedScope]:
    """Yield the other scopes that this staging deals with and on which nobody works, each locked meanwhile.

    Those are shards of other divisions of the data, whose stagings may have been killed; nobody else comes for them.
    """
    tree, own = workspace.tree, workspace.place.scope
    for name in sorted(os.listdir(tree.own_fd)):
        match = _LOCK_NAME.fullmatch(name)
        if match is None or name == lock_name(own) or not is_accountable(own, scope := match[1] or ""):
            continue
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            lock_fd = open_file(name, os.O_RDWR, dir_fd=tree.own_fd)
            held.callback(os.close, lock_fd)
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if somebody works on it, or nobody can tell
            yield AbandonedScope(scope=scope, record=_read_record(lock_fd), _tree=tree, _lock_fd=lock_fd)


def _remove_trials(partial: str) -> None:
    """Remove what a staging that was killed while it tried to rename a directory left beside its tree."""
    for path in _trial_paths(partial):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _trial_paths(partial: str) -> tuple[str, str]:
    return partial + _TRIALS[0], partial + _TRIALS[1]


def _changed_at(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return time.time()
