"""Buckets in memory: the store for tests, and for trying things out, where HTTP is not the point.

It passes the suite that the HTTP client passes (tests/integration/gcs/test_store_behaviour.py): the same results, the
same errors in the same words, requests counted alike. Whatever else is true of Cloud Storage it leaves out: versions,
holds, retention and soft delete are reported where a bucket is made with them, and have no effect.

Guarantees: thread-safe; a change happens at once or not at all. Stores of one `MemoryStores` see the same buckets. They
live in one process: use `isolated=False`, and threads as workers.
"""

from __future__ import annotations

import itertools
import re
import threading
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, NoReturn

import msgspec

from airflow_dataflux.core.errors import InvalidRequestError, StoreError
from airflow_dataflux.core.gcs import operations
from airflow_dataflux.core.gcs.hashes import crc32c_of
from airflow_dataflux.core.gcs.http_errors import ErrorAnswer, error_of
from airflow_dataflux.core.gcs.media import EmptyBody
from airflow_dataflux.core.gcs.operations import Call, Operation, path_segment
from airflow_dataflux.core.gcs.store import (
    MAX_COMPONENTS,
    Body,
    BucketInfo,
    DeleteFailure,
    ObjectUpload,
    ObjectVersion,
    Pace,
    Page,
    PageRequest,
    RequestCounts,
    Store,
    StoredObject,
    StoreOptions,
)
from airflow_dataflux.core.model import Row, object_uri
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import TokenSource


class _Content(msgspec.Struct, frozen=True):
    stored: StoredObject
    data: bytes


class _Bucket(msgspec.Struct):
    info: BucketInfo
    permissions: frozenset[str] | None
    contents: dict[str, _Content] = {}
    names: list[bytes] = []  # sorted

    def put(self, content: _Content) -> None:
        name = content.stored.row.name
        if name not in self.contents:
            insort(self.names, name.encode())
        self.contents[name] = content

    def remove(self, name: str) -> None:
        del self.contents[name]
        del self.names[bisect_left(self.names, name.encode())]


class MemoryStores:
    """The StoreFactory of buckets in memory.

    Args:
        page_rows: most rows of a page.
        user_project: as for Cloud Storage; nobody is billed.
    """

    def __init__(self, *, page_rows: int = 1000, user_project: str | None = None) -> None:
        self.page_rows = page_rows
        self.user_project = user_project
        self.requests: Counter[str] = Counter()
        """Requests of all stores so far, by the operation's name."""
        self._lock = threading.RLock()
        self._buckets: dict[str, _Bucket] = {}
        self._generations = itertools.count(1_700_000_000_000_000)

    def create_bucket(self, name: str, *, permissions: Sequence[str] | None = None, **settings: Any) -> None:
        """Make a bucket with these settings (`BucketInfo`); `permissions` is what the caller may do, None all."""
        held = None if permissions is None else frozenset(permissions)
        with self._lock:
            self._buckets[name] = _Bucket(BucketInfo(name=name, **settings), held)

    def open(self, tokens: TokenSource, options: StoreOptions) -> Store:
        """Open a store; it asks for no token."""
        del tokens
        return MemoryStore(self, options.cancel or CancelToken())

    @contextmanager
    def bucket(self, name: str) -> Iterator[_Bucket | None]:
        """Hold a bucket still; None if it is not there."""
        with self._lock:
            yield self._buckets.get(name)

    def next_generation(self) -> int:
        """Return a generation later than every earlier one."""
        return next(self._generations)

    def __reduce__(self) -> NoReturn:
        raise TypeError("Buckets in memory cannot be seen from another process: list and stage with isolated=False.")


class _Asked(msgspec.Struct, frozen=True):
    """One request that is being answered."""

    operation: Operation
    resource: str
    bucket: _Bucket

    def refuse(self, status: int, reason: str, message: str) -> NoReturn:
        raise _error(self.operation, self.resource, status, reason, message)

    def content(self, name: str, generation: int | None) -> _Content:
        found = self.bucket.contents.get(name)
        if found is None or generation not in (None, found.stored.row.generation):
            self.refuse(404, "notFound", f"No such object: {self.bucket.info.name}/{name}")
        return found

    def check_generation(self, name: str, expected: int | None) -> None:
        """Check `ifGenerationMatch`: 0 is for no object."""
        found = self.bucket.contents.get(name)
        if expected is not None and expected != (0 if found is None else found.stored.row.generation):
            self.refuse(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


class MemoryStore:
    """The Store protocol over the buckets of one `MemoryStores`. Thread-safe."""

    def __init__(self, stores: MemoryStores, cancel: CancelToken) -> None:
        self._stores = stores
        self._cancel = cancel
        self._counting = threading.Lock()
        self._counts = {"class_a": 0, "class_b": 0, "free": 0}

    def list_page(self, bucket: str, request: PageRequest) -> Page:
        """List one page."""
        first = max(text.encode() for text in (request.prefix, request.start, request.page_token or ""))
        prefix, end = request.prefix.encode(), None if request.end is None else request.end.encode()
        matches = None if request.match_glob is None else _glob_pattern(request.match_glob).fullmatch
        most = min(request.max_results or self._stores.page_rows, self._stores.page_rows)
        rows: list[Row] = []
        directories: list[str] = []
        with self._asking(operations.LIST, bucket, f"gs://{bucket}/{request.prefix}") as asked:
            names = asked.bucket.names
            for encoded in names[bisect_left(names, first) :]:
                if not encoded.startswith(prefix) or (end is not None and encoded >= end):
                    break
                name = encoded.decode()
                if matches is not None and not matches(name):
                    continue
                directory = _cut(name, len(request.prefix), request.delimiter)
                if directory is not None and directories and directories[-1] == directory:
                    continue
                if len(rows) + len(directories) == most:
                    return Page(rows=_table(rows), next_page_token=name, directories=tuple(directories))
                if directory is not None:
                    directories.append(directory)
                else:
                    rows.append(asked.bucket.contents[name].stored.row)
        return Page(rows=_table(rows), next_page_token=None, directories=tuple(directories))

    def bucket_info(self, bucket: str) -> BucketInfo:
        """Read the bucket's settings."""
        with self._asking(operations.BUCKET_INFO, bucket, f"gs://{bucket}") as asked:
            return asked.bucket.info

    def test_permissions(self, bucket: str, permissions: Sequence[str]) -> frozenset[str]:
        """Return those of `permissions` that the caller holds."""
        with self._asking(operations.TEST_PERMISSIONS, bucket, f"gs://{bucket}") as asked:
            held = asked.bucket.permissions
            return frozenset(permissions) if held is None else held.intersection(permissions)

    def stat(self, bucket: str, name: str, generation: int | None = None) -> StoredObject:
        """Read one object's metadata."""
        with self._asking(operations.STAT, bucket, object_uri(bucket, _legal(name), generation)) as asked:
            return asked.content(name, generation).stored

    @contextmanager
    def read(self, bucket: str, version: ObjectVersion, *, start: int = 0, end: int | None = None) -> Iterator[Body]:
        """Open the stored bytes `[start, end)` of one generation."""
        if start < 0 or (end is not None and end < start):
            raise InvalidRequestError(f"[{start}, {end}) is not a range of bytes: 0 <= start <= end must hold.")
        if start == end:
            yield EmptyBody()
            return
        resource = object_uri(bucket, version.name, version.generation)
        with self._asking(operations.READ, bucket, resource) as asked:
            content = asked.content(version.name, version.generation)
            if start and start >= len(content.data):
                asked.refuse(416, "requestedRangeNotSatisfiable", "Requested range not satisfiable")
        yield MemoryBody(content.data[start:end], content.stored.row.crc32c)

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
        """Concatenate pinned sources into a new object; it is never throttled or lost, so nothing is asked or told."""
        if not 1 <= len(sources) <= MAX_COMPONENTS:
            raise InvalidRequestError(f"A compose takes 1 to {MAX_COMPONENTS} sources, got {len(sources)}.")
        with self._asking(operations.COMPOSE, bucket, object_uri(bucket, _legal(name))) as asked:
            found = [asked.content(source.name, source.generation) for source in sources]
            if any(content.stored.row.storage_class != storage_class for content in found):
                asked.refuse(400, "invalid", "Cannot compose object with another destination storage class")
            asked.check_generation(name, 0)
            data = b"".join(content.data for content in found)
            return self._create(asked.bucket, name, data, metadata=metadata, storage_class=storage_class)

    def upload(
        self, bucket: str, name: str, data: bytes, *, content_type: str, if_generation_match: int | None = None
    ) -> StoredObject:
        """Create or replace one object from memory."""
        with self._asking(operations.UPLOAD, bucket, object_uri(bucket, _legal(name))) as asked:
            asked.check_generation(name, if_generation_match)
            return self._create(asked.bucket, name, bytes(data), content_type=content_type)

    def begin_upload(
        self,
        bucket: str,
        name: str,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        if_generation_match: int,
    ) -> ObjectUpload:
        """Begin to create or replace one object from a stream."""
        resource = object_uri(bucket, _legal(name))
        with self._asking(operations.UPLOAD, bucket, resource):
            pass

        def create(data: bytes, crc32c: int) -> StoredObject:
            with self._asking(operations.UPLOAD_CHUNK, bucket, resource) as asked:
                if crc32c_of(data) != crc32c:
                    asked.refuse(400, "invalid", "The CRC32C that was given is not that of the bytes")
                asked.check_generation(name, if_generation_match)
                return self._create(asked.bucket, name, data, content_type=content_type, metadata=metadata)

        return MemoryUpload(create)

    def delete(self, bucket: str, version: ObjectVersion) -> None:
        """Delete one generation."""
        resource = object_uri(bucket, version.name, version.generation)
        with self._asking(operations.DELETE, bucket, resource) as asked:
            found = asked.bucket.contents.get(version.name)
            if found is not None and found.stored.row.generation == version.generation:
                asked.bucket.remove(version.name)

    def delete_many(self, bucket: str, versions: Sequence[ObjectVersion]) -> list[DeleteFailure]:
        """Delete many generations and return what could not be deleted."""
        failures = []
        for version in versions:
            try:
                self.delete(bucket, version)
            except StoreError as error:
                failures.append(DeleteFailure(version=version, reason=error.message))
        return failures

    def counts(self) -> RequestCounts:
        """Return the requests that this store would have sent."""
        with self._counting:
            return RequestCounts(**self._counts)

    def waited_s(self) -> float:
        """See the protocol."""
        return 0.0

    def pace(self, kind: Literal["read", "write"]) -> Pace:
        """See the protocol. Nothing is refused for its rate."""
        del kind
        return Pace()

    def close(self) -> None:
        """Do nothing: the buckets stay."""

    @contextmanager
    def _asking(self, operation: Operation, bucket: str, resource: str) -> Iterator[_Asked]:
        """Count a request, and hold its bucket until it is answered."""
        self._cancel.raise_if_cancelled()
        with self._counting:
            self._counts[operation.bills] += 1
        with self._stores.bucket(bucket) as found:
            self._stores.requests[operation.name] += 1
            if found is None:
                raise _error(operation, resource, 404, "notFound", "The specified bucket does not exist.")
            asked = _Asked(operation, resource, found)
            permission = operation.permission
            refused = found.permissions is not None and permission not in found.permissions
            if refused and operation is not operations.TEST_PERMISSIONS:
                asked.refuse(403, "forbidden", f"The caller does not have {permission} access")
            yield asked

    def _create(
        self,
        bucket: _Bucket,
        name: str,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
        storage_class: str | None = None,
    ) -> StoredObject:
        row = Row(
            name=name,
            size=len(data),
            generation=self._stores.next_generation(),
            crc32c=crc32c_of(data),
            storage_class=storage_class or bucket.info.storage_class,
            updated=datetime.now(UTC),
            content_type=content_type,
        )
        stored = StoredObject(row=row, metadata=dict(metadata or {}))
        bucket.put(_Content(stored, data))
        return stored


class MemoryBody:
    """The `Body` of bytes that are here already."""

    def __init__(self, data: bytes, crc32c: int | None) -> None:
        self._rest = memoryview(data)
        self.crc32c = crc32c
        self.length: int | None = len(data)

    def readinto(self, buffer: memoryview) -> int:
        """Put what comes next at the front of `buffer`."""
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def chunks(self, chunk_bytes: int = 1 << 18) -> Iterator[bytes]:
        """Yield the rest in pieces of `chunk_bytes`."""
        while self._rest:
            piece, self._rest = self._rest[:chunk_bytes], self._rest[chunk_bytes:]
            yield bytes(piece)


class MemoryUpload:
    """The `ObjectUpload` that keeps its bytes until it is finished."""

    def __init__(self, create: Callable[[bytes, int], StoredObject]) -> None:
        self._create = create
        self._pieces: list[bytes] = []

    def append(self, data: bytes) -> None:
        """Take the next bytes."""
        self._pieces.append(data)

    def finish(self, crc32c: int) -> StoredObject:
        """Create the object."""
        return self._create(b"".join(self._pieces), crc32c)

    def abandon(self) -> None:
        """Give it up."""
        self._pieces.clear()


def _error(operation: Operation, resource: str, status: int, reason: str, message: str) -> StoreError:
    call = Call(operation=operation, method="", target="", resource=resource, repeatable=True)
    return error_of(call, ErrorAnswer(status=status, reason=reason, message=message), attempts=1, elapsed_s=0.0)


def _legal(name: str) -> str:
    """Return `name` if UTF-8 can express it. Raises InvalidRequestError."""
    path_segment(name)
    return name


def _cut(name: str, start: int, delimiter: str | None) -> str | None:
    """Return `name` up to and including the first delimiter from `start` on; None if there is none."""
    at = name.find(delimiter, start) if delimiter else -1
    return name[: at + len(delimiter or "")] if at >= 0 else None


def _table(rows: Sequence[Row]) -> Any:
    # Not above: a listing imports Arrow while its first page is on its way.
    import pyarrow as pa

    from airflow_dataflux.core.arrow import ROW_SCHEMA

    columns = [pa.array([getattr(row, column.name) for row in rows], column.type) for column in ROW_SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=ROW_SCHEMA)


def _glob_pattern(glob: str) -> re.Pattern[str]:
    """Translate a glob of Cloud Storage: `**` crosses `/`; `*`, `?` and `[...]` do not; `{a,b}` is either.

    Source: https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob.
    """
    codes = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}
    parts, depth = [], 0
    for piece in re.findall(r"\*\*|\[[^]]+\]|.", glob, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(piece, 0)
        if len(piece) > 2:
            parts.append("[" + piece[1:-1].replace("!", "^", 1) + "]" if piece[1] == "!" else piece)
        else:
            parts.append(re.escape(piece) if piece == "," and not depth else codes.get(piece, re.escape(piece)))
    return re.compile("".join(parts), re.DOTALL)
