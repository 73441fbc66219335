"""Objects and buckets as the JSON API describes them, turned into this project's words.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects#resource and .../v1/buckets#resource. 64-bit numbers
come as strings. Properties that are not set are absent, and with some servers those that are zero, too.

Each answer must be of its `kind` and about what was asked for: other JSON with status 200 (a proxy's, a maintenance
page's) is no answer.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from airflow_dataflux.core.gcs.hashes import crc32c_from_text
from airflow_dataflux.core.gcs.store import BucketInfo, StoredObject
from airflow_dataflux.core.model import Row

OBJECT_FIELDS = "name,size,generation,crc32c,storageClass,updated,contentType,contentEncoding"
"""The properties that make a row."""

STORED_OBJECT_FIELDS = f"kind,{OBJECT_FIELDS},metadata,eventBasedHold,temporaryHold,retentionExpirationTime"

BUCKET_FIELDS = (
    "kind,name,location,locationType,storageClass,versioning,softDeletePolicy,retentionPolicy,defaultEventBasedHold,"
    "autoclass,billing,hierarchicalNamespace"
)


class _Object(msgspec.Struct, rename="camel"):
    kind: Literal["storage#object"]
    name: str
    generation: int
    updated: datetime
    size: int = 0
    crc32c: str | None = None
    storage_class: str = "STANDARD"
    content_type: str | None = None
    content_encoding: str | None = None
    metadata: dict[str, str] = {}
    event_based_hold: bool = False
    temporary_hold: bool = False
    retention_expiration_time: datetime | None = None


class _Switch(msgspec.Struct):
    enabled: bool = False


class _SoftDelete(msgspec.Struct, rename="camel"):
    retention_duration_seconds: int = 0
    hard_delete_pause: _Switch = msgspec.field(default_factory=_Switch)


class _Retention(msgspec.Struct, rename="camel"):
    retention_period: int = 0


class _Billing(msgspec.Struct, rename="camel"):
    requester_pays: bool = False


class _Bucket(msgspec.Struct, rename="camel"):
    kind: Literal["storage#bucket"]
    name: str
    location: str = "US"
    location_type: str = "multi-region"
    storage_class: str = "STANDARD"
    versioning: _Switch = msgspec.field(default_factory=_Switch)
    soft_delete_policy: _SoftDelete = msgspec.field(default_factory=_SoftDelete)
    retention_policy: _Retention = msgspec.field(default_factory=_Retention)
    default_event_based_hold: bool = False
    autoclass: _Switch = msgspec.field(default_factory=_Switch)
    billing: _Billing = msgspec.field(default_factory=_Billing)
    hierarchical_namespace: _Switch = msgspec.field(default_factory=_Switch)


class _Permissions(msgspec.Struct):
    kind: Literal["storage#testIamPermissionsResponse"]
    permissions: list[str] = []


# strict=False reads the numbers that come as strings.
_OBJECT = msgspec.json.Decoder(_Object, strict=False)
_BUCKET = msgspec.json.Decoder(_Bucket, strict=False)
_PERMISSIONS = msgspec.json.Decoder(_Permissions)


def object_decoder(name: str) -> Callable[[bytes], StoredObject]:
    """Return what reads the metadata of the object `name`. It raises ValueError for anything else."""
    return lambda body: _decode_object(body, name)


def _decode_object(body: bytes, name: str) -> StoredObject:
    item = _OBJECT.decode(body)
    if item.name != name:
        raise ValueError(f"it is about the object {item.name!r}")
    row = Row(
        name=item.name,
        size=item.size,
        generation=item.generation,
        crc32c=crc32c_from_text(item.crc32c) if item.crc32c else None,
        storage_class=item.storage_class,
        updated=item.updated,
        content_type=item.content_type,
        content_encoding=item.content_encoding,
    )
    return StoredObject(
        row=row,
        metadata=item.metadata,
        held=item.event_based_hold or item.temporary_hold,
        retained_until=item.retention_expiration_time,
    )


def bucket_decoder(bucket: str) -> Callable[[bytes], BucketInfo]:
    """Return what reads the settings of the bucket `bucket`. It raises ValueError for anything else."""
    return lambda body: _decode_bucket(body, bucket)


def _decode_bucket(body: bytes, bucket: str) -> BucketInfo:
    item = _BUCKET.decode(body)
    if item.name != bucket:
        raise ValueError(f"it is about the bucket {item.name!r}")
    return BucketInfo(
        name=item.name,
        location=item.location,
        location_type=item.location_type,
        storage_class=item.storage_class,
        versioning=item.versioning.enabled,
        soft_delete_s=item.soft_delete_policy.retention_duration_seconds,
        hard_delete_paused=item.soft_delete_policy.hard_delete_pause.enabled,
        retention_s=item.retention_policy.retention_period,
        default_event_based_hold=item.default_event_based_hold,
        autoclass=item.autoclass.enabled,
        requester_pays=item.billing.requester_pays,
        hierarchical_namespace=item.hierarchical_namespace.enabled,
    )


def decode_permissions(body: bytes) -> frozenset[str]:
    """Read the answer of testPermissions. Raises ValueError for anything else."""
    return frozenset(_PERMISSIONS.decode(body).permissions)


def check_deleted(body: bytes) -> None:
    """Make sure that an answer of success to a deletion is empty. Raises ValueError: somebody else answered."""
    if body.strip() not in (b"", b"{}"):
        raise ValueError(f"a deletion is answered with nothing, and this began with {bytes(body[:60])!r}")
