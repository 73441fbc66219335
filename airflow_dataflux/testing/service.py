"""Cloud Storage as this server knows it: buckets, and one method for each action of a route.

Plain synchronous code over state that belongs to the event loop: an action happens at once or not at all.
Latency, faults, budgets and HTTP lie around it (`request_handler.py`).
The functions below the class are the owner's: they fill buckets past permissions and preconditions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from airflow_dataflux.testing.buckets import Bucket, now_us, settings_of
from airflow_dataflux.testing.contents import FileContent
from airflow_dataflux.testing.control_messages import BucketSettings, Settings, StoredVersion, SyntheticObjects
from airflow_dataflux.testing.http_messages import (
    JSON_TYPE,
    Answer,
    ApiError,
    IncomingCall,
    bucket_not_found,
    invalid,
    json_answer,
    object_not_found,
    required,
)
from airflow_dataflux.testing.object_bytes import Uploads, compose, legal_name, media_answer, new_object
from airflow_dataflux.testing.object_record import SETTABLE, ObjectRecord, check, integer, resource
from airflow_dataflux.testing.objects_list import list_page, parse_query
from airflow_dataflux.testing.routes import Route
from airflow_dataflux.testing.synthetic import SyntheticRange


class Service:
    """All buckets, and what can be done with them."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.settings = Settings()
        self.buckets: dict[str, Bucket] = {}
        self.uploads = Uploads(endpoint)
        self._actions: dict[str, Callable[[Route, IncomingCall], Answer]] = {
            "list": self._list,
            "read": self._read,
            "stat": self._stat,
            "start_upload": lambda route, call: self.uploads.start(self._bucket(route.bucket, call), call),
            "resume_upload": lambda route, call: self.uploads.resume(call),
            "compose": self._compose,
            "copy": self._copy,
            "rewrite": self._rewrite,
            "delete": self._delete,
            "patch": self._patch,
            "permissions": self._permissions,
            "get_bucket": self._get_bucket,
            "patch_bucket": self._patch_bucket,
            "delete_bucket": self._delete_bucket,
            "list_buckets": self._list_buckets,
            "insert_bucket": self._insert_bucket,
        }

    def perform(self, route: Route, call: IncomingCall) -> Answer:
        """Carry out one call. Raises ApiError."""
        return self._actions[route.action](route, call)

    def create_bucket(self, name: str, settings: BucketSettings) -> Bucket:
        """Make a bucket. Raises ApiError (409) if there is one of that name."""
        if name in self.buckets:
            message = "Your previous request to create the named bucket succeeded and you already own it."
            raise ApiError(409, "conflict", message)
        bucket = self.buckets[name] = Bucket(name, settings)
        return bucket

    def _bucket(self, name: str, call: IncomingCall) -> Bucket:
        bucket = self.buckets.get(name)
        if bucket is None:
            raise bucket_not_found()
        if bucket.settings.requester_pays and not (
            call.query.get("userProject") or call.headers.get("X-Goog-User-Project")
        ):
            raise required("Bucket is a requester pays bucket but no user project provided.")
        return bucket

    def _live(self, bucket: Bucket, route: Route, call: IncomingCall, *, reading: bool) -> ObjectRecord:
        """Return the version that a call means, its preconditions checked. Raises ApiError."""
        record = bucket.get_version(_name(route.name), integer(call.query, "generation"))
        if record is None and integer(call.query, "ifGenerationMatch") and not reading:
            check(call.query, None)
        if record is None:
            raise object_not_found(bucket.name, route.name)
        check(call.query, record, reading=reading)
        return record

    def _list(self, route: Route, call: IncomingCall) -> Answer:
        bucket = self._bucket(route.bucket, call)
        bucket.require("storage.objects.list")
        page = list_page(bucket, parse_query(call.query, self.settings), self.endpoint)
        return Answer(body=page.body, rows=page.rows, headers={"Content-Type": JSON_TYPE})

    def _read(self, route: Route, call: IncomingCall) -> Answer:
        bucket = self._bucket(route.bucket, call)
        bucket.require("storage.objects.get")
        return media_answer(self._live(bucket, route, call, reading=True), call)

    def _stat(self, route: Route, call: IncomingCall) -> Answer:
        bucket = self._bucket(route.bucket, call)
        bucket.require("storage.objects.get")
        return self._resource(bucket, self._live(bucket, route, call, reading=True), call)

    def _compose(self, route: Route, call: IncomingCall) -> Answer:
        bucket = self._bucket(route.bucket, call)
        record = compose(bucket, legal_name(route.name), call.json(), call.query)
        return self._resource(bucket, record, call)

    def _delete(self, route: Route, call: IncomingCall) -> Answer:
        bucket = self._bucket(route.bucket, call)
        bucket.require("storage.objects.delete")
        record = self._live(bucket, route, call, reading=False)
        bucket.remove(record, pinned="generation" in call.query)
        return Answer(status=204)

    def _patch(self, route: Route, call: IncomingCall) -> Answer:
        bucket = self._bucket(route.bucket, call)
        bucket.require("storage.objects.update")
        record = self._live(bucket, route, call, reading=False)
        record = patched(record, call.json(), replace=call.method == "PUT")
        bucket.restate(record)
        return self._resource(bucket, record, call)

    def _copy(self, route: Route, call: IncomingCall) -> Answer:
        bucket, record = self._copied(route, call)
        return self._resource(bucket, record, call)

    def _rewrite(self, route: Route, call: IncomingCall) -> Answer:
        bucket, record = self._copied(route, call)
        size = str(record.content.size)
        return json_answer(
            {
                "kind": "storage#rewriteResponse",
                "totalBytesRewritten": size,
                "objectSize": size,
                "done": True,
                "resource": self._object(bucket, record),
            },
            call=call,
        )

    def _copied(self, route: Route, call: IncomingCall) -> tuple[Bucket, ObjectRecord]:
        origin, target = self._bucket(route.bucket, call), self._bucket(route.other_bucket, call)
        origin.require("storage.objects.get")
        target.require("storage.objects.create")
        source = origin.get_version(_name(route.name), integer(call.query, "sourceGeneration"))
        if source is None:
            raise object_not_found(origin.name, route.name)
        check(call.query, source, source=True)
        name = legal_name(route.other_name)
        live = target.get(name)
        check(call.query, live)
        if live is not None:
            target.require("storage.objects.delete")
        body, moment = call.json(), now_us()
        record = source.changed(
            name=name,
            generation=target.next_generation(),
            metageneration=1,
            storage_class=body.get("storageClass") or target.settings.storage_class,
            created_us=moment,
            updated_us=moment,
            event_based_hold=target.settings.default_event_based_hold,
            temporary_hold=False,
            deleted_us=None,
        )
        if any(key in body for key in (*SETTABLE, "metadata")):
            record = patched(record, body, replace=True).changed(metageneration=1)
        target.put(record)
        return target, record

    def _permissions(self, route: Route, call: IncomingCall) -> Answer:
        bucket = self._bucket(route.bucket, call)
        asked = [value for key, value in call.query_pairs if key == "permissions"]
        if not asked:
            raise required("Required parameter: permissions")
        held = bucket.settings.permissions
        granted = [permission for permission in asked if held is None or permission in held]
        answer: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
        if granted:
            answer["permissions"] = granted
        return json_answer(answer, call=call)

    def _get_bucket(self, route: Route, call: IncomingCall) -> Answer:
        bucket = self._bucket(route.bucket, call)
        bucket.require("storage.buckets.get")
        return json_answer(bucket.resource(self.endpoint), call=call)

    def _patch_bucket(self, route: Route, call: IncomingCall) -> Answer:
        bucket = self._bucket(route.bucket, call)
        bucket.require("storage.buckets.update")
        body, now = call.json(), settings_of(call.json())
        fields = {
            "versioning": ["versioning"],
            "softDeletePolicy": ["soft_delete_s", "hard_delete_paused"],
            "retentionPolicy": ["retention_s"],
            "defaultEventBasedHold": ["default_event_based_hold"],
            "autoclass": ["autoclass"],
            "billing": ["requester_pays"],
            "storageClass": ["storage_class"],
        }
        for key, attributes in fields.items():
            for attribute in attributes if key in body else ():
                setattr(bucket.settings, attribute, getattr(now, attribute))
        bucket.metageneration += 1
        return json_answer(bucket.resource(self.endpoint), call=call)

    def _delete_bucket(self, route: Route, call: IncomingCall) -> Answer:
        bucket = self._bucket(route.bucket, call)
        bucket.require("storage.buckets.delete")
        if next(bucket.runs(b"", None), None) is not None or bucket.noncurrent:
            raise ApiError(409, "conflict", "The bucket you tried to delete is not empty.")
        del self.buckets[bucket.name]
        return Answer(status=204)

    def _list_buckets(self, route: Route, call: IncomingCall) -> Answer:
        prefix = call.query.get("prefix", "")
        items = [self.buckets[name].resource(self.endpoint) for name in sorted(self.buckets) if name.startswith(prefix)]
        return json_answer({"kind": "storage#buckets", **({"items": items} if items else {})}, call=call)

    def _insert_bucket(self, route: Route, call: IncomingCall) -> Answer:
        body = call.json()
        if not body.get("name"):
            raise required("Required bucket name is missing.")
        bucket = self.create_bucket(str(body["name"]), settings_of(body))
        return json_answer(bucket.resource(self.endpoint), call=call)

    def _resource(self, bucket: Bucket, record: ObjectRecord, call: IncomingCall) -> Answer:
        return json_answer(self._object(bucket, record), call=call)

    def _object(self, bucket: Bucket, record: ObjectRecord) -> dict[str, Any]:
        return resource(record, bucket=bucket.name, endpoint=self.endpoint, retention_s=bucket.settings.retention_s)


def patched(record: ObjectRecord, body: Mapping[str, Any], *, replace: bool) -> ObjectRecord:
    """Return the record with the metadata of `body` merged in, or put in place of its own."""
    headers = {} if replace else dict(record.headers)
    for key in SETTABLE:
        if body.get(key) is not None:
            headers[key] = str(body[key])
        elif key in body:
            headers.pop(key, None)
    metadata = {} if replace or body.get("metadata", {}) is None else dict(record.metadata or {})
    for key, value in (body.get("metadata") or {}).items():
        if value is None:
            metadata.pop(key, None)
        else:
            metadata[key] = str(value)
    if "storageClass" in body and body["storageClass"] != record.storage_class and not replace:
        raise invalid("The storage class of an object is changed by rewriting it.")
    return record.changed(
        headers=headers,
        metadata=metadata or None,
        metageneration=record.metageneration + 1,
        updated_us=now_us(),
        event_based_hold=bool(body.get("eventBasedHold", record.event_based_hold)),
        temporary_hold=bool(body.get("temporaryHold", record.temporary_hold)),
    )


def _name(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def owned_bucket(service: Service, name: str) -> Bucket:
    """Return a bucket to its owner. Raises ApiError (404)."""
    if name not in service.buckets:
        raise bucket_not_found()
    return service.buckets[name]


def put_object(service: Service, bucket: str, name: str, data: bytes, metadata: Mapping[str, Any]) -> StoredVersion:
    """Put an object; `metadata` is an object resource."""
    target = owned_bucket(service, bucket)
    record = new_object(target, legal_name(name), data, metadata, {})
    if metadata.get("componentCount"):
        record = record.changed(component_count=int(metadata["componentCount"]), md5=None)
    target.put(record)
    return record.version()


def add_synthetic_objects(service: Service, order: SyntheticObjects) -> None:
    """Add a synthetic range to a bucket."""
    owned_bucket(service, order.bucket).add_range(SyntheticRange(order, endpoint=service.endpoint))


def seed_directory(service: Service, bucket: str, directory: str, prefix: str) -> tuple[int, int]:
    """Serve every regular file below `directory`, in place, as an object; return how many, and their bytes."""
    target, records, total_bytes = owned_bucket(service, bucket), [], 0
    for folder, _, files in os.walk(directory):
        for file in sorted(files):
            path = os.path.join(folder, file)
            if not os.path.isfile(path):
                continue
            name = prefix + os.path.relpath(path, directory).replace(os.sep, "/")
            content = FileContent(path)
            moment = now_us()
            total_bytes += content.size
            records.append(
                ObjectRecord(
                    name=legal_name(name),
                    content=content,
                    generation=target.next_generation(),
                    storage_class=target.settings.storage_class,
                    created_us=moment,
                    updated_us=moment,
                    headers={"contentType": "application/octet-stream"},
                    event_based_hold=target.settings.default_event_based_hold,
                )
            )
    target.put_many(records)
    return len(records), total_bytes
