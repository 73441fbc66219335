"""A manifest's files in Cloud Storage, through the Store: its credentials, retries, pacing and `user_project`.

Guarantee: an object is read at one generation, so a file that is replaced meanwhile is never read half and half.
Thread-safe, as the Store is.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

from airflow_dataflux.core.errors import ManifestError, ObjectNotFoundError, PermissionDeniedError
from airflow_dataflux.core.gcs.store import ObjectVersion, PageRequest, Store
from airflow_dataflux.core.manifest.location import Location

_WRITE_PERMISSIONS = ("storage.objects.create", "storage.objects.delete", "storage.objects.get")
"""Creating and reading parts, and replacing an earlier manifest."""


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

                self._given = open_store(default_store_config(), default_tokens(), connections=4)
                weakref.finalize(self, self._given.close)
            return self._given

    def read(self, location: Location) -> bytes:
        """Return the whole object: two class B requests. Raises FileNotFoundError, and what the store raises."""
        for attempt in (1, 2):
            try:
                return self._read_once(location)
            except ObjectNotFoundError as error:
                # 1. stat saw a generation; 2. a writer replaced the object; 3. that generation is gone: look once more.
                if attempt == 2:
                    raise FileNotFoundError(f"There is no object {location.uri}.") from error
        raise FileNotFoundError(location.uri)  # pragma: no cover - the loop always returns or raises

    def _read_once(self, location: Location) -> bytes:
        store = self._store
        row = store.stat(location.bucket, location.path).row
        data = bytearray(row.size)
        received = 0
        with store.read(location.bucket, ObjectVersion(name=row.name, generation=row.generation)) as body:
            while received < row.size:
                count = body.readinto(memoryview(data)[received:])
                if not count:
                    break
                received += count
        if received != row.size:
            raise ManifestError(
                f"Reading {location.uri} ended after {received} of {row.size} bytes. Try again.", uri=location.uri
            )
        return bytes(data)

    def write(self, location: Location, data: bytes) -> None:
        """Create or replace the object: one class A request."""
        kind = "application/json" if location.path.endswith(".json") else "application/vnd.apache.parquet"
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
