"""Randomised stagings from a server that fails in every way at once: not a byte wrong, not a file missing or extra.

Each run draws objects, strategy and concurrency, has objects overwritten and deleted between listing and staging and
others while it runs, and meets faults of all kinds at the rates below. In turn, one kind is forced to happen, so that
each is proven however few runs there are.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from how_often import FAULT_RUNS, SEED
from staging_site import BUCKET, Site, content

from airflow_dataflux.core.config import RunIdentity
from airflow_dataflux.core.errors import DatafluxError
from airflow_dataflux.core.gcs.http_store import StoreConfig, open_store
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import Receipt
from airflow_dataflux.testing import GCSServer

KINDS: dict[str, dict[str, Any]] = {
    "503": {"kind": "status", "status": 503, "probability": 0.01},
    "429": {"kind": "status", "status": 429, "probability": 0.005},
    "reset": {"kind": "reset", "probability": 0.01},
    "reset in a body": {"kind": "reset_body", "operation": "read", "probability": 0.01},
    "truncated body": {"kind": "truncate", "operation": "read", "probability": 0.01},
    "flipped byte": {"kind": "flip", "operation": "read", "probability": 0.005},
    "lost answer": {"kind": "lose_answer", "operation": "compose", "probability": 0.02},
    "stall": {"kind": "stall", "probability": 0.01, "stall_s": 0.3},
    "stall in a body": {"kind": "stall_body", "operation": "read", "probability": 0.01, "stall_s": 0.3},
}
LONG_STALL_EVERY = 50
"""Runs between two in which a body stalls for longer than any time-out."""

TRIES = 4


@pytest.mark.timeout(300 + 20 * FAULT_RUNS)
def test_not_a_byte_is_wrong_and_not_a_file_missing_or_extra(gcs_server: GCSServer, tmp_path: Path) -> None:
    hits: Counter[str] = Counter()
    for number in range(FAULT_RUNS):
        gcs_server.reset()
        gcs_server.create_bucket(BUCKET)
        config = StoreConfig(endpoint=gcs_server.endpoint)
        store = open_store(config, AnonymousTokens(), connections=4)
        disk = tmp_path / f"run-{number}"
        disk.mkdir()
        try:
            _Run(Site(gcs_server, store, config, disk), number).check(hits)
        finally:
            store.close()
        shutil.rmtree(disk)
    print(f"{FAULT_RUNS} runs: {dict(hits)}")
    expected = {*list(KINDS)[:FAULT_RUNS], "overwritten", "deleted", "changed while staged"}
    assert {kind for kind in expected if not hits[kind]} == set()


class _Run:
    """One randomised staging."""

    def __init__(self, site: Site, number: int) -> None:
        self.site = site
        self.number = number
        self.random = random.Random(f"{SEED}/{number}")
        self.gone: set[str] = set()
        self.perhaps: set[str] = set()
        self.faults: dict[str, list[int]] = {}

    def check(self, hits: Counter[str]) -> None:
        site, rng = self.site, self.random
        isolated = rng.random() < 0.1
        self._fill()
        staged_before: set[str] = set()
        # What is there already is not composed, and a run that is to lose the answer of a compose needs one.
        if rng.random() < 0.3 and self.forced != "lost answer":
            site.stage(site.manifest("earlier"), strategy="direct")
            renewed = rng.sample(sorted(site.objects), 20)
            staged_before = site.objects.keys() - set(renewed)
            for name in renewed:
                site.put({name: content(rng.randrange(10**6), rng.randrange(1, 4000))})
        manifest = site.manifest()
        self._change_objects(hits)
        self._script_faults()
        receipt = self._stage(
            manifest,
            hits,
            strategy="compose"
            if self.forced == "lost answer"
            else rng.choice(["auto", "compose", "compose", "direct"]),
            max_in_flight=rng.choice([3, 16, 64]),
            delete_extraneous=rng.random() < 0.5,
            isolated=isolated,
            workers=2,
        )
        for kind, faults in self.faults.items():
            hits[kind] += sum(site.server.faults()[fault].hits for fault in faults)
        hits["changed while staged"] += site.server.changes_made()
        for faults in self.faults.values():
            for fault in faults:
                site.server.stop_failing(fault)
        changed = set(receipt.changed)
        context = (SEED, self.number, receipt.summary())
        # Of what an earlier staging left in its place, nobody needs to know that it changed later.
        assert self.gone - staged_before <= changed <= self.gone | self.perhaps, context
        expected = {name: data for name, data in site.objects.items() if name not in changed}
        if changed:
            # Where an object was skipped, what an earlier staging put there may stay.
            expected |= {name: data for name, data in self._earlier(changed).items() if name not in expected}
        site.check_tree(expected)
        assert set(site.composites()) == set(receipt.leftovers), context

    def _earlier(self, names: set[str]) -> dict[str, bytes]:
        found = {}
        for name in names:
            path = self.site.destination / name
            if path.exists():
                found[name] = path.read_bytes()
        return found

    def _fill(self) -> None:
        site, rng = self.site, self.random
        site.put_numbered(rng.choice([70, 150, 400, 400, 2100]), size=rng.choice([20, 3000, 3000, 30_000]))
        site.put(
            {
                f"train/big/{index}": content(index, rng.randrange(100_000, 3_000_000))
                for index in range(rng.randrange(3))
            }
        )
        if rng.random() < 0.1:
            site.put({"train/ranged": content(7, (33 << 20) + rng.randrange(1000))})
        site.put({"train/empty": b""})

    def _change_objects(self, hits: Counter[str]) -> None:
        site, rng = self.site, self.random
        names = rng.sample([name for name in sorted(site.objects) if site.objects[name]], 6)
        for name in names[:2]:
            site.server.put(BUCKET, name, b"overwritten after it was listed")
            hits["overwritten"] += 1
        for name in names[2:3]:
            site.server.delete(BUCKET, name)
            hits["deleted"] += 1
        self.gone.update(names[:3])
        for name in names[3:]:
            self.perhaps.add(name)
            site.server.change_later(BUCKET, name, rng.choice([None, b"later"]), after=rng.randrange(2, 12))

    @property
    def forced(self) -> str:
        """The fault that happens in this run for certain."""
        return list(KINDS)[self.number % len(KINDS)]

    def _script_faults(self) -> None:
        """Script all faults, and one of them for certain."""
        server, rng = self.site.server, self.random
        forced = self.forced
        rule = {key: value for key, value in KINDS[forced].items() if key != "probability"}
        # The first compose or the second of all other requests: even the smallest run has them.
        self.faults[forced] = [server.fail(**rule, nth=1 if rule.get("operation") == "compose" else 2)]
        if self.number % LONG_STALL_EVERY == LONG_STALL_EVERY - 1:
            self.faults["stall beyond the time-out"] = [server.fail("stall_body", operation="read", nth=3, stall_s=30)]
        for kind, rule in KINDS.items():
            self.faults.setdefault(kind, []).append(server.fail(**rule, seed=rng.randrange(10**6)))

    def _stage(self, manifest: Any, hits: Counter[str], **request: Any) -> Receipt:
        """Stage, again after an error that says that this is worth it, as Airflow would."""
        for attempt in range(1, TRIES + 1):
            try:
                return self.site.stage(
                    manifest, on_changed_object="skip", identity=RunIdentity(try_number=attempt), **request
                )
            except DatafluxError as error:
                if not error.retryable or attempt == TRIES:
                    raise
                hits[f"tries that ended with {type(error).__name__}"] += 1
        raise AssertionError("unreachable")
