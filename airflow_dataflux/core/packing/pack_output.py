"""Where a pack is written: an absolute local directory, or a prefix of a bucket.

Guarantees: a shard appears whole or not at all, in place of the one that was seen there before and of no other; what
is not finished leaves nothing that could be taken for a shard. Small files (records, index) are written as manifests'
files are. Thread-safe; a `ShardFile` belongs to one thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Protocol

import msgspec

from airflow_dataflux.core.errors import (
    DestinationError,
    InvalidRequestError,
    ObjectNotFoundError,
    PackError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreError,
)
from airflow_dataflux.core.gcs.store import ObjectUpload, ObjectVersion, Store
from airflow_dataflux.core.manifest import ManifestFiles
from airflow_dataflux.core.packing.pack_index import RECORD_DIRECTORY, ShardRecord
from airflow_dataflux.core.staging.checksum import extend
from airflow_dataflux.core.staging.localfile import DestinationTree, PendingFile, TreeWriter

CONTENT_TYPE = "application/x-tar"
DIGEST_KEY = "dataflux-pack-shard"
"""Custom metadata of a shard in a bucket: the digest of what it holds."""

_CONTENT_TYPES = {"json": "application/json"}
_WRITE_ATTEMPTS = 4
"""Two tasks that find the same shard missing write the same record: one of them looks again."""

_PERMISSIONS = ("storage.objects.create", "storage.objects.get")
_READ_BYTES = 1 << 20


class FoundShard(msgspec.Struct, frozen=True, kw_only=True):
    """What lies where a shard belongs.

    Attributes:
        archive_bytes: its length.
        crc32c: of its bytes; None where that has to be read.
        digest: what its metadata says of it; None for a local file.
        file: time of change (ns) and inode of a local file.
        generation: of an object.
    """

    archive_bytes: int
    crc32c: int | None = None
    digest: str | None = None
    file: tuple[int, int] | None = None
    generation: int = 0


class ShardFile(Protocol):
    """A shard that is being written. Use it in a `with` block: without `publish`, nothing appears."""

    def __enter__(self) -> ShardFile: ...
    def __exit__(self, *_exc: object) -> None: ...

    def append(self, data: bytes) -> None:
        """Take the next bytes."""
        ...

    def identity(self) -> tuple[int, int] | None:
        """Return, after the last byte, what will tell the file from any other; None for an object."""
        ...

    def publish(self, crc32c: int) -> None:
        """Make it appear. Raises PreconditionFailedError if somebody else wrote there meanwhile."""
        ...


class PackOutput:
    """One pack's place."""

    def __init__(self, output: str, store: Store) -> None:
        """`store` is used for `gs://` only. Raises InvalidRequestError for anything but the two kinds of places."""
        self._store = store
        self._files = ManifestFiles(store)
        self.bucket, self._prefix = "", ""
        if output.startswith("gs://"):
            self.bucket, _, prefix = output.removeprefix("gs://").partition("/")
            prefix = prefix.strip("/")
            self._prefix = f"{prefix}/" if prefix else ""
            self.uri = f"gs://{self.bucket}/{self._prefix}"
        else:
            self.directory = os.path.normpath(output.removeprefix("file://"))
            if self.directory == "/":
                raise InvalidRequestError("output is the root of the file system: a pack needs a directory of its own.")
            self.uri = f"file://{self.directory}/"
        self._tree: DestinationTree | None = None

    @property
    def is_local(self) -> bool:
        """Whether shards are files of this machine."""
        return not self.bucket

    def request_counts(self) -> dict[str, int]:
        """Return how many requests its store has sent so far, by their price."""
        return msgspec.structs.asdict(self._store.counts())

    def uri_of(self, name: str) -> str:
        """Return the URI of a file of the pack."""
        return self.uri + name

    def prepare(self) -> None:
        """Make the directory, or ask for the permissions, before any work is done for them.

        Raises DestinationError, PermissionDeniedError, BucketNotFoundError.
        """
        if self.is_local:
            try:
                os.makedirs(self.directory, exist_ok=True)
                self._tree = DestinationTree(self.directory)
                self._tree.remove_left()
            except OSError as error:
                raise DestinationError(
                    f"The pack cannot be written to {self.directory}: {error.strerror}. Choose another output.",
                    path=self.directory,
                ) from error
            return
        try:
            held = self._store.test_permissions(self.bucket, _PERMISSIONS)
        except StoreError as error:
            if error.details.get("status") not in (403, 404, 405, 501):
                raise
            return  # nobody answers that question here: the first shard will tell
        missing = [permission for permission in _PERMISSIONS if permission not in held]
        if missing:
            raise PermissionDeniedError(
                f"The pack cannot be written to {self.uri}: the caller lacks {', '.join(missing)} on "
                f"gs://{self.bucket}. Grant them (roles/storage.objectUser has all), or choose another output.",
                operation="test permissions",
                resource=self.uri,
                status=403,
                reason="missing permission",
            )

    def close(self) -> None:
        """Close the directory."""
        if self._tree is not None:
            self._tree.close()
            self._tree = None

    def read(self, name: str) -> bytes | None:
        """Return a small file, None if there is none."""
        try:
            return self._files.read(self.uri_of(name))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Create or replace a small file (gs: one request of class A, one of class B)."""
        if self.is_local:
            # As shards are: a file of a killed process has no name, and so is not left.
            with self.begin(name, "", None) as file:
                file.append(data)
                file.publish(0)
            return
        # Not as a manifest's file: those are left out of listings, and these belong to the data.
        kind = _CONTENT_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
        for attempts_left in reversed(range(_WRITE_ATTEMPTS)):
            found = self.find(name)
            try:
                self._store.upload(
                    self.bucket,
                    self._prefix + name,
                    data,
                    content_type=kind,
                    if_generation_match=found.generation if found else 0,
                )
            except PreconditionFailedError:
                if attempts_left == 0:
                    raise
            else:
                return

    def write_own(self, name: str, data: bytes) -> None:
        """Create or replace a small file that is no data: a listing leaves it out (gs: as many requests as `write`)."""
        if self.is_local:
            self.write(name, data)
        else:
            self._files.write(self.uri_of(name), data)

    def names(self, directory: str) -> list[str]:
        """Return the names of the files that lie directly in a directory of the pack (gs: one class A request)."""
        return self._files.names(self.uri_of(directory))

    def delete(self, name: str) -> None:
        """Delete a small file; one that is gone already is success."""
        self._files.delete(self.uri_of(name))

    def record_names(self) -> list[str]:
        """Return the names of the records, of this pack and of earlier ones, that lie directly in their directory."""
        return self.names(RECORD_DIRECTORY)

    def find(self, name: str) -> FoundShard | None:
        """Look at what is there under a shard's name (gs: one class B request)."""
        if self.is_local:
            try:
                status = os.lstat(os.path.join(self.directory, name))
            except (FileNotFoundError, NotADirectoryError):
                return None
            return FoundShard(archive_bytes=status.st_size, file=(status.st_mtime_ns, status.st_ino))
        try:
            stored = self._store.stat(self.bucket, self._prefix + name)
        except ObjectNotFoundError:
            return None
        return FoundShard(
            archive_bytes=stored.row.size,
            crc32c=stored.row.crc32c,
            digest=stored.metadata.get(DIGEST_KEY),
            generation=stored.row.generation,
        )

    def check_place(self, name: str) -> None:
        """Raise DestinationError if something stands at a local file's place that is no file, or in its way."""
        if not self.is_local:
            return
        segments = name.split("/")
        for depth in range(1, len(segments) + 1):
            place = os.path.join(self.directory, *segments[:depth])
            is_file = depth == len(segments)
            try:
                mode = (os.stat(place) if is_file else os.lstat(place)).st_mode
            except OSError:
                return  # there is nothing; or it cannot be reached, which is another error
            if not (stat.S_ISREG(mode) if is_file else stat.S_ISDIR(mode)):
                raise DestinationError(
                    f"{place} is not {'a regular file' if is_file else 'a directory'}, and a pack needs one there. "
                    "Give the pack an output of its own, or remove what is there if nobody needs it.",
                    path=place,
                )

    def is_right(self, found: FoundShard, record: ShardRecord) -> bool:
        """Return whether what was found is the shard that a record tells of. A local file that was touched is read."""
        if found.archive_bytes != record.archive_bytes:
            return False
        if not self.is_local:
            return found.crc32c == record.crc32c and found.digest == record.digest
        return found.file == record.file or self._crc32c(record.name) == record.crc32c

    def begin(self, name: str, digest: str, found: FoundShard | None, *, content_type: str = CONTENT_TYPE) -> ShardFile:
        """Begin to write a shard, or another large file, in place of what was found."""
        if self.is_local:
            if self._tree is None:
                raise RuntimeError("prepare() comes first")
            return _LocalShard(self._tree, name)

        def begin() -> ObjectUpload:
            return self._store.begin_upload(
                self.bucket,
                self._prefix + name,
                content_type=content_type,
                metadata={DIGEST_KEY: digest},
                if_generation_match=found.generation if found else 0,
            )

        return _BucketShard(self._store, self.bucket, begin)

    def _crc32c(self, name: str) -> int | None:
        crc = 0
        try:
            with open(os.path.join(self.directory, name), "rb") as file:
                while data := file.read(_READ_BYTES):
                    crc = extend(crc, data)
        except OSError:
            return None
        return crc


class _LocalShard:
    """A file that gets its name at the end."""

    def __init__(self, tree: DestinationTree, name: str) -> None:
        self._writer = TreeWriter(tree)
        try:
            self._file: PendingFile = self._writer.begin(name)
        except BaseException:
            self._writer.__exit__()
            raise

    def __enter__(self) -> _LocalShard:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()
        self._writer.__exit__()

    def append(self, data: bytes) -> None:
        self._file.append(data)

    def identity(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_mtime_ns, status.st_ino

    def publish(self, crc32c: int) -> None:
        del crc32c  # of the very bytes that were written
        self._file.publish()


class _BucketShard:
    """An object that appears when its resumable upload is finished."""

    def __init__(self, store: Store, bucket: str, begin: Callable[[], ObjectUpload]) -> None:
        self._store = store
        self._bucket = bucket
        self._upload: ObjectUpload | None = begin()

    def __enter__(self) -> _BucketShard:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._upload is not None:
            self._upload.abandon()

    def append(self, data: bytes) -> None:
        if self._upload is not None:
            self._upload.append(data)

    def identity(self) -> None:
        return None

    def publish(self, crc32c: int) -> None:
        if self._upload is None:
            return
        upload, self._upload = self._upload, None
        try:
            made = upload.finish(crc32c)
        except PreconditionFailedError:
            raise
        except BaseException:
            upload.abandon()
            raise
        if made.row.crc32c != crc32c:
            # Cloud Storage was told the checksum and should have refused; what it made is ours alone, and wrong.
            self._store.delete(self._bucket, ObjectVersion(name=made.row.name, generation=made.row.generation))
            raise PackError(
                f"gs://{self._bucket}/{made.row.name} arrived with crc32c {made.row.crc32c}, {crc32c} was sent. It was "
                "deleted again; run again.",
                resource=f"gs://{self._bucket}/{made.row.name}",
            )
