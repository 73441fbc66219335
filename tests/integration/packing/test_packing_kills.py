"""Packs that are killed at random moments, then finished: the same bytes, nothing written twice, nothing left.

PACKING_KILLS=30 pytest -s tests/integration/packing/test_packing_kills.py

An upload that a killed process had open cannot be given up by anybody else, as only its address names it. It is never
billed and ends by itself after a week. So what is asked of a kill is that the next try leaves no other one.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess

import pytest
from packing_site import TARGET, Site
from process_table import descendants, kill_all, wait_until_gone
from victim import start_victim, victim_command

KILLS = int(os.environ.get("PACKING_KILLS", "2"))
SEED = int(os.environ.get("PACKING_SEED", "0"))

SAMPLES = 700
LIKELY_S = 2.5
"""About what a pack of them takes from the first line on."""

PARTS = ("index.json", "members.parquet")


class Pack:
    """A manifest, what its pack must be, and a place to kill packs at."""

    def __init__(self, site: Site, output: str) -> None:
        site.put_samples(SAMPLES)
        self.site, self.output = site, output
        whole = f"gs://{TARGET}/undisturbed/packed/"
        self.shard_count = site.pack(site.manifest(), whole, shard_bytes=64 * 1024).shard_count
        self.expected = self.content(whole)
        site.server.configure(latency_s={"compose": 0.02, "read": 0.01, "batch": 0.01, "upload": 0.02})
        site.server.forget_requests()

    def content(self, output: str) -> dict[str, bytes]:
        """Return shards, table and index: all that must be the same, however often a pack was killed."""
        return {name: data for name, data in self.site.files(output).items() if name.endswith(".tar") or name in PARTS}

    def start(self, try_number: int) -> subprocess.Popen[str]:
        where = self.site.server.endpoint, self.site.disk / "manifest", self.output
        return start_victim(victim_command("pack", *where, try_number=try_number))

    def until_a_random_moment(self, victim: subprocess.Popen[str], rng: random.Random) -> None:
        """Return between the victim's first line and a little after its likely end."""
        if rng.random() < 0.5:
            operation, most = rng.choice([("compose", 44), ("read", 44), ("upload", 60), ("permissions", 2)])
            count = rng.randrange(1, most)
            while self.site.operations().get(operation, 0) < count and victim.poll() is None:
                pass
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            victim.wait(timeout=rng.uniform(0, LIKELY_S))

    def until_the_server_is_idle(self) -> None:
        """What a killed process had sent is carried out, as in reality."""
        while self.site.server.requests().in_flight:
            pass

    def check_unfinished(self) -> int:
        """Check what lies there after a kill; return how many shards do."""
        found = self.content(self.output)
        for name, data in found.items():
            assert data == self.expected[name], name
        if "index.json" in found:
            assert found == self.expected, "the index is written last"
        return sum(name.endswith(".tar") for name in found)

    def check_finished(self, victim: subprocess.Popen[str], placed: int) -> None:
        """Let a try end, and check that it wrote what was missing and that the pack is the undisturbed one."""
        self.site.server.forget_requests()
        out, err = victim.communicate(timeout=120)
        assert victim.returncode == 0, err
        assert out.split() == [str(self.shard_count - placed), str(placed)]
        assert self.content(self.output) == self.expected
        others = set(self.site.files(self.output)) - set(self.expected) - {"report.json"}
        assert all(name.startswith(".dataflux-pack/") and name.endswith(".record") for name in others), others
        assert len(others) == self.shard_count
        assert self.site.composites() == []


@pytest.fixture
def pack(site: Site, output: str) -> Pack:
    return Pack(site, output)


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_pack_that_was_killed_is_finished_with_the_same_bytes(pack: Pack, seed: int) -> None:
    rng = random.Random(f"{SEED}/kill/{seed}/{pack.output.startswith('gs://')}")
    victim = pack.start(1)
    pack.until_a_random_moment(victim, rng)
    kill_all(victim)
    assert victim.returncode in (0, -signal.SIGKILL)
    pack.until_the_server_is_idle()
    placed, left = pack.check_unfinished(), len(pack.site.composites())
    uploads = pack.site.server.unfinished_uploads(TARGET)
    pack.check_finished(pack.start(2), placed)
    assert pack.site.server.unfinished_uploads(TARGET) == uploads
    print(f"killed with {placed} of {pack.shard_count} shards, {left} composites and {len(uploads)} uploads")


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_pack_that_gets_a_sigterm_leaves_no_composite_and_no_upload(pack: Pack, seed: int) -> None:
    rng = random.Random(f"{SEED}/term/{seed}/{pack.output.startswith('gs://')}")
    victim = pack.start(1)
    pack.until_a_random_moment(victim, rng)
    below = descendants(victim.pid)
    victim.terminate()
    _, err = victim.communicate(timeout=60)
    assert victim.returncode == 0 or "CancelledError" in err
    assert wait_until_gone(below) == []
    assert pack.site.composites() == []
    assert pack.site.server.unfinished_uploads(TARGET) == []
    placed = pack.check_unfinished()
    pack.check_finished(pack.start(2), placed)
    assert pack.site.server.unfinished_uploads(TARGET) == []
    print(f"terminated with {placed} of {pack.shard_count} shards")
