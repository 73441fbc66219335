"""Answers of success that are not Cloud Storage's: never taken for one, asked for again, an error if they stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_dataflux.core.errors import UnavailableError
from airflow_dataflux.core.gcs.store import ObjectVersion, PageRequest, Store

FOREIGN = {
    "a maintenance message": b'{"message": "maintenance"}',
    "an empty object": b"{}",
    "nothing": b"",
    "a proxy's page": b"<html><body>Please log in</body></html>",
    "a list": b"[]",
    "half of the JSON": b'{"kind": "storage#objects", "items": [',
    "another kind": b'{"kind": "storage#notifications", "items": []}',
    "another object": json.dumps(
        {"kind": "storage#object", "name": "else", "generation": "1", "size": "1", "updated": "2026-01-01T00:00:00Z"}
    ).encode(),
    "another bucket": b'{"kind": "storage#bucket", "name": "else"}',
}


def read(store: Store, pinned: ObjectVersion) -> bytes:
    with store.read("b", pinned) as body:
        return b"".join(body.chunks())


OPERATIONS: dict[str, Callable[[Store, ObjectVersion], Any]] = {
    "list": lambda store, _: store.list_page("b", PageRequest()).rows.num_rows,
    "stat": lambda store, pinned: store.stat("b", "o", pinned.generation).row.size,
    "read": read,
    "bucket": lambda store, _: store.bucket_info("b").name,
    "permissions": lambda store, _: store.test_permissions("b", ["storage.objects.get"]),
    "upload": lambda store, _: (
        store.upload("b", "new", b"x", content_type="text/plain", if_generation_match=0).row.size
    ),
    "compose": lambda store, pinned: (
        store.compose("b", "new", [pinned], metadata={"run": "1"}, storage_class="STANDARD").row.size
    ),
    "delete": lambda store, pinned: store.delete("b", pinned),
    "batch": lambda store, pinned: store.delete_many("b", [pinned]),
}
RESULTS = {
    "list": 1,
    "stat": 7,
    "read": b"content",
    "bucket": "b",
    "permissions": {"storage.objects.get"},
    "upload": 1,
    "compose": 7,
    "delete": None,
    "batch": [],
}
HARMLESS = {("delete", "an empty object"), ("delete", "nothing")}
"""What says nothing wrong: a deletion is answered with nothing."""

CELLS = [(operation, what) for operation in OPERATIONS for what in FOREIGN if (operation, what) not in HARMLESS]


@pytest.mark.parametrize("after_work", [False, True])
@pytest.mark.parametrize(("operation", "what"), CELLS)
def test_a_foreign_answer_is_asked_for_again(embedded, operation, what, after_work):
    server, store = embedded
    stored = server.put("b", "o", b"content")
    pinned = ObjectVersion(name="o", generation=stored.generation)
    fault = server.fail("answer", operation=operation, status=200, body=FOREIGN[what], times=1, after_work=after_work)
    assert OPERATIONS[operation](store, pinned) == RESULTS[operation]
    assert server.faults()[fault].hits == 1
    assert (server.find("b", "o") is None) == (operation in ("delete", "batch"))
    assert (server.find("b", "new") is not None) == (operation in ("upload", "compose"))


@pytest.mark.parametrize(("operation", "what"), [cell for cell in CELLS if cell[0] != "batch"])
def test_a_foreign_answer_that_stays_is_an_error_worth_a_retry(embedded, operation, what):
    server, store = embedded
    stored = server.put("b", "o", b"content")
    server.fail("answer", operation=operation, status=200, body=FOREIGN[what])
    with pytest.raises(UnavailableError) as caught:
        OPERATIONS[operation](store, ObjectVersion(name="o", generation=stored.generation))
    assert "not what Cloud Storage documents" in str(caught.value)
    assert server.find("b", "o") is not None


@pytest.mark.parametrize("what", FOREIGN)
def test_objects_are_deleted_one_by_one_where_batches_are_answered_by_somebody_else(embedded, what):
    server, store = embedded
    stored = server.put("b", "o", b"content")
    server.fail("answer", operation="batch", status=200, body=FOREIGN[what])
    assert store.delete_many("b", [ObjectVersion(name="o", generation=stored.generation)]) == []
    assert server.find("b", "o") is None


def test_the_bytes_of_another_generation_are_not_taken_for_the_one_asked_for(embedded):
    server, store = embedded
    stored = server.put("b", "o", b"content")
    headers = {"X-Goog-Generation": "1", "X-Goog-Hash": "crc32c=AAAAAA=="}
    fault = server.fail("answer", operation="read", status=200, body=b"CONTENT", headers=headers, times=1)
    assert read(store, ObjectVersion(name="o", generation=stored.generation)) == b"content"
    assert server.faults()[fault].hits == 1
