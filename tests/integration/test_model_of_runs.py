"""Listings and stagings in any order, between changes of bucket and disk, against a model: two dictionaries.

The bucket lives in memory (`core/gcs/memory.py`, which passes the suite of the real client), so that one run takes
milliseconds and many orders can be tried. What a staging must leave follows from the model alone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_dataflux.core import ListRequest, Manifest, Receipt, StageRequest, list_objects, open_store, stage
from airflow_dataflux.core.config import Filters
from airflow_dataflux.core.errors import DeletionRefusedError, ObjectsChangedError
from airflow_dataflux.core.gcs.memory import MemoryStores
from airflow_dataflux.core.gcs.store import ObjectVersion
from airflow_dataflux.core.runtime.tokens import AnonymousTokens

BUCKET = "model"
EXAMPLES = int(os.environ.get("DATAFLUX_MODEL_RUNS", "25"))
"""Orders of events that are tried; the bar is 500."""

NAMES = [f"{directory}{leaf}" for directory in ("", "a/", "a/b/", "ä/", "z z/") for leaf in ("1.bin", "2.bin", "ü.txt")]
PREFIXES = ("", "", "", "a/", "ä/", "nothing/")
STRATEGIES = ("auto", "compose", "direct")


@dataclass(frozen=True)
class Stored:
    """One object of the model."""

    data: bytes
    generation: int


@dataclass(frozen=True)
class Listed:
    """A manifest, and what the model says is in it."""

    manifest: Manifest
    objects: dict[str, Stored]


class Runs(RuleBasedStateMachine):
    """A bucket, a disk, and whoever lists, stages, changes objects, and meddles with files."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = Path(tempfile.mkdtemp(prefix="dataflux-model-"))
        self.tree = self.disk / "tree"
        self.stores = MemoryStores(page_rows=3)
        self.stores.create_bucket(BUCKET)
        self.store = open_store(self.stores, AnonymousTokens(), connections=4)
        self.bucket: dict[str, Stored] = {}
        self.listed: list[Listed] = []
        self.files: dict[str, bytes] = {}
        """What must be on disk: files that were staged and what others put there."""
        self.ours: set[str] = set()
        """Files that the last receipts placed, by path."""

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.disk)

    @initialize(names=st.sets(st.sampled_from(NAMES), min_size=3, max_size=10), strategy=st.sampled_from(STRATEGIES))
    def begin(self, names: set[str], strategy: str) -> None:
        for name in sorted(names):
            self.put(name, name.encode() * 3)
        self.follow_the_bucket(strategy, delete_extraneous=False)

    @rule(strategy=st.sampled_from(STRATEGIES), delete_extraneous=st.booleans())
    def follow_the_bucket(self, strategy: str, delete_extraneous: bool) -> None:
        """List and stage, as a DAG does."""
        self.list("", inline=False, min_bytes=None)
        self.stage(0, strategy, delete_extraneous, skip=False)

    @rule(name=st.sampled_from(NAMES), data=st.binary(max_size=40))
    def put(self, name: str, data: bytes) -> None:
        stored = self.store.upload(BUCKET, name, data, content_type="application/octet-stream")
        self.bucket[name] = Stored(data, stored.row.generation)

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        if name in self.bucket:
            self.store.delete(BUCKET, ObjectVersion(name=name, generation=self.bucket.pop(name).generation))

    @rule(prefix=st.sampled_from(PREFIXES), inline=st.booleans(), min_bytes=st.sampled_from([None, None, 10]))
    def list(self, prefix: str, inline: bool, min_bytes: int | None) -> None:
        uri = None if inline else str(self.disk / f"manifest-{len(self.listed)}")
        request = ListRequest(
            bucket=BUCKET,
            prefixes=(prefix,),
            filters=Filters(min_bytes=min_bytes),
            manifest_uri=uri,
            seed_manifest_uri=next((one.manifest.uri for one in reversed(self.listed) if one.manifest.uri), None),
        )
        manifest = list_objects(request, store_config=self.stores, tokens=AnonymousTokens(), isolated=False)
        objects = {
            name: stored
            for name, stored in self.bucket.items()
            if name.startswith(prefix) and len(stored.data) >= (min_bytes or 0)
        }
        rows = [(row.name, row.generation, row.size) for row in manifest.rows()]
        assert rows == [
            (name, objects[name].generation, len(objects[name].data)) for name in sorted(objects, key=str.encode)
        ]
        self.listed.append(Listed(Manifest.from_reference(manifest.reference()), objects))

    @precondition(lambda self: self.listed)
    @rule(
        back=st.integers(0, 2),
        strategy=st.sampled_from(STRATEGIES),
        delete_extraneous=st.booleans(),
        skip=st.booleans(),
    )
    def stage(self, back: int, strategy: str, delete_extraneous: bool, skip: bool) -> None:
        listed = self.listed[max(0, len(self.listed) - 1 - back)]
        request = StageRequest(
            destination=str(self.tree),
            strategy=strategy,  # type: ignore[arg-type]
            delete_extraneous=delete_extraneous,
            on_changed_object="skip" if skip else "fail",
        )
        here = {name for name, stored in listed.objects.items() if self.files.get(name) == stored.data}
        changed = {name for name, stored in listed.objects.items() if self.bucket.get(name) != stored}
        try:
            receipt = stage(
                listed.manifest, request, store_config=self.stores, tokens=AnonymousTokens(), isolated=False
            )
        except ObjectsChangedError:
            event("a changed object was an error")
            assert not skip
            assert changed
            self.look()
            return
        except DeletionRefusedError:
            event("an empty manifest was refused")
            assert delete_extraneous
            assert not listed.objects
            return
        event(f"staged with {strategy}: {'some' if receipt.downloaded else 'nothing'} downloaded")
        self.check(listed, receipt, changed, here)
        self.follow(listed, receipt, delete_extraneous=delete_extraneous)

    def check(self, listed: Listed, receipt: Receipt, changed: set[str], here: set[str]) -> None:
        """Compare a receipt with the model: who changed, and how many objects there are."""
        assert set(receipt.changed) <= changed
        # What was here already with the right bytes may be reused, though it changed in the bucket since.
        assert changed - here <= set(receipt.changed)
        assert receipt.object_count == len(listed.objects)

    def follow(self, listed: Listed, receipt: Receipt, *, delete_extraneous: bool) -> None:
        """Let the model follow a staging that succeeded."""
        placed = {name: stored.data for name, stored in listed.objects.items() if name not in receipt.changed}
        if delete_extraneous:
            for name in self.ours - listed.objects.keys():
                self.files.pop(name, None)
            self.ours &= listed.objects.keys()
        self.files |= placed
        self.ours |= placed.keys()

    def look(self) -> None:
        """Take the disk as it is after an error: a staging in place keeps what it placed, and that is right."""
        known = {
            one for listed in self.listed for one in ((name, stored.data) for name, stored in listed.objects.items())
        }
        for name, data in self.on_disk().items():
            if self.files.get(name) != data:
                assert (name, data) in known, f"{name} has bytes that no listed object had"
                self.files[name] = data
                self.ours.add(name)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), how=st.sampled_from(["remove", "damage"]))
    def meddle(self, data: st.DataObject, how: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        path = self.tree / name
        path.unlink()
        del self.files[name]
        if how == "damage":
            self.files[name] = b"somebody else's"
            path.write_bytes(self.files[name])

    @precondition(lambda self: self.tree.exists())
    @rule(name=st.sampled_from(["notes.txt", "a/notes.txt"]))
    def put_a_file_of_ones_own(self, name: str) -> None:
        (self.tree / name).parent.mkdir(exist_ok=True)
        (self.tree / name).write_bytes(b"mine")
        self.files[name] = b"mine"

    @invariant()
    def the_disk_is_as_the_model_says(self) -> None:
        assert self.on_disk() == self.files

    @invariant()
    def no_composite_is_left(self) -> None:
        with self.stores.bucket(BUCKET) as bucket:
            assert bucket is not None
            assert set(bucket.contents) == set(self.bucket)

    def on_disk(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.tree).as_posix(): path.read_bytes()
            for path in self.tree.rglob("*")
            if path.is_file() and ".dataflux" not in path.parts
        }


TestRuns = Runs.TestCase
TestRuns.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestRuns.pytestmark = [pytest.mark.slow]
