"""Objects and buckets as the JSON API describes them, turned into this project's words.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects#resource and .../v1/buckets#resource. 64-bit numbers
come as strings. Properties that are not set are absent.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from airflow_dataflux.core.gcs.hashes import crc32c_from_text
from airflow_dataflux.core.gcs.store import BucketInfo, StoredObject
from airflow_dataflux.core.model import Row

OBJECT_FIELDS = "name,size,generation,crc32c,storageClass,updated,contentType,contentEncoding"
"""The properties that make a row."""

STORED_OBJECT_FIELDS = OBJECT_FIELDS + ",metadata"

BUCKET_FIELDS = (
    "name,location,locationType,storageClass,versioning,softDeletePolicy,retentionPolicy,defaultEventBasedHold,"
    "autoclass,billing,hierarchicalNamespace"
)


class _Object(msgspec.Struct, rename="camel"):
    name: str
    size: int
    generation: int
    updated: datetime
    crc32c: str | None = None
    storage_class: str = "STANDARD"
    content_type: str | None = None
    content_encoding: str | None = None
    metadata: dict[str, str] = {}


class _Switch(msgspec.Struct):
    enabled: bool = False


class _SoftDelete(msgspec.Struct, rename="camel"):
    retention_duration_seconds: int = 0


class _Retention(msgspec.Struct, rename="camel"):
    retention_period: int = 0


class _Billing(msgspec.Struct, rename="camel"):
    requester_pays: bool = False


class _Bucket(msgspec.Struct, rename="camel"):
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
    permissions: list[str] = []


# strict=False reads the numbers that come as strings.
_OBJECT = msgspec.json.Decoder(_Object, strict=False)
_BUCKET = msgspec.json.Decoder(_Bucket, strict=False)
_PERMISSIONS = msgspec.json.Decoder(_Permissions)


def decode_object(body: bytes) -> StoredObject:
    """Read one object's metadata. Raises ValueError if it is none."""
    item = _OBJECT.decode(body)
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
    return StoredObject(row=row, metadata=item.metadata)


def decode_bucket(body: bytes) -> BucketInfo:
    """Read a bucket's settings. Raises ValueError if they are none."""
    item = _BUCKET.decode(body)
    return BucketInfo(
        name=item.name,
        location=item.location,
        location_type=item.location_type,
        storage_class=item.storage_class,
        versioning=item.versioning.enabled,
        soft_delete_s=item.soft_delete_policy.retention_duration_seconds,
        retention_s=item.retention_policy.retention_period,
        default_event_based_hold=item.default_event_based_hold,
        autoclass=item.autoclass.enabled,
        requester_pays=item.billing.requester_pays,
        hierarchical_namespace=item.hierarchical_namespace.enabled,
    )


def decode_permissions(body: bytes) -> frozenset[str]:
    """Read the answer of testPermissions."""
    return frozenset(_PERMISSIONS.decode(body).permissions)
