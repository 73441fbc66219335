"""The whole boundary between this project and Cloud Storage.

`Store` is what listing, staging and the manifest may ask for, and `StoreFactory` is how they come by one: it is passed
in. `core/gcs/http_store.py` answers over HTTP, `core/gcs/memory.py` from memory; one suite holds both to the same
behaviour (tests/integration/gcs/test_store_behaviour.py). Every method is thread-safe, retries by the one policy of
`core/gcs/retry.py`, and raises only errors of `core/errors.py`: BucketNotFoundError, PermissionDeniedError,
AuthenticationError, ObjectNotFoundError, PreconditionFailedError, ThrottledError, UnavailableError, StoreError
(anything else), CancelledError; and `compose` NotWantedError, to a caller that asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.gcs.retry import DEFAULT_POLICY, RetryPolicy
from airflow_dataflux.core.model import Row
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import TokenSource

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
        delimiter: name the directories just below the prefix instead of objects.
        max_results: most rows the server may answer with; None leaves it to the server.
    """

    prefix: str = ""
    start: str = ""
    end: str | None = None
    page_token: str | None = None
    match_glob: str | None = None
    delimiter: str | None = None
    max_results: int | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of objects.list: `rows` in `ROW_SCHEMA`, sorted; the listing goes on while there is a token.

    `directories` are the names up to and including the delimiter that was asked for, sorted.
    """

    rows: pa.RecordBatch
    next_page_token: str | None
    directories: tuple[str, ...] = ()


class NotWantedError(Exception):
    """A request that waited for its turn was given up, as its caller had asked for. It was not carried out."""


class ObjectVersion(msgspec.Struct, frozen=True, kw_only=True):
    """An object pinned to one content."""

    name: str
    generation: int


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object's metadata as one request answered it.

    Attributes:
        row: what a listing tells of it.
        metadata: custom metadata.
        held: it is under a hold, so it can be neither replaced nor deleted.
        retained_until: the same until then, by a retention policy; None if there is none.
    """

    row: Row
    metadata: Mapping[str, str] = {}
    held: bool = False
    retained_until: datetime | None = None


class BucketInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a bucket's settings mean for temporary objects.

    Attributes:
        name, location, location_type, storage_class: as Cloud Storage reports them.
        versioning: deleted objects stay as noncurrent versions.
        soft_delete_s: how long a deleted object is kept and billed; 0 if soft delete is off.
        hard_delete_paused: deleted objects stay, and are billed, until somebody ends the pause.
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
    hard_delete_paused: bool = False
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


class ObjectUpload(Protocol):
    """One object that is being created from a stream. One thread uses it.

    The object appears whole when `finish` returns, or not at all. What is not finished must be abandoned.
    """

    def append(self, data: bytes) -> None:
        """Take the next bytes. `data` must not be changed afterwards.

        Raises PreconditionFailedError, UnavailableError if the upload cannot go on (begin another one), and the rest.
        """
        ...

    def finish(self, crc32c: int) -> StoredObject:
        """Send what is left and return the object, whose CRC32C must be this one.

        Raises as `append`, and StoreError if Cloud Storage has other bytes than were sent: then there is no object.
        """
        ...

    def abandon(self) -> None:
        """Give it up; no object appears. Raises nothing."""
        ...


class DeleteFailure(msgspec.Struct, frozen=True, kw_only=True):
    """One object that could not be deleted. An object that is gone already is not a failure."""

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


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How requests of one kind are paced now.

    Attributes:
        found_per_s: the rate that the bucket was found to bear; None while nothing was refused.
        kept_per_s: the rate that is kept now, grown again since then; None while nothing was refused.
        turn_s: seconds until the next request would have its turn.
    """

    found_per_s: float | None = None
    kept_per_s: float | None = None
    turn_s: float = 0.0


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
        still_wanted: Callable[[], bool] | None = None,
        answer_lost: Callable[[], None] | None = None,
    ) -> StoredObject:
        """Concatenate 1-32 pinned `sources` into the new object `name` (class A), only if there is none of that name.

        Safe to retry: an answer of 412 to a retry whose object carries our `metadata` is success.

        Raises NotWantedError, and nothing was made, if `still_wanted` says no. It is asked after the service has
        refused requests for their rate, whenever this one must wait again.

        `answer_lost` is called whenever an attempt had no answer. That attempt may still be carried out, even after the
        object was deleted, and then makes it once more.
        """
        ...

    def upload(
        self, bucket: str, name: str, data: bytes, *, content_type: str, if_generation_match: int | None = None
    ) -> StoredObject:
        """Create or replace one object from memory (class A), checked by crc32c on the server."""
        ...

    def begin_upload(
        self,
        bucket: str,
        name: str,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        if_generation_match: int,
    ) -> ObjectUpload:
        """Begin to create (0) or replace (the generation that is there) one object from a stream (class A).

        Safe to repeat: of two uploads under the same precondition at most one creates the object.
        """
        ...

    def delete(self, bucket: str, version: ObjectVersion) -> None:
        """Delete one generation (free). An object that is gone already is success."""
        ...

    def delete_many(self, bucket: str, versions: Sequence[ObjectVersion]) -> list[DeleteFailure]:
        """Delete many generations by batch requests of at most 100 (free); return what could not be deleted."""
        ...

    def counts(self) -> RequestCounts:
        """Return the requests sent by this store so far."""
        ...

    def waited_s(self) -> float:
        """Return how long requests of the calling thread have waited for their turn, and between attempts, in all."""
        ...

    def pace(self, kind: Literal["read", "write"]) -> Pace:
        """Return how reads (and lists), or composes and deletes, are paced now."""
        ...

    def close(self) -> None:
        """Close all connections. Reads under way fail."""
        ...


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is opened for.

    Attributes:
        connections: connections kept alive; give it the most requests that will be in flight at once.
        cancel: ends back-offs and waits. A clean-up after a cancel needs a store with another token, or none.
        cancel_composes: after this is cancelled no attempt of a compose begins; one that is under way is answered, so
            that what it made is known. For a store whose other requests must go on after a cancel.
        budget_share: this process's part (0-1] of the bucket's request rates, where several processes share a bucket.
        found_reads_per_s: what the bucket was found to bear in all; None: nothing was refused so far.
        policy: how requests are retried.
        beside: another store of the same factory, whose connections this one uses, too; whichever is closed first
            closes them for both. `connections` is then the other's.
        meanwhile: called after each request, before its answer is waited for: what there is to do in that time anyway.
    """

    connections: int
    cancel: CancelToken | None = None
    cancel_composes: CancelToken | None = None
    budget_share: float = 1.0
    found_reads_per_s: float | None = None
    policy: RetryPolicy = DEFAULT_POLICY
    beside: Store | None = None
    meanwhile: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        if self.connections < 1 or not 0 < self.budget_share <= 1:
            raise InvalidRequestError(
                "connections must be 1 or more and budget_share in (0, 1], got "
                f"{self.connections} and {self.budget_share}."
            )


class StoreFactory(Protocol):
    """Where a bucket is, and how it is opened. Holds no credentials, and pickles where workers are processes."""

    @property
    def user_project(self) -> str | None:
        """The project billed on requester-pays buckets."""
        ...

    def open(self, tokens: TokenSource, options: StoreOptions) -> Store:
        """Open a store. It belongs to the process that opened it: open it after a fork, not before.

        Raises InvalidRequestError if the address cannot be one.
        """
        ...
