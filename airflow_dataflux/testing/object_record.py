"""One stored object: its metadata, its form as the API's object resource, and preconditions on its version.

Preconditions are https://cloud.google.com/storage/docs/request-preconditions.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from airflow_dataflux.testing.contents import Content, encode_crc32c
from airflow_dataflux.testing.control_messages import StoredVersion
from airflow_dataflux.testing.http_messages import Projection, invalid, not_modified, precondition_failed, project

SETTABLE = ("contentType", "contentEncoding", "contentDisposition", "contentLanguage", "cacheControl", "customTime")
"""Metadata that is kept as the caller wrote it."""


@dataclass(slots=True, kw_only=True)
class ObjectRecord:
    """One version of an object. Replaced, never changed, so that whoever holds it sees one state.

    Attributes:
        name: UTF-8 bytes.
        content: its bytes.
        generation, metageneration: version of the content, and of the metadata within it.
        storage_class: as stored.
        created_us, updated_us: microseconds since 1970.
        headers: settable metadata (`SETTABLE`) by its API name.
        metadata: custom metadata.
        component_count: of a composite; None otherwise.
        md5: of an object uploaded in one piece; None for composites and synthetic objects, which have none.
        event_based_hold, temporary_hold: forbid deletion.
        deleted_us: when it became noncurrent or was soft-deleted.
        hard_delete_us: when a soft-deleted version is gone for good.
    """

    name: bytes
    content: Content
    generation: int
    metageneration: int = 1
    storage_class: str
    created_us: int
    updated_us: int
    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] | None = None
    component_count: int | None = None
    md5: str | None = None
    event_based_hold: bool = False
    temporary_hold: bool = False
    deleted_us: int | None = None
    hard_delete_us: int | None = None
    # Encoded listing items by projection; what makes listing the same records again cheap.
    fragments: dict[int, bytes] = field(default_factory=dict, repr=False)

    def changed(self, **changes: Any) -> ObjectRecord:
        """Return a copy with some attributes replaced."""
        return replace(self, fragments={}, **changes)

    @property
    def encoded_gzip(self) -> bool:
        """Whether the stored bytes are a gzip stream that readers may be served decompressed."""
        return self.headers.get("contentEncoding") == "gzip"

    def version(self) -> StoredVersion:
        """Return what the server's owner learns about it."""
        return StoredVersion(
            name=self.name.decode(),
            generation=self.generation,
            metageneration=self.metageneration,
            size=self.content.size,
            crc32c=self.content.crc32c,
            storage_class=self.storage_class,
            metadata=self.metadata or {},
        )


def md5_of(data: bytes) -> str:
    """Return the MD5 as the API writes it."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def timestamp(moment_us: int) -> str:
    """Return a moment as the API writes it: RFC 3339, milliseconds, Z."""
    seconds, microseconds = divmod(moment_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{microseconds // 1000:03d}Z"


def resource(record: ObjectRecord, *, bucket: str, endpoint: str, retention_s: int = 0) -> dict[str, Any]:
    """Return the object resource (https://cloud.google.com/storage/docs/json_api/v1/objects#resource)."""
    name = record.name.decode()
    quoted = quote(name, safe="")
    generation = str(record.generation)
    item: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{generation}",
        "selfLink": f"{endpoint}/storage/v1/b/{bucket}/o/{quoted}",
        "mediaLink": f"{endpoint}/download/storage/v1/b/{bucket}/o/{quoted}?generation={generation}&alt=media",
        "name": name,
        "bucket": bucket,
        "generation": generation,
        "metageneration": str(record.metageneration),
        "storageClass": record.storage_class,
        "size": str(record.content.size),
        "crc32c": encode_crc32c(record.content.crc32c),
        "etag": etag(record),
        "timeCreated": timestamp(record.created_us),
        "updated": timestamp(record.updated_us),
        "timeStorageClassUpdated": timestamp(record.created_us),
        **record.headers,
    }
    if record.md5 is not None:
        item["md5Hash"] = record.md5
    if record.component_count is not None:
        item["componentCount"] = record.component_count
    if record.metadata:
        item["metadata"] = record.metadata
    if record.event_based_hold:
        item["eventBasedHold"] = True
    if record.temporary_hold:
        item["temporaryHold"] = True
    if retention_s:
        item["retentionExpirationTime"] = timestamp(record.created_us + retention_s * 1_000_000)
    if record.hard_delete_us is not None and record.deleted_us is not None:
        item["softDeleteTime"] = timestamp(record.deleted_us)
        item["hardDeleteTime"] = timestamp(record.hard_delete_us)
    elif record.deleted_us is not None:
        item["timeDeleted"] = timestamp(record.deleted_us)
    return item


def etag(record: ObjectRecord) -> str:
    """Return a tag that changes with the content and with the metadata."""
    return f"{record.generation}-{record.metageneration}"


def fragment(record: ObjectRecord, projection: Projection, *, bucket: str, endpoint: str) -> bytes:
    """Return the record's JSON item in a listing; kept with the record. `projection` objects are interned."""
    known = record.fragments.get(id(projection))
    if known is None:
        known = msgspec.json.encode(project(resource(record, bucket=bucket, endpoint=endpoint), projection))
        record.fragments[id(projection)] = known
    return known


def integer(query: Mapping[str, str], parameter: str) -> int | None:
    """Return an integer parameter, None if it is absent. Raises ApiError (400) if it is no integer."""
    text = query.get(parameter)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise invalid(f"Invalid value for {parameter}: {text!r}", reason="invalidParameter") from None


def check(query: Mapping[str, str], live: ObjectRecord | None, *, reading: bool = False, source: bool = False) -> None:
    """Raise ApiError if a precondition in `query` does not hold for the live version.

    412 for what must match; for what must not match 304 on reads and 412 on changes. `source` looks at the
    `ifSource…` parameters of a copy instead.
    """
    names = "ifSource{}" if source else "if{}"
    generation = live.generation if live is not None else 0
    metageneration = live.metageneration if live is not None else 0
    for quantity, actual in (("Generation", generation), ("Metageneration", metageneration)):
        name = names.format(quantity)
        wanted = integer(query, f"{name}Match")
        if wanted is not None and wanted != actual:
            raise precondition_failed()
        unwanted = integer(query, f"{name}NotMatch")
        if unwanted is not None and unwanted == actual:
            raise not_modified() if reading else precondition_failed()
