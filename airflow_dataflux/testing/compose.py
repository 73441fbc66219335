"""objects.compose (https://cloud.google.com/storage/docs/json_api/v1/objects/compose).

1-32 sources of one storage class, each optionally pinned by generation and by precondition. The composite refers to
its sources' contents; its checksum is combined from theirs, and it has no MD5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_dataflux.testing.buckets import Bucket, now_us
from airflow_dataflux.testing.contents import CompositeContent
from airflow_dataflux.testing.preconditions import check
from airflow_dataflux.testing.records import SETTABLE, ObjectRecord
from airflow_dataflux.testing.refusals import invalid, object_not_found, precondition_failed, required

MAX_SOURCES = 32


def compose(bucket: Bucket, name: bytes, body: dict[str, Any], query: Mapping[str, str]) -> ObjectRecord:
    """Carry out one call and return the new composite. Raises Refusal; nothing is changed then."""
    wanted = body.get("sourceObjects") or []
    if not wanted:
        raise required("You must provide at least one source component.")
    if len(wanted) > MAX_SOURCES:
        raise invalid(f"The number of source components provided ({len(wanted)}) exceeds the maximum ({MAX_SOURCES}).")
    live = bucket.get(name)
    check(query, live)
    bucket.require("storage.objects.create", "storage.objects.get")
    if live is not None:
        bucket.require("storage.objects.delete")
    sources = [_source(bucket, each) for each in wanted]
    destination = body.get("destination") or {}
    classes = {source.storage_class for source in sources}
    storage_class = destination.get("storageClass") or sources[0].storage_class
    if len(classes) > 1 or storage_class not in classes:
        raise invalid("Objects with different storage classes cannot be composed.")
    moment = now_us()
    record = ObjectRecord(
        name=name,
        content=CompositeContent([source.content for source in sources]),
        generation=bucket.next_generation(),
        storage_class=storage_class,
        created_us=moment,
        updated_us=moment,
        headers={key: destination[key] for key in SETTABLE if key in destination},
        metadata=destination.get("metadata"),
        component_count=sum(source.component_count or 1 for source in sources),
        event_based_hold=bucket.settings.default_event_based_hold,
    )
    bucket.put(record)
    if body.get("deleteSourceObjects"):
        _delete_sources(bucket, sources)
    return record


def _source(bucket: Bucket, wanted: dict[str, Any]) -> ObjectRecord:
    if not wanted.get("name"):
        raise required("Source object name is required.")
    name = str(wanted["name"]).encode()
    try:
        generation = int(wanted["generation"]) if wanted.get("generation") is not None else None
        condition = (wanted.get("objectPreconditions") or {}).get("ifGenerationMatch")
        match = int(condition) if condition is not None else None
    except ValueError as error:
        raise invalid(f"Invalid generation of a source component: {error}") from None
    record = bucket.get_version(name, generation)
    if record is None:
        raise object_not_found(bucket.name, name.decode())
    if match is not None and record.generation != match:
        raise precondition_failed()
    return record


def _delete_sources(bucket: Bucket, sources: list[ObjectRecord]) -> None:
    bucket.require("storage.objects.delete")
    for source in {source.name: source for source in sources}.values():
        live = bucket.get(source.name)
        if live is not None and live.generation == source.generation:
            bucket.remove(live, pinned=True)
