"""Cloud Storage's JSON API behind the Store protocol.

Each method builds one call and says how its answer reads; `transport.py` does the rest. Paths:
https://cloud.google.com/storage/docs/json_api/v1.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import msgspec

from airflow_dataflux.core.errors import (
    InvalidRequestError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from airflow_dataflux.core.gcs import objects, operations
from airflow_dataflux.core.gcs.deletion import BatchRequests
from airflow_dataflux.core.gcs.hashes import crc32c_from_header, crc32c_of, crc32c_to_text
from airflow_dataflux.core.gcs.http import HttpConnections, connect
from airflow_dataflux.core.gcs.media import EmptyBody, HttpBody, check_range, check_source, read_headers
from airflow_dataflux.core.gcs.operations import Call, bucket_path, delete_target, object_path, page_target, query
from airflow_dataflux.core.gcs.rate_limit import Budgets
from airflow_dataflux.core.gcs.retry import DEFAULT_POLICY, RetryPolicy
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
    StoreFactory,
    StoreOptions,
)
from airflow_dataflux.core.gcs.transport import Access, Transport
from airflow_dataflux.core.gcs.uploads import ResumableUpload
from airflow_dataflux.core.model import object_uri
from airflow_dataflux.core.ownobjects import COMPOSITE_CONTENT_TYPE
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import TokenSource

_JSON = {"Content-Type": "application/json; charset=UTF-8"}


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Cloud Storage over HTTP; the StoreFactory that everything but tests is given.

    Attributes:
        endpoint: scheme and host, such as `https://storage.googleapis.com` or an emulator's `http://127.0.0.1:9000`.
        user_project: project billed on requester-pays buckets, sent as `userProject` with every request.
        user_agent: first part of the User-Agent header.
    """

    endpoint: str = "https://storage.googleapis.com"
    user_project: str | None = None
    user_agent: str = "airflow-dataflux"

    def open(self, tokens: TokenSource, options: StoreOptions) -> HttpStore:
        """Open Cloud Storage for `tokens`, which are cached here unless they are cached already."""
        access = Access(
            endpoint=self.endpoint,
            user_agent=self.user_agent,
            user_project=self.user_project,
            tokens=tokens,
            cancel=options.cancel or CancelToken(),
            cancel_composes=options.cancel_composes,
            policy=options.policy,
            budgets=Budgets.first(options.budget_share, found_reads_per_s=options.found_reads_per_s),
        )
        shared = options.beside.http if isinstance(options.beside, HttpStore) else None
        http = shared or connect(self.endpoint, options.connections, meanwhile=options.meanwhile)
        return HttpStore(Transport(access, http), user_project=self.user_project)


def open_store(
    config: StoreFactory,
    tokens: TokenSource,
    *,
    connections: int,
    cancel: CancelToken | None = None,
    policy: RetryPolicy = DEFAULT_POLICY,
) -> Store:
    """Open a store for a script, with up to `connections` requests in flight (`StoreOptions` has the rest)."""
    return config.open(tokens, StoreOptions(connections=connections, cancel=cancel, policy=policy))


class HttpStore:
    """The Store protocol over HTTP. Thread-safe."""

    def __init__(self, transport: Transport, *, user_project: str | None) -> None:
        self._transport = transport
        self._user_project = user_project
        self._batch_requests = BatchRequests(transport, self.delete, user_project)
        self._decoding = threading.Lock()

    @property
    def http(self) -> HttpConnections:
        """The connections that this store uses."""
        return self._transport.http

    def list_page(self, bucket: str, request: PageRequest) -> Page:
        """List one page."""
        call = Call(
            operation=operations.LIST,
            method="GET",
            target=page_target(bucket, request, self._user_project),
            resource=f"gs://{bucket}/{request.prefix}",
            repeatable=True,
        )
        return self._transport.send(call, lambda body: self._decode_page(body, request.page_token))

    def bucket_info(self, bucket: str) -> BucketInfo:
        """Read the bucket's settings."""
        call = Call(
            operation=operations.BUCKET_INFO,
            method="GET",
            target=bucket_path(bucket) + self._query(("projection", "noAcl"), ("fields", objects.BUCKET_FIELDS)),
            resource=f"gs://{bucket}",
            repeatable=True,
        )
        return self._transport.send(call, objects.bucket_decoder(bucket))

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
        return self._transport.send(call, objects.decode_permissions)

    def stat(self, bucket: str, name: str, generation: int | None = None) -> StoredObject:
        """Read one object's metadata."""
        asked = self._query(
            ("generation", generation), ("projection", "noAcl"), ("fields", objects.STORED_OBJECT_FIELDS)
        )
        call = Call(
            operation=operations.STAT,
            method="GET",
            target=object_path(bucket, name) + asked,
            resource=object_uri(bucket, name, generation),
            repeatable=True,
        )
        return self._transport.send(call, objects.object_decoder(name))

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
            headers=read_headers(start, end),
        )
        answer = self._transport.open(call, lambda headers: check_source(headers, version.generation))
        try:
            check_range(call, answer.status, answer.headers.get("content-range"), start)
            yield HttpBody(
                answer,
                call,
                crc32c=crc32c_from_header(answer.headers.get("x-goog-hash")),
                patience_s=self._transport.policy.body_s,
            )
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
        still_wanted: Callable[[], bool] | None = None,
        answer_lost: Callable[[], None] | None = None,
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
            "contentType": COMPOSITE_CONTENT_TYPE,
            "metadata": dict(metadata),
            "storageClass": storage_class,
        }
        call = Call(
            operation=operations.COMPOSE,
            method="POST",
            target=f"{object_path(bucket, name)}/compose"
            + self._query(("ifGenerationMatch", 0), ("fields", objects.STORED_OBJECT_FIELDS)),
            resource=object_uri(bucket, name),
            repeatable=True,  # ifGenerationMatch=0: a second execution is answered with 412
            headers=_JSON,
            body=(msgspec.json.encode({"sourceObjects": components, "destination": destination}),),
            still_wanted=still_wanted,
            answer_lost=answer_lost,
        )
        try:
            return self._transport.send(call, objects.object_decoder(name))
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
                ("fields", objects.STORED_OBJECT_FIELDS),
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
            return self._transport.send(call, objects.object_decoder(name))
        except PreconditionFailedError as error:
            made = self._made_before(bucket, name, error)  # the same story as in compose
            if made is not None and (made.row.crc32c, made.row.size) == (crc32c, len(data)):
                return made
            raise

    def begin_upload(
        self,
        bucket: str,
        name: str,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        if_generation_match: int,
    ) -> ObjectUpload:
        """Begin to create or replace one object from a stream: a resumable upload."""
        return ResumableUpload(
            self._transport,
            bucket,
            name,
            content_type=content_type,
            metadata=metadata,
            query=self._query(
                ("uploadType", "resumable"),
                ("ifGenerationMatch", if_generation_match),
                ("fields", objects.STORED_OBJECT_FIELDS),
            ),
            stat=self.stat,
        )

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
            self._transport.send(call, objects.check_deleted)
        except ObjectNotFoundError:
            return

    def delete_many(self, bucket: str, versions: Sequence[ObjectVersion]) -> list[DeleteFailure]:
        """Delete many generations, a batch after the other; one by one where batches are refused."""
        return self._batch_requests.delete(bucket, versions)

    def counts(self) -> RequestCounts:
        """Return the requests sent so far."""
        return self._transport.counts()

    def waited_s(self) -> float:
        """See the protocol."""
        return self._transport.waited_s()

    def pace(self, kind: Literal["read", "write"]) -> Pace:
        """See the protocol."""
        return self._transport.pace(kind)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def _decode_page(self, body: bytes, page_token: str | None) -> Page:
        """Decode one page at a time. Raises ValueError for what cannot be the answer to a request with this token.

        Decoding needs the interpreter's lock from beginning to end. Threads that decode at the same time only take it
        from each other every few milliseconds, which costs a fifth of the CPU time with 32 of them, and each holds a
        page half decoded.
        """
        # Not above: a listing imports Arrow while its first page is on its way.
        from airflow_dataflux.core.gcs.pages import check_token, decode_page

        with self._decoding:
            page = decode_page(body)
        check_token(page, page_token)
        return page

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
