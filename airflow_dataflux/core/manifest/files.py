"""Whole small files by URI: what a manifest needs of the place it lives in.

Guarantees: a file appears whole or not at all (temporary file and rename locally, one upload on object stores);
writing creates missing directories; reading what is not there raises FileNotFoundError for every scheme, and deleting
it is success. Each write to `gs://` names the generation that it replaces, so it is safe to repeat, and is repeated by
the store's retry policy: an answer that was lost is no failure. Assumptions: files are small (a part is about half a
MiB), so they are read and written in one piece.
Nothing is synced to the platter: a damaged part is found when it is read, because the index has its hash. Thread-safe.

A writer that is killed leaves a local temporary file. It is locked (flock(2)) while it is written, and its name begins
with the machine's digits. So `remove_left` knows which ones are left over: those of this machine that can be locked;
of other machines, whose locks may not be seen here, those that were not written to for a day either.

`gs://` goes through the Store, so that credentials, retries, pacing and `user_project` are the ones of the listing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Protocol

from airflow_dataflux.core.errors import InvalidRequestError, ManifestError
from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.manifest.bucket_files import BucketFiles, StoredFile, check_size
from airflow_dataflux.core.manifest.location import INDEX_HEAD_BYTES, Location, check_is_index, parse_location
from airflow_dataflux.core.runtime.machine import machine_id

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_TEMPORARY = re.compile(
    r"\.(?:(?P<machine>[0-9a-f]{16})-)?[0-9a-f]{12}\."
    r"(?:manifest\.json|part-.+\.parquet|\d{8}T\d{6}Z-.+\.html|\.writable-[0-9a-f]{12})\.tmp",
    re.DOTALL,
)
"""What temporary files of ours are called; earlier versions did not name the machine."""

_PROBE = re.compile(r"\.writable-[0-9a-f]{12}")

_DAY_S = 86400.0
"""No write takes so long."""


class _Backend(Protocol):
    def read(self, location: Location, most_bytes: int | None) -> StoredFile: ...
    def create(self, location: Location, data: bytes) -> None: ...
    def replace(self, location: Location, data: bytes, seen: int | None) -> None: ...
    def write(self, location: Location, data: bytes) -> None: ...
    def check_replaceable(self, location: Location) -> None: ...
    def delete(self, location: Location) -> None: ...
    def names(self, location: Location) -> Iterator[str]: ...
    def check_writable(self, location: Location) -> None: ...


class ManifestFiles:
    """Reads and writes whole files by URI.

    Args:
        store: where `gs://` URIs are read and written; None opens one with the default credentials when the first
            `gs://` URI is used, and closes it with this object.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._local = _LocalFiles()
        self._other = _OtherFiles()
        self._bucket = BucketFiles(store)

    def read(self, uri: str, *, most_bytes: int | None = None) -> bytes:
        """Return the whole content (gs: two class B requests).

        Raises ManifestError, before anything is read, if the file is larger than `most_bytes`; FileNotFoundError; and
        what the place raises.
        """
        location = parse_location(uri)
        return self._backend(location).read(location, most_bytes).data

    def find(self, uri: str, *, most_bytes: int | None = None) -> StoredFile | None:
        """Return the file as it is now; None if there is none. Otherwise as `read`."""
        location = parse_location(uri)
        try:
            return self._backend(location).read(location, most_bytes)
        except FileNotFoundError:
            return None

    def create(self, uri: str, data: bytes) -> None:
        """Create a file whose name nobody else uses (gs: one class A request).

        Raises PreconditionFailedError if an object of that name and other content is there, and what the place raises.
        """
        location = parse_location(uri)
        self._backend(location).create(location, data)

    def replace(self, uri: str, data: bytes, seen: StoredFile | None) -> None:
        """Put the file in the place of what `find` returned (gs: one class A request).

        Raises PreconditionFailedError if something else is there now (gs only), and what the place raises.
        """
        location = parse_location(uri)
        self._backend(location).replace(location, data, None if seen is None else seen.generation)

    def write(self, uri: str, data: bytes) -> None:
        """Create or replace the file, whatever is there (gs: one class A and one class B request)."""
        location = parse_location(uri)
        self._backend(location).write(location, data)

    def delete(self, uri: str) -> None:
        """Delete the file; one that is gone already is success."""
        location = parse_location(uri)
        self._backend(location).delete(location)

    def names(self, uri: str) -> list[str]:
        """Return the sorted names of the files directly in the directory `uri`; empty if there is no such directory."""
        location = parse_location(uri)
        return sorted(self._backend(location).names(location))

    def check_writable(self, uri: str) -> None:
        """Prove that files can be written below the directory `uri`, before any work is done for them.

        Raises ManifestError or PermissionDeniedError, and for a missing bucket what the store raises.
        """
        location = parse_location(uri)
        self._backend(location).check_writable(location)

    def remove_left(self, uri: str) -> None:
        """Remove temporary files that killed writers left directly in the directory `uri`. Never raises.

        There are none in buckets.
        """
        location = parse_location(uri)
        if location.scheme == "file":
            self._local.remove_left(location)

    def check_replaceable(self, uri: str) -> None:
        """Prove that the index of a manifest may be replaced, if there is one (gs: one class B request).

        Raises ManifestError if it is under a hold or a retention policy, is no index or no file; InvalidRequestError
        if there is no file system for the scheme; and what the store raises.
        """
        location = parse_location(uri)
        self._backend(location).check_replaceable(location)

    def _backend(self, location: Location) -> _Backend:
        if location.scheme == "file":
            return self._local
        return self._bucket if location.scheme == "gs" else self._other


def open_file(name: str, flags: int = os.O_RDONLY, *, dir_fd: int | None = None, follow_symlinks: bool = False) -> int:
    """Open a regular file; `flags` may create it.

    Raises OSError, ENXIO for anything else: a pipe in its place would be waited for, and a device read, without end.
    """
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_symlinks else os.O_NOFOLLOW)
    descriptor = os.open(name, flags, 0o666, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENXIO, "it is not a regular file", name)
    return descriptor


def _open_linked(path: str, flags: int) -> int:
    return open_file(path, flags, follow_symlinks=True)


class _LocalFiles:
    """Files of this machine, or of a file system that every worker mounts."""

    def read(self, location: Location, most_bytes: int | None) -> StoredFile:
        try:
            with open(location.path, "rb", opener=_open_linked) as file:
                check_size(location, os.fstat(file.fileno()).st_size, most_bytes)
                return StoredFile(file.read())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ManifestError(f"Cannot read {location.uri}: {error.strerror or error}.", uri=location.uri) from error

    def create(self, location: Location, data: bytes) -> None:
        self.write(location, data)

    def replace(self, location: Location, data: bytes, seen: int | None) -> None:
        self.write(location, data)

    def check_replaceable(self, location: Location) -> None:
        try:
            with open(location.path, "rb", opener=_open_linked) as file:
                check_is_index(file.read(INDEX_HEAD_BYTES), location.uri)
        except (FileNotFoundError, PermissionError):
            return  # there is nothing to replace, or writing will tell
        except OSError as error:
            raise ManifestError(
                f"{location.uri} cannot become the index of a manifest: {error.strerror or error}. Give the manifest "
                "a directory of its own as manifest_uri, or remove what is there if nobody needs it.",
                uri=location.uri,
            ) from error

    def write(self, location: Location, data: bytes) -> None:
        directory, name = os.path.split(location.path)
        # Short, so that it fits where the final name does; random, so that two writers never share it.
        temporary = os.path.join(directory, f".{machine_id()}-{secrets.token_hex(6)}.{name[:200]}.tmp")
        try:
            os.makedirs(directory, exist_ok=True)
            try:
                with _open_locked(temporary) as file:
                    file.write(data)
                    file.flush()
                    os.replace(temporary, location.path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as error:
            raise ManifestError(
                f"Cannot write {location.uri}: {error.strerror or error}. Choose a manifest_uri that every worker can "
                "write, or free space there.",
                uri=location.uri,
            ) from error

    def delete(self, location: Location) -> None:
        try:
            os.unlink(location.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ManifestError(
                f"Cannot delete {location.uri}: {error.strerror or error}.", uri=location.uri
            ) from error

    def names(self, location: Location) -> Iterator[str]:
        try:
            with os.scandir(location.path) as entries:
                yield from (entry.name for entry in entries if entry.is_file())
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise ManifestError(f"Cannot read {location.uri}: {error.strerror or error}.", uri=location.uri) from error

    def remove_left(self, location: Location) -> None:
        try:
            with os.scandir(location.path) as entries:
                names = [entry.name for entry in entries]
        except OSError:
            return
        for name in names:
            path, match = os.path.join(location.path, name), _TEMPORARY.fullmatch(name)
            with contextlib.suppress(OSError):
                if match is not None:
                    _remove_if_left(path, here=match["machine"] == machine_id())
                elif _PROBE.fullmatch(name) and not os.lstat(path).st_size:
                    _remove_if_left(path, here=False)

    def check_writable(self, location: Location) -> None:
        probe = location.below(f".writable-{secrets.token_hex(6)}")
        self.write(probe, b"")
        self.delete(probe)


def _open_locked(path: str) -> IO[bytes]:
    """Create a file, locked until it is closed."""
    while True:
        file = open(path, "xb")  # noqa: SIM115 - the caller closes it
        try:
            with contextlib.suppress(OSError):  # a file system without locks: nobody takes it for left over, then
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # it was taken for left over before it was locked, and removed


def _remove_if_left(path: str, *, here: bool) -> None:
    """Remove a temporary file that nobody writes any more. Raises OSError for others, and those of unknown state."""
    descriptor = open_file(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if here or time.time() - os.fstat(descriptor).st_mtime > _DAY_S:
            os.unlink(path)
    finally:
        os.close(descriptor)


class _OtherFiles:
    """Any other scheme, through fsspec and the package it names for the scheme."""

    def read(self, location: Location, most_bytes: int | None) -> StoredFile:
        files, path = self._open(location)
        try:
            if most_bytes is not None:
                files.invalidate_cache(path)
                check_size(location, files.size(path), most_bytes)
            return StoredFile(bytes(files.cat_file(path)))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"There is no file {location.uri}.") from error
        except OSError as error:
            raise ManifestError(f"Cannot read {location.uri}: {error}.", uri=location.uri) from error

    def create(self, location: Location, data: bytes) -> None:
        self.write(location, data)

    def replace(self, location: Location, data: bytes, seen: int | None) -> None:
        self.write(location, data)

    def check_replaceable(self, location: Location) -> None:
        files, path = self._open(location)
        try:
            files.invalidate_cache(path)
            check_is_index(bytes(files.cat_file(path, start=0, end=INDEX_HEAD_BYTES)), location.uri)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ManifestError(f"Cannot read {location.uri}: {error}.", uri=location.uri) from error

    def write(self, location: Location, data: bytes) -> None:
        files, path = self._open(location)
        try:
            with contextlib.suppress(NotImplementedError):
                files.makedirs(path.rpartition("/")[0], exist_ok=True)
            files.pipe_file(path, data)
        except OSError as error:
            raise ManifestError(f"Cannot write {location.uri}: {error}.", uri=location.uri) from error

    def delete(self, location: Location) -> None:
        files, path = self._open(location)
        with contextlib.suppress(FileNotFoundError):
            files.rm_file(path)

    def names(self, location: Location) -> Iterator[str]:
        files, path = self._open(location)
        files.invalidate_cache(path)
        with contextlib.suppress(FileNotFoundError):
            for entry in files.ls(path, detail=True):
                if entry["type"] == "file":
                    yield str(entry["name"]).rpartition("/")[2]

    def check_writable(self, location: Location) -> None:
        probe = location.below(f".writable-{secrets.token_hex(6)}")
        self.write(probe, b"")
        self.delete(probe)

    def _open(self, location: Location) -> tuple[AbstractFileSystem, str]:
        from fsspec.core import url_to_fs

        try:
            found: tuple[Any, str] = url_to_fs(location.uri)
        except (ValueError, ImportError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise InvalidRequestError(
                f"{location.uri!r}: there is no file system for {location.scheme}:// ({reason}). Install the fsspec "
                "package for it on every worker, or use gs:// or file://.",
                uri=location.uri,
            ) from error
        return found
