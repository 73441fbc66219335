"""A manifest's files in Cloud Storage, through the Store: its credentials, retries, pacing and `user_project`.

Guarantees: an object is read at one generation and checked, so a file that is replaced meanwhile is never read half and
half. Each write names the generation that it replaces (0: none), so the store may send it again after an answer that
was lost.
Thread-safe, as the Store is.
"""

from __future__ import annotations

import secrets
import threading
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from airflow_dataflux.core.errors import (
    AuthenticationError,
    ManifestError,
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreError,
    UnavailableError,
)
from airflow_dataflux.core.gcs.hashes import crc32c_of
from airflow_dataflux.core.gcs.store import Body, ObjectVersion, PageRequest, Store
from airflow_dataflux.core.manifest.location import Location, check_is_index
from airflow_dataflux.core.ownobjects import MANIFEST_MARK

_WRITE_PERMISSIONS = ("storage.objects.create", "storage.objects.delete", "storage.objects.get")
"""Creating and reading parts, and replacing an earlier manifest."""


_CONTENT_TYPES = {
    "json": f"application/json; {MANIFEST_MARK}",
    "parquet": f"application/vnd.apache.parquet; {MANIFEST_MARK}",
    "html": f"text/html; charset=utf-8; {MANIFEST_MARK}",
}
"""The parameter tells listings of the bucket that these objects are no data."""

_READ_ATTEMPTS = 4
"""As often as a small body may break; opening a read has its own retries in the store."""

_WRITE_ATTEMPTS = 4
"""As often as somebody else may replace the object between our look at it and our write."""


class StoredFile(NamedTuple):
    """A file's content, and in a bucket the generation it was read at."""

    data: bytes
    generation: int | None = None


def check_size(location: Location, size: int | None, most_bytes: int | None) -> None:
    """Raise ManifestError if a file is larger than it may be, before it is read into memory."""
    if most_bytes is not None and (size or 0) > most_bytes:
        raise ManifestError(
            f"{location.uri} has {size} bytes, but such a file has at most {most_bytes}: it is not a file of a "
            "manifest. Check the URI, or list the bucket again.",
            uri=location.uri,
        )


class BucketFiles:
    """Objects of buckets.

    Args:
        store: None opens one with the default credentials on first use, and closes it with this object.
    """

    def __init__(self, store: Store | None) -> None:
        self._given = store
        self._lock = threading.Lock()

    @property
    def _store(self) -> Store:
        with self._lock:
            if self._given is None:
                from airflow_dataflux.core.gcs.auth import default_store_config, default_tokens
                from airflow_dataflux.core.gcs.http_store import open_store

                self._given = open_store(default_store_config(), default_tokens(), connections=8)
                weakref.finalize(self, self._given.close)
            return self._given

    def read(self, location: Location, most_bytes: int | None = None) -> StoredFile:
        """Return the whole object, checked by crc32c: two class B requests.

        A body that breaks, arrives wrong, or belongs to a generation that was replaced since we looked, is read again.
        Raises FileNotFoundError, ManifestError for an object of more than `most_bytes`, and what the store raises.
        """
        problem: Exception | None = None
        for _ in range(_READ_ATTEMPTS):
            try:
                row = self._store.stat(location.bucket, location.path).row
            except ObjectNotFoundError as error:
                raise FileNotFoundError(f"There is no object {location.uri}.") from error
            check_size(location, row.size, most_bytes)
            data = bytearray(row.size)
            try:
                with self._store.read(location.bucket, ObjectVersion(name=row.name, generation=row.generation)) as body:
                    problem = _fill(memoryview(data), body)
            except ObjectNotFoundError as error:
                # 1. stat saw a generation; 2. a writer replaced the object; 3. that generation is gone: look once more.
                problem = FileNotFoundError(f"There is no object {location.uri}: it is replaced again and again.")
                problem.__cause__ = error
                continue
            if problem is None and row.crc32c is not None and crc32c_of(bytes(data)) != row.crc32c:
                problem = ManifestError(
                    f"The bytes of {location.uri} arrived with a wrong crc32c. Run it again.", uri=location.uri
                )
            if problem is None:
                return StoredFile(bytes(data), row.generation)
        raise problem or FileNotFoundError(location.uri)

    def create(self, location: Location, data: bytes) -> None:
        """Create the object: one class A request. Raises PreconditionFailedError if there is another."""
        self.replace(location, data, None)

    def replace(self, location: Location, data: bytes, seen: int | None) -> None:
        """Put the object in the place of its generation `seen`, None if there was none: one class A request.

        Raises PreconditionFailedError if something else is there now.
        """
        kind = _CONTENT_TYPES.get(location.path.rpartition(".")[2], "application/octet-stream")
        self._store.upload(location.bucket, location.path, data, content_type=kind, if_generation_match=seen or 0)

    def write(self, location: Location, data: bytes) -> None:
        """Create or replace the object, whatever is there: one class A and one class B request."""
        for attempt in range(1, _WRITE_ATTEMPTS + 1):
            try:
                seen: int | None = self._store.stat(location.bucket, location.path).row.generation
            except ObjectNotFoundError:
                seen = None
            try:
                self.replace(location, data, seen)
                break
            except PreconditionFailedError:
                if attempt == _WRITE_ATTEMPTS:
                    raise

    def delete(self, location: Location) -> None:
        """Delete the object as it is now; one that is gone already is success."""
        store = self._store
        try:
            row = store.stat(location.bucket, location.path).row
        except ObjectNotFoundError:
            return
        store.delete(location.bucket, ObjectVersion(name=row.name, generation=row.generation))

    def names(self, location: Location) -> Iterator[str]:
        """Yield the names of the objects directly below the prefix: one class A request per page."""
        prefix = location.path + "/" if location.path else ""
        request = PageRequest(prefix=prefix)
        while True:
            page = self._store.list_page(location.bucket, request)
            for name in page.rows.column("name").to_pylist():
                if "/" not in name[len(prefix) :]:
                    yield name[len(prefix) :]
            if page.next_page_token is None:
                return
            request = PageRequest(prefix=prefix, page_token=page.next_page_token)

    def check_replaceable(self, location: Location) -> None:
        """Raise ManifestError for an object that a hold or a retention policy keeps, or that is no index.

        One class B request; another one for an index that was written without its content type.
        """
        try:
            found = self._store.stat(location.bucket, location.path)
        except (ObjectNotFoundError, PermissionDeniedError):
            return  # there is nothing to replace, or writing will tell
        if found.held:
            why = "is under a hold"
        elif found.retained_until is not None and found.retained_until > datetime.now(UTC):
            why = f"is kept by the bucket's retention policy until {found.retained_until.isoformat()}"
        else:
            if not (found.row.content_type or "").endswith(MANIFEST_MARK):
                check_is_index(self.read(location, None).data, location.uri)
            return
        raise ManifestError(
            f"{location.uri} cannot be replaced: it {why}. Nothing was listed. Give each run a manifest_uri of its "
            "own, such as one with {{ run_id }} in it, or a bucket without holds and retention.",
            uri=location.uri,
        )

    def check_writable(self, location: Location) -> None:
        """Ask for the permissions that a manifest needs: one class B request. Raises PermissionDeniedError.

        Where nobody answers that question, a small object is written and deleted instead.
        """
        try:
            held = self._store.test_permissions(location.bucket, _WRITE_PERMISSIONS)
        except AuthenticationError:
            raise
        except StoreError as error:
            if error.retryable and error.status != 501:  # an emulator may not know the question
                raise
            probe = location.below(f".writable-{secrets.token_hex(6)}")
            self.create(probe, b"")
            self.delete(probe)
            return
        missing = [permission for permission in _WRITE_PERMISSIONS if permission not in held]
        if missing:
            raise PermissionDeniedError(
                f"Cannot write a manifest to {location.uri}: the caller lacks {', '.join(missing)} on "
                f"gs://{location.bucket}. Grant them (roles/storage.objectUser has all), or choose "
                "another manifest_uri.",
                operation="test_permissions",
                resource=f"gs://{location.bucket}",
                status=403,
                reason="missing permission",
            )


def _fill(buffer: memoryview, body: Body) -> UnavailableError | None:
    """Fill `buffer` from `body`; return why it could not be filled, None if it was."""
    received = 0
    try:
        while received < len(buffer):
            count = body.readinto(buffer[received:])
            if count == 0:
                return UnavailableError(f"A body ended after {received} of {len(buffer)} bytes.", operation="read")
            received += count
    except UnavailableError as error:
        return error
    return None
