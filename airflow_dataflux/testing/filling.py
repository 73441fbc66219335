"""What the server's owner does to its buckets, past permissions and preconditions: fill them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from airflow_dataflux.testing import uploads
from airflow_dataflux.testing.buckets import Bucket, now_us
from airflow_dataflux.testing.contents import FileContent
from airflow_dataflux.testing.orders import StoredVersion, SyntheticOrder
from airflow_dataflux.testing.records import ObjectRecord
from airflow_dataflux.testing.refusals import bucket_not_found
from airflow_dataflux.testing.service import Service
from airflow_dataflux.testing.synthetic import SyntheticRange


def owned(service: Service, name: str) -> Bucket:
    """Return a bucket to its owner. Raises Refusal (404)."""
    if name not in service.buckets:
        raise bucket_not_found()
    return service.buckets[name]


def put(service: Service, bucket: str, name: str, data: bytes, metadata: Mapping[str, Any]) -> StoredVersion:
    """Put an object; `metadata` is an object resource."""
    target = owned(service, bucket)
    record = uploads.new_object(target, uploads.legal_name(name), data, metadata, {})
    if metadata.get("componentCount"):
        record = record.changed(component_count=int(metadata["componentCount"]), md5=None)
    target.put(record)
    return record.version()


def synthesize(service: Service, order: SyntheticOrder) -> None:
    """Add a synthetic range to a bucket."""
    owned(service, order.bucket).add_range(SyntheticRange(order, endpoint=service.endpoint))


def seed_directory(service: Service, bucket: str, directory: str, prefix: str) -> tuple[int, int]:
    """Serve every regular file below `directory`, in place, as an object; return how many, and their bytes."""
    target, records, total_bytes = owned(service, bucket), [], 0
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
                    name=uploads.legal_name(name),
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
