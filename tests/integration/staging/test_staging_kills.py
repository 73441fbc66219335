"""Processes of a staging that are killed at random moments: nothing wrong is ever published, nothing is left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from how_often import KILLS, SEED
from process_table import children, descendants, wait_until_gone
from staging_site import Site, tree

from airflow_dataflux.core.staging.destination import Place

VICTIM = Path(__file__).with_name("staging_victim.py")
OBJECTS = 2400
IN_FLIGHT = 16  # of staging_victim.py
LIKELY_S = 2.5
"""About what a staging of them takes from the first line on."""


def start(site: Site, manifest: Path, try_number: int, strategy: str = "compose") -> subprocess.Popen[str]:
    victim = subprocess.Popen(
        [
            sys.executable,
            str(VICTIM),
            site.server.endpoint,
            str(manifest),
            str(site.destination),
            strategy,
            str(try_number),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == "ready\n"
    return victim


def finish(victim: subprocess.Popen[str]) -> tuple[int, int]:
    out, err = victim.communicate(timeout=120)
    assert victim.returncode == 0, err
    downloaded, reused = out.split()
    return int(downloaded), int(reused)


def wait_for_requests(site: Site, operation: str, count: int, victim: subprocess.Popen[str]) -> None:
    while site.operations().get(operation, 0) < count and victim.poll() is None:
        pass


def check_nothing_wrong(site: Site, partial: str) -> None:
    """No file at a final name, here or in the tree in the making, has wrong bytes."""
    for root in (site.destination, Path(partial)):
        for name, data in tree(root).items():
            assert data == site.objects[name], name


@pytest.fixture
def prepared(site: Site) -> tuple[Site, Path, str]:
    site.put_numbered(OBJECTS, size=900)
    manifest = site.manifest()
    site.server.configure(latency_s={"compose": 0.02, "read": 0.01, "batch": 0.01})
    site.server.forget_requests()
    key = f"{manifest.fingerprint}\n"
    return site, site.disk / "manifest", Place(destination=str(site.destination), scope="", key=key).partial


def until_a_random_moment(site: Site, victim: subprocess.Popen[str], rng: random.Random) -> None:
    """Return at a moment between the victim's first line and a little after its likely end.

    Either after so many requests of a kind, which aims at the transfer, or after so many seconds, which can be anything
    from the start of the engine to the publishing of the tree.
    """
    if rng.random() < 0.5:
        operation, most = rng.choice([("compose", 75), ("read", 75), ("batch", 3), ("permissions", 2)])
        wait_for_requests(site, operation, rng.randrange(1, most), victim)
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        victim.wait(timeout=rng.uniform(0, LIKELY_S))


def kill_all(victim: subprocess.Popen[str]) -> None:
    """Kill a whole tree at one moment: frozen from above, nothing is started or tidied up meanwhile."""
    pids: list[int] = []
    found = [victim.pid]
    while found != pids:
        pids = found
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        found = [victim.pid, *descendants(victim.pid)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    victim.communicate()
    assert wait_until_gone(pids[1:]) == []


def placed_by(site: Site, partial: str) -> int:
    """Return how many objects are in place, wherever the tree is."""
    return len(tree(Path(partial))) or len(tree(site.destination))


@pytest.mark.parametrize("seed", range(KILLS))
def test_after_a_kill_of_the_whole_tree_the_next_try_finishes_and_leaves_no_composite(
    prepared: tuple[Site, Path, str], seed: int
) -> None:
    site, manifest, partial = prepared
    rng = random.Random(f"{SEED}/kill/{seed}")
    victim = start(site, manifest, 1)
    until_a_random_moment(site, victim, rng)
    kill_all(victim)
    assert victim.returncode in (0, -signal.SIGKILL)
    check_nothing_wrong(site, partial)
    placed, left = placed_by(site, partial), len(site.composites())
    site.server.forget_requests()
    downloaded, reused = finish(start(site, manifest, 2))
    assert (downloaded, reused) == (OBJECTS - placed, placed)
    # Of the killed try, what was under way may still arrive.
    assert site.operations().get("compose", 0) <= -(-downloaded // 32) + IN_FLIGHT
    site.check_tree()
    assert site.composites() == []
    assert not Path(partial).exists()
    print(f"killed with {placed} objects in place and {left} composites in the bucket")


@pytest.mark.parametrize("seed", range(KILLS))
def test_after_a_sigterm_of_the_task_no_composite_is_left_and_the_next_try_fetches_what_is_missing(
    prepared: tuple[Site, Path, str], seed: int
) -> None:
    site, manifest, partial = prepared
    rng = random.Random(f"{SEED}/term/{seed}")
    victim = start(site, manifest, 1)
    until_a_random_moment(site, victim, rng)
    below = descendants(victim.pid)
    victim.terminate()
    _, err = victim.communicate(timeout=60)
    assert victim.returncode == 0 or "CancelledError" in err
    assert wait_until_gone(below) == []
    assert site.composites() == []
    check_nothing_wrong(site, partial)
    placed = placed_by(site, partial)
    assert finish(start(site, manifest, 2)) == (OBJECTS - placed, placed)
    site.check_tree()
    assert site.composites() == []
    print(f"terminated with {placed} objects in place")


@pytest.mark.parametrize("seed", range(3))
def test_when_only_the_task_is_killed_its_engine_and_workers_end_and_tidy_up_themselves(
    prepared: tuple[Site, Path, str], seed: int
) -> None:
    site, manifest, partial = prepared
    victim = start(site, manifest, 1)
    wait_for_requests(site, "compose", random.Random(seed).randrange(2, 60), victim)
    below = descendants(victim.pid)
    assert below
    victim.kill()
    victim.communicate()
    assert wait_until_gone(below) == []
    assert site.composites() == []
    check_nothing_wrong(site, partial)


@pytest.mark.parametrize("seed", range(3))
def test_sigterm_to_the_engine_ends_the_staging_without_a_composite(
    prepared: tuple[Site, Path, str], seed: int
) -> None:
    site, manifest, partial = prepared
    victim = start(site, manifest, 1)
    wait_for_requests(site, "compose", random.Random(seed).randrange(2, 60), victim)
    [engine] = children(victim.pid)
    workers = descendants(engine)
    os.kill(engine, signal.SIGTERM)
    _, err = victim.communicate(timeout=60)
    assert "CancelledError" in err
    assert wait_until_gone([engine, *workers]) == []
    assert site.composites() == []
    check_nothing_wrong(site, partial)


@pytest.mark.parametrize("seed", range(3))
def test_a_worker_that_is_killed_is_replaced_and_its_objects_are_fetched_by_others(
    prepared: tuple[Site, Path, str], seed: int
) -> None:
    site, manifest, _ = prepared
    victim = start(site, manifest, 1)
    wait_for_requests(site, "compose", random.Random(seed).randrange(2, 40), victim)
    [engine] = children(victim.pid)
    workers = children(engine)
    assert len(workers) == 2
    os.kill(random.Random(seed).choice(workers), signal.SIGKILL)
    assert finish(victim) == (OBJECTS, 0)
    site.check_tree()
    assert site.composites() == []


def test_a_script_that_was_killed_is_swept_after_by_the_next_one_although_both_are_first_tries(
    prepared: tuple[Site, Path, str],
) -> None:
    site, manifest, _ = prepared
    site.server.configure(latency_s={"compose": 0.02, "read": 0.5, "batch": 0.01})
    victim = start(site, manifest, 1)
    wait_for_requests(site, "compose", 10, victim)
    kill_all(victim)
    assert site.composites()
    site.server.configure(latency_s={})
    downloaded, reused = finish(start(site, manifest, 1))
    assert downloaded + reused == OBJECTS
    assert site.composites() == []
    site.check_tree()


def test_the_unfinished_tree_of_an_older_manifest_is_removed_with_its_composites(
    prepared: tuple[Site, Path, str],
) -> None:
    site, manifest, partial = prepared
    site.server.configure(latency_s={"compose": 0.02, "read": 0.5, "batch": 0.01})
    victim = start(site, manifest, 1)
    wait_for_requests(site, "compose", 10, victim)
    kill_all(victim)
    assert site.composites()
    assert Path(partial).exists()
    site.server.configure(latency_s={})
    site.put({"train/new.bin": b"so the manifest is another one"})
    site.stage(site.manifest("newer", prefix="train/"))
    site.check_tree()
    assert site.composites() == []
    assert not Path(partial).exists()
