"""Cloud Storage's JSON API behind the Store protocol.

Each method builds one call and says how its answer reads; `transport.py` does the rest. Paths:
https://cloud.google.com/storage/docs/json_api/v1.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from airflow_dataflux.core.config import StoreConfig
from airflow_dataflux.core.errors import (
    InvalidRequestError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StoreError,
)
from airflow_dataflux.core.gcs import operations, resources
from airflow_dataflux.core.gcs.connections import connect
from airflow_dataflux.core.gcs.deletion import delete_in_batches, delete_target
from airflow_dataflux.core.gcs.exchange import Exchanger
from airflow_dataflux.core.gcs.hashes import crc32c_from_header, crc32c_of, crc32c_to_text
from airflow_dataflux.core.gcs.operations import Call, bucket_path, object_path, query
from airflow_dataflux.core.gcs.pacing import Budgets
from airflow_dataflux.core.gcs.pages import PageDecoder, page_target
from airflow_dataflux.core.gcs.reading import EmptyBody, HttpBody
from airflow_dataflux.core.gcs.retry import DEFAULT_POLICY, RetryPolicy
from airflow_dataflux.core.gcs.store import (
    MAX_COMPONENTS,
    Body,
    BucketInfo,
    DeleteFailure,
    ObjectVersion,
    Page,
    PageRequest,
    RequestCounts,
    Store,
    StoredObject,
)
from airflow_dataflux.core.gcs.transport import Access, Transport
from airflow_dataflux.core.model import object_uri
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import TokenSource

_JSON = {"Content-Type": "application/json; charset=UTF-8"}


def open_store(
    config: StoreConfig,
    tokens: TokenSource,
    *,
    connections: int,
    cancel: CancelToken | None = None,
    budget_share: float = 1.0,
    found_reads_per_s: float | None = None,
    policy: RetryPolicy = DEFAULT_POLICY,
    beside: Store | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> Store:
    """Open Cloud Storage.

    Args:
        config: where it is.
        tokens: who asks; cached here unless they are cached already.
        connections: connections kept alive; give it the most requests that will be in flight at once.
        cancel: ends back-offs and waits. A clean-up after a cancel needs a store with another token, or none.
        budget_share: this process's part (0-1] of the bucket's request rates, where several processes share a bucket.
        found_reads_per_s: what the bucket was found to bear in all; None: nothing was refused so far.
        policy: how requests are retried.
        beside: another store for the same place, whose connections this one uses, too; whichever is closed first closes
            them for both. `connections` is then the other's.
        meanwhile: called after each request, before its answer is waited for: what there is to do in that time anyway.

    The store belongs to the process that opened it: open it after a fork, not before.
    """
    if connections < 1 or not 0 < budget_share <= 1:
        raise InvalidRequestError(
            f"connections must be 1 or more and budget_share in (0, 1], got {connections} and {budget_share}."
        )
    access = Access(
        tokens=tokens,
        cancel=cancel or CancelToken(),
        policy=policy,
        budgets=Budgets.first(budget_share, found_reads_per_s=found_reads_per_s),
    )
    shared = beside.exchanger if isinstance(beside, HttpStore) else None
    transport = Transport(config, access, shared or connect(config.endpoint, connections, meanwhile=meanwhile))
    return HttpStore(transport, user_project=config.user_project)


class HttpStore:
    """The Store protocol over HTTP. Thread-safe."""

    def __init__(self, transport: Transport, *, user_project: str | None) -> None:
        self._transport = transport
        self._user_project = user_project
        self._pages = PageDecoder()

    @property
    def exchanger(self) -> Exchanger:
        """The connections that this store uses."""
        return self._transport.exchanger

    def list_page(self, bucket: str, request: PageRequest) -> Page:
        """List one page."""
        call = Call(
            operation=operations.LIST,
            method="GET",
            target=page_target(bucket, request, self._user_project),
            resource=f"gs://{bucket}/{request.prefix}",
            repeatable=True,
        )
        return self._transport.send(call, self._pages.decode)

    def bucket_info(self, bucket: str) -> BucketInfo:
        """Read the bucket's settings."""
        call = Call(
            operation=operations.BUCKET_INFO,
            method="GET",
            target=bucket_path(bucket) + self._query(("projection", "noAcl"), ("fields", resources.BUCKET_FIELDS)),
            resource=f"gs://{bucket}",
            repeatable=True,
        )
        return self._transport.send(call, resources.decode_bucket)

    def test_permissions(self, bucket: str, permissions: Sequence[str]) -> frozenset[str]:
        """Return those of `permissions` that the caller holds."""
        asked = [("permissions", permission) for permission in permissions]
        call = Call(
            operation=operations.TEST_PERMISSIONS,
            method="GET",
            target=f"{bucket_path(bucket)}/iam/testPermissions" + self._query(*asked),
            resource=f"gs://{bucket}",
            repeatable=True,
        )
        return self._transport.send(call, resources.decode_permissions)

    def stat(self, bucket: str, name: str, generation: int | None = None) -> StoredObject:
        """Read one object's metadata."""
        asked = self._query(
            ("generation", generation), ("projection", "noAcl"), ("fields", resources.STORED_OBJECT_FIELDS)
        )
        call = Call(
            operation=operations.STAT,
            method="GET",
            target=object_path(bucket, name) + asked,
            resource=object_uri(bucket, name, generation),
            repeatable=True,
        )
        return self._transport.send(call, resources.decode_object)

    @contextmanager
    def read(self, bucket: str, version: ObjectVersion, *, start: int = 0, end: int | None = None) -> Iterator[Body]:
        """Open the stored bytes `[start, end)` of one generation.

        A range of no bytes costs no request, and so does not tell whether the object exists.
        """
        if start < 0 or (end is not None and end < start):
            raise InvalidRequestError(f"[{start}, {end}) is not a range of bytes: 0 <= start <= end must hold.")
        if start == end:
            yield EmptyBody()
            return
        call = Call(
            operation=operations.READ,
            method="GET",
            target="/download"
            + object_path(bucket, version.name)
            + self._query(("alt", "media"), ("generation", version.generation)),
            resource=object_uri(bucket, version.name, version.generation),
            repeatable=True,
            headers=_read_headers(start, end),
        )
        answer = self._transport.open(call)
        try:
            _check_range(call, answer.status, answer.headers.get("content-range"), start)
            yield HttpBody(answer, call, crc32c=crc32c_from_header(answer.headers.get("x-goog-hash")))
        finally:
            answer.close()

    def compose(
        self,
        bucket: str,
        name: str,
        sources: Sequence[ObjectVersion],
        *,
        metadata: Mapping[str, str],
        storage_class: str,
    ) -> StoredObject:
        """Concatenate pinned sources into a new object.

        The class is named although it is the sources' own: without it the bucket's default class is meant, and Cloud
        Storage refuses to compose sources of another class into it (400 "Cannot compose object with destination
        storage class ... from source components that have different storage classes").
        """
        if not 1 <= len(sources) <= MAX_COMPONENTS:
            raise InvalidRequestError(f"A compose takes 1 to {MAX_COMPONENTS} sources, got {len(sources)}.")
        components = [
            {
                "name": source.name,
                "generation": str(source.generation),
                "objectPreconditions": {"ifGenerationMatch": str(source.generation)},
            }
            for source in sources
        ]
        destination = {
            "contentType": "application/octet-stream",
            "metadata": dict(metadata),
            "storageClass": storage_class,
        }
        call = Call(
            operation=operations.COMPOSE,
            method="POST",
            target=f"{object_path(bucket, name)}/compose"
            + self._query(("ifGenerationMatch", 0), ("fields", resources.STORED_OBJECT_FIELDS)),
            resource=object_uri(bucket, name),
            repeatable=True,  # ifGenerationMatch=0: a second execution is answered with 412
            headers=_JSON,
            body=(msgspec.json.encode({"sourceObjects": components, "destination": destination}),),
        )
        try:
            return self._transport.send(call, resources.decode_object)
        except PreconditionFailedError as error:
            # 1. An earlier attempt was carried out and its answer lost. 2. This one finds the object in place.
            # The metadata, which names the run, tells our own object from somebody else's.
            made = self._made_before(bucket, name, error)
            if made is not None and made.metadata == dict(metadata):
                return made
            raise

    def upload(
        self, bucket: str, name: str, data: bytes, *, content_type: str, if_generation_match: int | None = None
    ) -> StoredObject:
        """Create or replace one object from memory, checked by crc32c on the server.

        Retried after an uncertain failure only with `if_generation_match`: without it, the retry could undo what
        somebody else wrote meanwhile.
        """
        crc32c = crc32c_of(data)
        boundary = uuid.uuid4().hex
        described = {"name": name, "contentType": content_type, "crc32c": crc32c_to_text(crc32c)}
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode()
            + msgspec.json.encode(described)
            + f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()
        )
        tail = f"\r\n--{boundary}--\r\n".encode()
        call = Call(
            operation=operations.UPLOAD,
            method="POST",
            target="/upload"
            + bucket_path(bucket)
            + "/o"
            + self._query(
                ("uploadType", "multipart"),
                ("ifGenerationMatch", if_generation_match),
                ("fields", resources.STORED_OBJECT_FIELDS),
            ),
            resource=object_uri(bucket, name),
            repeatable=if_generation_match is not None,
            headers={
                "Content-Type": f'multipart/related; boundary="{boundary}"',
                "Content-Length": str(len(head) + len(data) + len(tail)),
            },
            body=(head, data, tail),
        )
        try:
            return self._transport.send(call, resources.decode_object)
        except PreconditionFailedError as error:
            made = self._made_before(bucket, name, error)  # the same story as in compose
            if made is not None and (made.row.crc32c, made.row.size) == (crc32c, len(data)):
                return made
            raise

    def delete(self, bucket: str, version: ObjectVersion) -> None:
        """Delete one generation."""
        call = Call(
            operation=operations.DELETE,
            method="DELETE",
            target=delete_target(bucket, version, self._user_project),
            resource=object_uri(bucket, version.name, version.generation),
            repeatable=True,  # one generation can be deleted once; a second time it is gone already
        )
        try:
            self._transport.send(call, lambda _body: None)
        except ObjectNotFoundError:
            return

    def delete_many(self, bucket: str, versions: Sequence[ObjectVersion]) -> list[DeleteFailure]:
        """Delete many generations, a batch after the other.

        A batch that fails as a whole ends it: what was not deleted until then is returned with that reason.
        """
        return delete_in_batches(self._transport, bucket, versions, user_project=self._user_project)

    def counts(self) -> RequestCounts:
        """Return the requests sent so far."""
        return self._transport.counts()

    def found_reads_per_s(self) -> float | None:
        """Return the rate of reads that the bucket was found to bear from here; None while nothing was refused."""
        return self._transport.found_reads_per_s()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def _query(self, *parameters: tuple[str, str | int | None]) -> str:
        return query((*parameters, ("prettyPrint", "false"), ("userProject", self._user_project)))

    def _made_before(self, bucket: str, name: str, error: PreconditionFailedError) -> StoredObject | None:
        """Return the object in place if an earlier attempt of the same call may have made it."""
        if error.attempts == 1:
            return None
        try:
            return self.stat(bucket, name)
        except ObjectNotFoundError:
            return None


_AS_STORED = {"Accept-Encoding": "gzip"}
"""Without it Cloud Storage decompresses what is stored as gzip, and then neither length nor hash nor ranges fit
(https://cloud.google.com/storage/docs/transcoding)."""


def _read_headers(start: int, end: int | None) -> dict[str, str]:
    if start == 0 and end is None:
        return _AS_STORED
    return {**_AS_STORED, "Range": f"bytes={start}-{'' if end is None else end - 1}"}


def _check_range(call: Call, status: int, content_range: str | None, start: int) -> None:
    """Make sure that the bytes are those that were asked for."""
    if "Range" not in call.headers:
        return
    if status != 206 or not (content_range or "").startswith(f"bytes {start}-"):
        raise StoreError(
            f"Asked for {call.headers['Range']} of {call.resource}, got status {status} with Content-Range "
            f"{content_range!r}: something between here and Cloud Storage ignores ranges.",
            operation=call.operation.name,
            resource=call.resource,
            status=status,
            reason="range ignored",
        )
