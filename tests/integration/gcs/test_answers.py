"""Every operation meets every answer of `answer_table.py`, once as an answer that passes and once as one that stays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from answer_table import ANSWERS, OPERATIONS, page

from airflow_dataflux.core import errors
from airflow_dataflux.core.errors import StoreError
from airflow_dataflux.core.gcs.auth import default_store_config
from airflow_dataflux.core.gcs.retry import RetryPolicy
from airflow_dataflux.core.gcs.store import ObjectVersion, PageRequest, Store, StoreOptions
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging.transfer import ObjectReader, ReadTally
from airflow_dataflux.testing import GCSServer

CONTENT = b"content of an object, long enough to break off"


def read(store: Store, pinned: ObjectVersion) -> bytes:
    reader = ObjectReader(store, "b", CancelToken())
    return b"".join(reader.chunks(pinned, start=0, end=len(CONTENT), size=len(CONTENT), tally=ReadTally()))


DO: dict[str, Callable[[Store, ObjectVersion], Any]] = {
    "list": lambda store, _: store.list_page("b", PageRequest()).rows.column("name").to_pylist(),
    "read": read,
    "stat": lambda store, pinned: store.stat("b", "o", pinned.generation).row.size,
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
RESULTS: dict[str, Any] = {
    "list": ["o"],
    "read": CONTENT,
    "stat": len(CONTENT),
    "bucket": "b",
    "permissions": {"storage.objects.get"},
    "upload": 1,
    "compose": len(CONTENT),
    "delete": None,
    "batch": [],
}
CELLS = [(operation, answer) for operation in OPERATIONS for answer in ANSWERS]
NO_BODY = {("delete", "a body that trickles")}
"""A deletion's answer has no body that could trickle."""


BELIEVED = {("delete", "200, nothing"), ("delete", "404")}
"""What Cloud Storage answers to a deletion itself. If somebody else does, the object stays, and is found by a sweep."""


@pytest.fixture(scope="module")
def shared() -> Iterator[GCSServer]:
    with GCSServer() as server:
        yield server


@pytest.fixture
def served(shared: GCSServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[GCSServer, Store, ObjectVersion]]:
    shared.reset()
    shared.create_bucket("b")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", shared.endpoint)
    stored = shared.put("b", "o", CONTENT)
    policy = RetryPolicy(attempts=4, first_delay_s=0.001, max_delay_s=0.01, answer_s=0.3, body_s=0.3)
    store = default_store_config().open(AnonymousTokens(), StoreOptions(connections=2, policy=policy))
    yield shared, store, ObjectVersion(name="o", generation=stored.generation)
    store.close()


def check_state(server: GCSServer, operation: str, *, done: bool) -> None:
    """Nothing is lost: what was there is there unless its deletion was asked for, and what was made is made whole."""
    if operation in ("delete", "batch"):
        assert (server.find("b", "o") is None) == done
    else:
        assert server.find("b", "o") is not None
    made = server.find("b", "new")
    if operation in ("upload", "compose") and done:
        assert made is not None
        assert made.size == RESULTS[operation]
    elif operation not in ("upload", "compose"):
        assert made is None


@pytest.mark.parametrize(("operation", "answer"), CELLS)
def test_an_answer_that_passes(served, operation, answer):
    server, store, pinned = served
    outcome, error, advice = ANSWERS[answer].of(operation)
    fault = server.fail(operation=operation, times=1, **ANSWERS[answer].rule)
    if outcome in ("again", "done"):
        assert DO[operation](store, pinned) == RESULTS[operation]
        if (operation, answer) not in BELIEVED:
            check_state(server, operation, done=True)
    else:
        with pytest.raises(StoreError) as caught:
            DO[operation](store, pinned)
        assert (type(caught.value).__name__, advice in str(caught.value)) == (error, True), str(caught.value)
        assert caught.value.retryable == (outcome == "later")
        check_state(server, operation, done=False)
    if (operation, answer) not in NO_BODY:
        assert server.faults()[fault].hits == 1


@pytest.mark.parametrize(("operation", "answer"), CELLS)
def test_an_answer_that_stays(served, operation, answer):
    server, store, pinned = served
    outcome, error, advice = ANSWERS[answer].of(operation)
    server.fail(operation=operation, **ANSWERS[answer].rule)
    if outcome == "done":
        assert DO[operation](store, pinned) == RESULTS[operation]
        return
    with pytest.raises(StoreError) as caught:
        DO[operation](store, pinned)
    assert type(caught.value).__name__ == error, str(caught.value)
    assert isinstance(caught.value, getattr(errors, error))
    assert advice in str(caught.value)
    assert caught.value.retryable == (outcome in ("again", "later"))
    assert "secret" not in str(caught.value)
    check_state(server, operation, done=False)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_cancel_is_heard_while_an_answer_stays_out(shared, monkeypatch, operation):
    shared.reset()
    shared.create_bucket("b")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", shared.endpoint)
    stored = shared.put("b", "o", CONTENT)
    fault = shared.fail("stall", operation=operation, stall_s=60)
    cancel = CancelToken()
    store = default_store_config().open(AnonymousTokens(), StoreOptions(connections=2, cancel=cancel))
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            DO[operation](store, ObjectVersion(name="o", generation=stored.generation))
        except errors.CancelledError as error:
            ended.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while not shared.faults()[fault].hits:
        assert thread.is_alive()
    cancel.cancel("the test says so")
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert "the test says so" in str(ended[0])
    store.close()


def test_the_page_of_the_documentation_is_this_table():
    path = Path(__file__).parents[3] / "docs" / "reference" / "answers.md"
    assert path.read_text(encoding="utf-8") == page(), "run: python tests/integration/gcs/answer_table.py > " + str(
        path
    )
