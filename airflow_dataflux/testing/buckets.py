"""A bucket: its settings and its objects, sorted by name.

Objects live in two layers. Synthetic ranges lie below: sorted, read-only, disjoint. Above them lies what was put,
composed or changed: a dictionary of records and a sorted list of their names, in which a record of None hides the
synthetic object of that name because it was deleted. Listings walk both layers (`runs`) without copying either.

Everything here runs in the server's one event loop, so that every change is atomic.
"""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any

from airflow_dataflux.testing.control_messages import BucketSettings
from airflow_dataflux.testing.http_messages import ApiError, forbidden, invalid
from airflow_dataflux.testing.object_record import ObjectRecord, timestamp
from airflow_dataflux.testing.synthetic import SyntheticRange

Run = tuple[SyntheticRange, int, int] | ObjectRecord
"""A piece of a listing: consecutive objects `[start, end)` of a synthetic range, or one record."""


def now_us() -> int:
    """Return the wall clock in microseconds."""
    return time.time_ns() // 1000


class Bucket:
    """One bucket. See the module's docstring."""

    def __init__(self, name: str, settings: BucketSettings) -> None:
        self.name = name
        self.settings = settings
        self.created_us = now_us()
        self.metageneration = 1
        self.noncurrent: list[ObjectRecord] = []
        self.soft_deleted: list[ObjectRecord] = []
        self._ranges: list[SyntheticRange] = []
        self._records: dict[bytes, ObjectRecord | None] = {}
        self._names: list[bytes] = []
        self._last_generation = 0

    def next_generation(self) -> int:
        """Return a generation later than every earlier one of this bucket: the time in microseconds."""
        self._last_generation = max(self._last_generation + 1, now_us())
        return self._last_generation

    def add_range(self, synthetic: SyntheticRange) -> None:
        """Add a synthetic range. Raises ApiError (400) if its names would interleave with another range's."""
        for other in self._ranges:
            if synthetic.first <= other.last and other.first <= synthetic.last:
                raise invalid(
                    f"Synthetic ranges of one bucket must not interleave: {synthetic.first!r}..{synthetic.last!r} "
                    f"meets {other.first!r}..{other.last!r}. Give each its own prefix."
                )
        self._ranges.append(synthetic)
        self._ranges.sort(key=lambda each: each.first)

    def get(self, name: bytes) -> ObjectRecord | None:
        """Return the live version of an object."""
        if name in self._records:
            return self._records[name]
        for synthetic in self._ranges:
            index = synthetic.find(name)
            if index is not None:
                return synthetic.record(index)
        return None

    def get_version(self, name: bytes, generation: int | None) -> ObjectRecord | None:
        """Return the live version, or the one of a generation, which may be noncurrent."""
        live = self.get(name)
        if generation is None or (live is not None and live.generation == generation):
            return live
        return next((old for old in self.noncurrent if old.name == name and old.generation == generation), None)

    def put(self, record: ObjectRecord) -> None:
        """Make `record` the live version; what was live becomes noncurrent, soft-deleted, or is gone."""
        live = self.get(record.name)
        if live is not None and live.generation != record.generation:
            self._check_removable(live)
            self._retire(live)
        self.restate(record)

    def restate(self, record: ObjectRecord) -> None:
        """Replace the record of an object whose content stays the same."""
        if record.name not in self._records:
            insort(self._names, record.name)
        self._records[record.name] = record

    def put_many(self, records: list[ObjectRecord]) -> None:
        """Put new objects, sorted once. For seeding; replaced objects leave no noncurrent version."""
        fresh = [record.name for record in records if record.name not in self._records]
        self._records.update((record.name, record) for record in records)
        self._names = sorted({*self._names, *fresh})

    def remove(self, record: ObjectRecord, *, pinned: bool) -> None:
        """Delete a version; `pinned` says that the caller named its generation. Raises ApiError if it is held."""
        self._check_removable(record)
        if record.deleted_us is not None:
            self.noncurrent.remove(record)
            self._soften(record)
            return
        if pinned and self.settings.versioning:
            self._soften(record)
        else:
            self._retire(record)
        if any(synthetic.find(record.name) is not None for synthetic in self._ranges):
            if record.name not in self._records:
                insort(self._names, record.name)
            self._records[record.name] = None
        else:
            del self._records[record.name]
            del self._names[bisect_left(self._names, record.name)]

    def runs(self, start: bytes, end: bytes | None) -> Iterator[Run]:
        """Yield the live objects with names in `[start, end)`, in order, as runs.

        The bucket must not change while the iterator is in use.
        """
        position = bisect_left(self._names, start)
        stop = len(self._names) if end is None else bisect_left(self._names, end)
        for synthetic in self._ranges:
            index = synthetic.lower_bound(start)
            last = synthetic.count if end is None else synthetic.lower_bound(end)
            while index < last:
                if position >= stop or self._names[position] > synthetic.last:
                    yield synthetic, index, last
                    break
                name = self._names[position]
                until = synthetic.lower_bound(name)
                if until > index:
                    yield synthetic, index, until
                    index = until
                hidden = index < last and synthetic.name(index) == name
                index += hidden
                record = self._records[name]
                if record is not None:
                    yield record
                position += 1
        for name in self._names[position:stop] if stop - position < 2000 else self._slices(position, stop):
            record = self._records[name]
            if record is not None:
                yield record

    def _slices(self, position: int, stop: int) -> Iterator[bytes]:
        for start in range(position, stop, 1000):
            yield from self._names[start : min(start + 1000, stop)]

    def _retire(self, record: ObjectRecord) -> None:
        if self.settings.versioning:
            self.noncurrent.append(record.changed(deleted_us=now_us()))
        else:
            self._soften(record)

    def _soften(self, record: ObjectRecord) -> None:
        if self.settings.soft_delete_s:
            moment = now_us()
            hard_us = moment + self.settings.soft_delete_s * 1_000_000
            self.soft_deleted.append(record.changed(deleted_us=moment, hard_delete_us=hard_us))

    def _check_removable(self, record: ObjectRecord) -> None:
        resource = f"{self.name}/{record.name.decode()}"
        if record.event_based_hold or record.temporary_hold:
            raise ApiError(
                403,
                "forbidden",
                f"Object '{resource}' is under active hold and cannot be deleted, overwritten or archived.",
            )
        retained_until_us = record.created_us + self.settings.retention_s * 1_000_000
        if self.settings.retention_s and now_us() < retained_until_us:
            raise ApiError(
                403,
                "retentionPolicyNotMet",
                f"Object '{resource}' is subject to bucket's retention policy or object retention and cannot be "
                f"deleted or overwritten until {timestamp(retained_until_us)}",
            )

    def require(self, *permissions: str) -> None:
        """Raise ApiError (403) for the first permission that the caller does not hold."""
        held = self.settings.permissions
        if held is not None:
            for permission in permissions:
                if permission not in held:
                    on_bucket = permission.startswith("storage.buckets.") or permission.endswith(".list")
                    raise forbidden(permission, "bucket" if on_bucket else "object")

    def resource(self, endpoint: str) -> dict[str, Any]:
        """Return the bucket resource (https://cloud.google.com/storage/docs/json_api/v1/buckets#resource)."""
        settings, created = self.settings, timestamp(self.created_us)
        answer: dict[str, Any] = {
            "kind": "storage#bucket",
            "id": self.name,
            "selfLink": f"{endpoint}/storage/v1/b/{self.name}",
            "name": self.name,
            "projectNumber": "0",
            "metageneration": str(self.metageneration),
            "etag": f"{self.metageneration}",
            "location": settings.location,
            "locationType": settings.location_type,
            "storageClass": settings.storage_class,
            "timeCreated": created,
            "updated": created,
            "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "inherited"},
            "softDeletePolicy": {"retentionDurationSeconds": str(settings.soft_delete_s)},
        }
        if settings.soft_delete_s:
            answer["softDeletePolicy"]["effectiveTime"] = created
        if settings.hard_delete_paused:
            answer["softDeletePolicy"]["hardDeletePause"] = {"enabled": True}
        if settings.versioning:
            answer["versioning"] = {"enabled": True}
        if settings.retention_s:
            answer["retentionPolicy"] = {"retentionPeriod": str(settings.retention_s), "effectiveTime": created}
        if settings.default_event_based_hold:
            answer["defaultEventBasedHold"] = True
        if settings.autoclass:
            answer["autoclass"] = {"enabled": True, "toggleTime": created, "terminalStorageClass": "NEARLINE"}
        if settings.requester_pays:
            answer["billing"] = {"requesterPays": True}
        if settings.hierarchical_namespace:
            answer["hierarchicalNamespace"] = {"enabled": True}
        return answer


def settings_of(body: dict[str, Any]) -> BucketSettings:
    """Return the settings that a bucket resource in a request asks for."""
    policy = body.get("softDeletePolicy", {})
    location = body.get("location", "US").upper()
    return BucketSettings(
        storage_class=body.get("storageClass", "STANDARD"),
        location=location,
        location_type="region" if "-" in location else "multi-region",
        versioning=bool(body.get("versioning", {}).get("enabled")),
        soft_delete_s=int(policy.get("retentionDurationSeconds", 7 * 86_400)),
        hard_delete_paused=bool(policy.get("hardDeletePause", {}).get("enabled")),
        retention_s=int(body.get("retentionPolicy", {}).get("retentionPeriod", 0)),
        default_event_based_hold=bool(body.get("defaultEventBasedHold")),
        autoclass=bool(body.get("autoclass", {}).get("enabled")),
        requester_pays=bool(body.get("billing", {}).get("requesterPays")),
        hierarchical_namespace=bool(body.get("hierarchicalNamespace", {}).get("enabled")),
    )
