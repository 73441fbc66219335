"""The whole boundary between this project and Cloud Storage.

`Store` is what listing, staging and the manifest may ask for; `core/gcs/client.py` answers over HTTP. Every method
is thread-safe, retries by the one policy of `core/gcs/retry.py`, and raises only errors of `core/errors.py`:
BucketNotFoundError, PermissionDeniedError, AuthenticationError, ObjectNotFoundError, PreconditionFailedError,
ThrottledError, UnavailableError, StoreError (anything else), CancelledError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import msgspec

from airflow_dataflux.core.model import Row

if TYPE_CHECKING:
    import pyarrow as pa

MAX_COMPONENTS = 32
"""Most sources of one compose (https://cloud.google.com/storage/docs/composite-objects)."""


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One objects.list call.

    Attributes:
        prefix: only names with this prefix.
        start: first name, inclusive, in UTF-8 byte order; empty: from the beginning.
        end: first name that is not wanted any more; None: to the end.
        page_token: cursor of the previous page of *the same* request.
        match_glob: server-side glob.
        max_results: most rows the server may answer with; None leaves it to the server.
    """

    prefix: str = ""
    start: str = ""
    end: str | None = None
    page_token: str | None = None
    match_glob: str | None = None
    max_results: int | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of objects.list: `rows` in `ROW_SCHEMA`, sorted; the listing goes on while there is a token."""

    rows: pa.RecordBatch
    next_page_token: str | None


class ObjectVersion(msgspec.Struct, frozen=True, kw_only=True):
    """An object pinned to one content."""

    name: str
    generation: int


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object's metadata as one request answered it: the row, and the custom metadata."""

    row: Row
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)


class BucketInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a bucket's settings mean for temporary objects.

    Attributes:
        name, location, location_type, storage_class: as Cloud Storage reports them.
        versioning: deleted objects stay as noncurrent versions.
        soft_delete_s: how long a deleted object is kept and billed; 0 if soft delete is off.
        retention_s: retention policy; an object cannot be deleted before this age; 0 if there is none.
        default_event_based_hold: new objects are held.
        autoclass: Cloud Storage moves objects between classes itself.
        requester_pays: requests need a `user_project`.
        hierarchical_namespace: folders are real, request rates are higher.
    """

    name: str
    location: str = "US"
    location_type: str = "multi-region"
    storage_class: str = "STANDARD"
    versioning: bool = False
    soft_delete_s: int = 0
    retention_s: int = 0
    default_event_based_hold: bool = False
    autoclass: bool = False
    requester_pays: bool = False
    hierarchical_namespace: bool = False


class Body(Protocol):
    """The bytes of one read, as they arrive.

    Attributes:
        crc32c: CRC32C of the *whole* object from the response header, also on a ranged read; None if not sent.
        length: how many bytes this read will deliver, None if the server did not say.
    """

    crc32c: int | None
    length: int | None

    def readinto(self, buffer: memoryview) -> int:
        """Put what comes next at the front of `buffer` and return how many bytes came; 0 only at the end of the body.

        That may be less than `buffer` holds, although more will come.

        Raises UnavailableError if the connection breaks or the body ends before `length`.
        """
        ...

    def chunks(self, chunk_bytes: int = 1 << 18) -> Iterator[bytes]:
        """Yield the rest of the body in pieces of `chunk_bytes`, the last one shorter.

        A body that breaks off is yielded as far as it came, and then raises as `readinto` does.
        """
        ...


class DeleteFailure(msgspec.Struct, frozen=True, kw_only=True):
    """One object that a batch could not delete. An object that is gone already is not a failure."""

    version: ObjectVersion
    reason: str


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Requests sent so far, retries included: by what Cloud Storage bills, and what went wrong."""

    class_a: int = 0
    class_b: int = 0
    free: int = 0
    retries: int = 0
    throttled: int = 0

    def __add__(self, other: RequestCounts) -> RequestCounts:
        return RequestCounts(
            class_a=self.class_a + other.class_a,
            class_b=self.class_b + other.class_b,
            free=self.free + other.free,
            retries=self.retries + other.retries,
            throttled=self.throttled + other.throttled,
        )


class Store(Protocol):
    """Cloud Storage as the core needs it. `bucket` is a bare bucket name everywhere."""

    def list_page(self, bucket: str, request: PageRequest) -> Page:
        """List one page (class A). An empty page with a token is legal: follow the token."""
        ...

    def bucket_info(self, bucket: str) -> BucketInfo:
        """Read the bucket's settings (class B). Needs `storage.buckets.get`."""
        ...

    def test_permissions(self, bucket: str, permissions: Sequence[str]) -> frozenset[str]:
        """Return those of `permissions` that the caller holds on the bucket (class B)."""
        ...

    def stat(self, bucket: str, name: str, generation: int | None = None) -> StoredObject:
        """Read one object's metadata (class B)."""
        ...

    def read(
        self, bucket: str, version: ObjectVersion, *, start: int = 0, end: int | None = None
    ) -> AbstractContextManager[Body]:
        """Open the stored bytes `[start, end)` of one generation (class B), never decompressed.

        Only opening is retried; a body that breaks is the caller's to resume.
        """
        ...

    def compose(
        self,
        bucket: str,
        name: str,
        sources: Sequence[ObjectVersion],
        *,
        metadata: Mapping[str, str],
        storage_class: str,
    ) -> StoredObject:
        """Concatenate 1-32 pinned `sources` into the new object `name` (class A), only if there is none of that name.

        Safe to retry: an answer of 412 to a retry whose object carries our `metadata` is success.
        """
        ...

    def upload(
        self, bucket: str, name: str, data: bytes, *, content_type: str, if_generation_match: int | None = None
    ) -> StoredObject:
        """Create or replace one object from memory (class A), checked by crc32c on the server."""
        ...

    def delete(self, bucket: str, version: ObjectVersion) -> None:
        """Delete one generation (free). An object that is gone already is success."""
        ...

    def delete_many(self, bucket: str, versions: Sequence[ObjectVersion]) -> list[DeleteFailure]:
        """Delete many generations in batches of at most 100 (free); return what could not be deleted."""
        ...

    def counts(self) -> RequestCounts:
        """Return the requests sent by this store so far."""
        ...

    def found_reads_per_s(self) -> float | None:
        """Return the rate of reads (and lists) that the bucket was found to bear; None while nothing was refused."""
        ...

    def close(self) -> None:
        """Close all connections. Reads under way fail."""
        ...
