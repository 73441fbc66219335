"""Objects from a stream: whole or not there, whatever happens to a request on the way."""

from __future__ import annotations

import random
import threading

import google_crc32c
import pytest

from airflow_dataflux.core.errors import (
    CancelledError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StoreError,
    UnavailableError,
)
from airflow_dataflux.core.gcs import uploads
from airflow_dataflux.core.gcs.auth import default_store_config
from airflow_dataflux.core.gcs.http_store import open_store
from airflow_dataflux.core.gcs.store import ObjectVersion
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import AnonymousTokens

CHUNK = 1 << 18
DATA = random.Random(1).randbytes(3 * CHUNK + 1000)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(uploads, "CHUNK_BYTES", CHUNK)


def begin(store, *, generation=0, name="o"):
    return store.begin_upload(
        "b", name, content_type="application/x-tar", metadata={"k": "v"}, if_generation_match=generation
    )


def send(store, data=DATA, piece=70_000, **options):
    upload = begin(store, **options)
    for start in range(0, len(data), piece):
        upload.append(data[start : start + piece])
    return upload.finish(google_crc32c.value(data))


def content(store, stored):
    with store.read("b", ObjectVersion(name=stored.row.name, generation=stored.row.generation)) as body:
        return b"".join(body.chunks())


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, len(DATA)])
def test_an_object_of_any_length_arrives_whole(embedded, length):
    _, store = embedded
    stored = send(store, DATA[:length])
    assert content(store, stored) == DATA[:length]
    assert (stored.row.size, stored.row.content_type, stored.metadata["k"]) == (length, "application/x-tar", "v")
    assert store.counts().class_a == 1  # however many chunks it took


FAULTS = [
    ("status", {"status": 408}),
    ("status", {"status": 429}),
    ("status", {"status": 503}),
    ("reset", {}),
    ("lose_answer", {}),
]


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("kind", "rule"), FAULTS)
def test_every_request_of_an_upload_survives_a_passing_fault(embedded, kind, rule, nth):
    server, store = embedded
    fault = server.fail(kind, operation="upload", nth=nth, times=1, **rule)
    stored = send(store)
    assert content(store, stored) == DATA
    assert server.faults()[fault].hits == 1


def test_nothing_appears_before_the_end(embedded):
    _, store = embedded
    upload = begin(store)
    upload.append(DATA)
    with pytest.raises(StoreError):
        store.stat("b", "o")
    upload.abandon()
    with pytest.raises(StoreError):
        store.stat("b", "o")


def test_an_object_that_is_there_stays_if_nothing_was_expected(embedded):
    server, store = embedded
    server.put("b", "o", b"somebody else's")
    with pytest.raises(PreconditionFailedError):
        send(store)
    assert content(store, store.stat("b", "o")) == b"somebody else's"


def test_the_generation_that_was_seen_is_replaced(embedded):
    server, store = embedded
    before = server.put("b", "o", b"an earlier one")
    stored = send(store, generation=before.generation)
    assert content(store, stored) == DATA


def test_somebody_who_is_faster_wins_and_the_other_is_told(embedded):
    server, store = embedded
    upload = begin(store)
    upload.append(DATA)
    server.put("b", "o", b"faster")
    with pytest.raises(PreconditionFailedError):
        upload.finish(google_crc32c.value(DATA))
    assert content(store, store.stat("b", "o")) == b"faster"


def test_a_checksum_that_does_not_fit_makes_no_object(embedded):
    _, store = embedded
    upload = begin(store)
    upload.append(DATA)
    with pytest.raises(StoreError):
        upload.finish(google_crc32c.value(DATA) ^ 1)
    with pytest.raises(StoreError):
        store.stat("b", "o")


def test_a_session_that_is_gone_is_worth_another_try(embedded):
    _, store = embedded
    upload = begin(store)
    upload.append(DATA[: CHUNK + 1])
    upload.abandon()
    with pytest.raises(UnavailableError, match="does not know it any more"):
        upload.append(DATA)
    with pytest.raises(ObjectNotFoundError):
        store.stat("b", "o")


@pytest.fixture
def cancelled(embedded):
    """The server, a store, and the token that cancels its work."""
    server, _ = embedded
    cancel = CancelToken()
    store = open_store(default_store_config(), AnonymousTokens(), connections=2, cancel=cancel)
    yield server, store, cancel
    store.close()


def test_an_upload_is_given_up_after_a_cancel_too(cancelled):
    server, store, cancel = cancelled
    upload = begin(store)
    upload.append(DATA)
    cancel.cancel("a test")
    with pytest.raises(CancelledError):
        upload.append(DATA)
    assert server.unfinished_uploads("b") == ["o"]
    upload.abandon()
    assert server.unfinished_uploads("b") == []


def test_an_upload_that_a_cancel_finds_half_opened_can_be_given_up(cancelled):
    server, store, cancel = cancelled
    server.configure(latency_s={"upload": 0.5})

    def cancel_it_under_way():
        while not server.requests().in_flight:
            pass
        cancel.cancel("a test")

    canceller = threading.Thread(target=cancel_it_under_way)
    canceller.start()
    upload = begin(store)
    canceller.join()
    upload.abandon()
    assert server.unfinished_uploads("b") == []
    with pytest.raises(CancelledError):
        begin(store)
    assert server.unfinished_uploads("b") == []
