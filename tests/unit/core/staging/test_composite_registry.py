"""The registry of composites: none of them stays, whatever is known of how its compose ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from airflow_dataflux.core.config import RunIdentity
from airflow_dataflux.core.errors import CancelledError
from airflow_dataflux.core.gcs.memory import MemoryStores
from airflow_dataflux.core.gcs.store import ObjectVersion, PageRequest, Store, StoreOptions
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import composite_registry
from airflow_dataflux.core.staging.batching import Batch, BatchKind
from airflow_dataflux.core.staging.composite_registry import CompositeRegistry
from airflow_dataflux.core.staging.composites import CompositeNames
from airflow_dataflux.core.staging.transfer import GIVE_WAY_S, Cutting, ObjectReader, Transfer

NAMES = CompositeNames(composite_prefix="tmp/", identity=RunIdentity(dag="d", run="r", task="t"))


@dataclass
class Bucket:
    """A bucket with one object, and composites of it."""

    store: Store
    source: ObjectVersion

    def compose(self, name: str) -> ObjectVersion:
        made = self.store.compose("b", name, [self.source], metadata=NAMES.metadata, storage_class="STANDARD")
        return ObjectVersion(name=name, generation=made.row.generation)

    def composites(self) -> list[str]:
        names = self.store.list_page("b", PageRequest(prefix="tmp/")).rows.column("name").to_pylist()
        return [str(name) for name in names]

    def registry(self) -> CompositeRegistry:
        return CompositeRegistry(self.store, "b", NAMES.attempt)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    stores = MemoryStores()
    stores.create_bucket("b")
    store = stores.open(AnonymousTokens(), StoreOptions(connections=4))
    row = store.upload("b", "source", b"content", content_type="text/plain").row
    yield Bucket(store, ObjectVersion(name=row.name, generation=row.generation))
    store.close()


def test_a_composite_that_appears_after_its_compose_was_given_up_is_deleted(bucket: Bucket) -> None:
    registry, name = bucket.registry(), NAMES.name(1, 0)
    registry.register(name)
    registry.given_up(name)
    late = threading.Timer(0.3, bucket.compose, [name])
    late.start()
    assert registry.close() == ()
    late.join()
    assert bucket.composites() == []


def test_a_composite_that_a_late_attempt_makes_once_more_is_deleted(bucket: Bucket) -> None:
    """A busy server read a request so late that a second one had been answered, and its composite deleted."""
    registry, name = bucket.registry(), NAMES.name(1, 0)
    registry.register(name)
    registry.answer_lost(name)
    version = bucket.compose(name)
    registry.created(version)
    registry.given_up(name)
    registry.discard(version)
    bucket.store.delete("b", version)
    late = threading.Timer(0.3, bucket.compose, [name])
    late.start()
    assert registry.close() == ()
    late.join()
    assert bucket.composites() == []


def test_what_is_known_is_not_waited_for(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composite_registry, "LATE_COMPOSE_S", 60.0)
    registry = bucket.registry()
    made, refused, found = NAMES.name(1, 0), NAMES.name(2, 0), NAMES.name(3, 0)
    for name in (made, refused, found):
        registry.register(name)
    registry.created(bucket.compose(made))
    registry.never_made(refused)
    bucket.compose(found)
    for name in (made, refused, found):
        registry.given_up(name)
    began_at = time.monotonic()
    assert registry.close() == ()
    assert time.monotonic() - began_at < 30
    assert bucket.composites() == []


def test_composites_count_until_they_are_deleted(bucket: Bucket) -> None:
    registry = bucket.registry()
    refused, *names = (NAMES.name(number, 0) for number in range(4))
    for name in (refused, *names):
        registry.register(name)
    assert registry.undeleted == 4
    registry.never_made(refused)
    versions = [bucket.compose(name) for name in names]
    for version in versions:
        registry.created(version)
    assert registry.undeleted == 3
    for version in versions:
        registry.discard(version)
    assert registry.undeleted == 3  # whoever deletes them waits for more
    assert registry.close() == ()
    assert registry.undeleted == 0


def test_who_reads_directly_gives_way_to_those_who_wait_to_cut() -> None:
    cutting, went = Cutting(1), threading.Event()
    reader = threading.Thread(target=lambda: (cutting.give_way(), went.set()))
    cutter = threading.Thread(target=lambda: cutting.__enter__())
    with cutting:
        cutting.give_way()  # one cuts and nobody waits
        cutter.start()
        while cutting._wanted < 2:
            time.sleep(0.001)
        began_at = time.monotonic()
        cutting.give_way()
        assert time.monotonic() - began_at >= GIVE_WAY_S * 0.9  # not for longer than that, whatever takes so long
        reader.start()
    cutter.join()
    reader.join()
    assert went.is_set()
    assert cutting._wanted == 1
    cutting.__exit__()


def test_a_compose_whose_answer_is_lost_to_a_cancel_leaves_nothing(bucket: Bucket) -> None:
    class Losing:
        """Answers a compose with a cancel, and carries it out a little later."""

        def compose(self, _bucket: str, name: str, *_sources: object, **_more: object) -> None:
            late.append(threading.Timer(0.3, bucket.compose, [name]))
            late[0].start()
            raise CancelledError("the task was killed")

        def waited_s(self) -> float:
            return 0.0

    late: list[threading.Timer] = []
    registry = bucket.registry()
    transfer = Transfer(
        ObjectReader(bucket.store, "b", CancelToken()),
        Losing(),  # type: ignore[arg-type]  # no more of a store is used
        lambda: pytest.fail("nothing is written"),
        registry,
        NAMES,
        "",
        Cutting(1),
    )
    source = bucket.source
    batch = Batch(1, BatchKind.COMPOSITE, "STANDARD", (0,), (source.name,), (7,), (source.generation,), (None,))
    with pytest.raises(CancelledError):
        transfer._compose(batch, 0, None, None)  # type: ignore[arg-type]  # neither is reached
    registry.close()
    late[0].join()
    assert bucket.composites() == []
