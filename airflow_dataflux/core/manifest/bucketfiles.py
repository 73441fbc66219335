"""A manifest's files in Cloud Storage, through the Store: its credentials, retries, pacing and `user_project`.

Guarantee: an object is read at one generation and checked, so a file that is replaced meanwhile is never read half and
half.
Thread-safe, as the Store is.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

from airflow_dataflux.core.errors import ManifestError, ObjectNotFoundError, PermissionDeniedError, UnavailableError
from airflow_dataflux.core.gcs.hashes import crc32c_of
from airflow_dataflux.core.gcs.store import Body, ObjectVersion, PageRequest, Store
from airflow_dataflux.core.manifest.location import Location

_WRITE_PERMISSIONS = ("storage.objects.create", "storage.objects.delete", "storage.objects.get")
"""Creating and reading parts, and replacing an earlier manifest."""


_CONTENT_TYPES = {
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "html": "text/html; charset=utf-8",
}

_READ_ATTEMPTS = 4
"""As often as a small body may break; opening a read has its own retries in the store."""


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
                from airflow_dataflux.core.gcs.client import open_store

                self._given = open_store(default_store_config(), default_tokens(), connections=8)
                weakref.finalize(self, self._given.close)
            return self._given

    def read(self, location: Location) -> bytes:
        """Return the whole object, checked by crc32c: two class B requests.

        A body that breaks, arrives wrong, or belongs to a generation that was replaced since we looked, is read again.
        Raises FileNotFoundError, and what the store raises.
        """
        problem: Exception | None = None
        for _ in range(_READ_ATTEMPTS):
            try:
                row = self._store.stat(location.bucket, location.path).row
            except ObjectNotFoundError as error:
                raise FileNotFoundError(f"There is no object {location.uri}.") from error
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
                problem = ManifestError(f"{location.uri} arrived with another crc32c than stored.", uri=location.uri)
            if problem is None:
                return bytes(data)
        raise problem or FileNotFoundError(location.uri)

    def write(self, location: Location, data: bytes) -> None:
        """Create or replace the object: one class A request."""
        kind = _CONTENT_TYPES.get(location.path.rpartition(".")[2], "application/octet-stream")
        self._store.upload(location.bucket, location.path, data, content_type=kind)

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

    def check_writable(self, location: Location) -> None:
        """Ask for the permissions that a manifest needs: one class B request. Raises PermissionDeniedError."""
        held = self._store.test_permissions(location.bucket, _WRITE_PERMISSIONS)
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
