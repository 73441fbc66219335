"""Processes of a staging that are killed at random moments: nothing wrong is ever published, nothing is left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from how_often import KILLS, SEED
from process_table import children, descendants, kill_all, wait_until_gone
from staging_site import Site, tree
from victim import IN_FLIGHT, start_victim, victim_command

from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.staging.destination import Place

OBJECTS = 2400
LIKELY_S = 2.5
"""About what a staging of them takes from the first line on."""


def start(site: Site, manifest: Path, try_number: int, reuse_from: Path | None = None) -> subprocess.Popen[str]:
    where = site.server.endpoint, manifest, site.destination
    return start_victim(victim_command("stage", *where, try_number=try_number, reuse_from=reuse_from))


def finish(victim: subprocess.Popen[str]) -> tuple[int, int]:
    downloaded, reused, _ = figures(victim)
    return downloaded, reused


def figures(victim: subprocess.Popen[str]) -> tuple[int, int, int]:
    """Wait for the end; return how many objects were downloaded, reused and linked."""
    out, err = victim.communicate(timeout=120)
    assert victim.returncode == 0, err
    downloaded, reused, linked = map(int, out.split())
    return downloaded, reused, linked


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


def until_a_random_moment(site: Site, victim: subprocess.Popen[str], rng: random.Random, composites: int = 75) -> None:
    """Return at a moment between the victim's first line and a little after its likely end.

    Either after so many requests of a kind, which aims at the transfer, or after so many seconds, which can be anything
    from the start of the engine to the publishing of the tree.
    """
    if rng.random() < 0.5:
        operation, most = rng.choice([("compose", composites), ("read", composites), ("batch", 3), ("permissions", 2)])
        wait_for_requests(site, operation, rng.randrange(1, most), victim)
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        victim.wait(timeout=rng.uniform(0, LIKELY_S))


def until_a_random_file(partial: Path, victim: subprocess.Popen[str], rng: random.Random) -> None:
    """Return once so many files are in the tree in the making; links come so fast that no request and no time aims."""
    count = rng.randrange(1, OBJECTS)
    while sum(len(names) for _, _, names in os.walk(partial)) < count and victim.poll() is None:
        pass


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


@pytest.mark.parametrize("seed", range(KILLS))
def test_after_a_kill_a_tree_that_builds_on_another_one_holds_no_wrong_edited_or_half_file(
    site: Site, seed: int
) -> None:
    rng = random.Random(f"{SEED}/linked/{seed}")
    site.put_numbered(OBJECTS, size=900)
    site.stage(site.manifest("listed-earlier"), destination=str(site.disk / "earlier"))
    earlier, before = site.disk / "earlier", dict(site.objects)
    names = sorted(before)
    for name in rng.sample(names, OBJECTS // 4):
        site.put({name: b"of today: " + before[name]})
    site.manifest()
    manifest = site.disk / "manifest"
    partial = Path(
        Place(destination=str(site.destination), scope="", key=f"{Manifest.open(str(manifest)).fingerprint}\n").partial
    )
    site.server.configure(latency_s={"compose": 0.02, "read": 0.01, "batch": 0.01})
    site.server.forget_requests()

    # Somebody edits files of the earlier tree in place: one before the staging, some after it was killed, whose other
    # link is in the unfinished tree.
    edited = rng.sample([name for name in names if site.objects[name] == before[name]], 8)
    overwrite(earlier / edited[0])
    victim = start(site, manifest, 1, reuse_from=earlier)
    if seed % 3:
        until_a_random_file(partial, victim, rng)
    else:
        until_a_random_moment(site, victim, rng, composites=OBJECTS // 4 // 32)
    kill_all(victim)
    assert victim.returncode in (0, -signal.SIGKILL)
    check_nothing_wrong(site, str(partial))
    placed = placed_by(site, str(partial))
    published = site.destination.exists()
    for name in edited[1:]:
        overwrite(earlier / name)
    downloaded, reused, linked = figures(start(site, manifest, 2, reuse_from=earlier))
    assert downloaded + reused + linked == OBJECTS
    site.check_tree()
    assert site.composites() == []
    assert not partial.exists()
    assert tree(earlier) == before | {name: (earlier / name).read_bytes() for name in edited}
    for name in edited:
        assert not os.path.samefile(earlier / name, site.destination / name)
    # What must come from the bucket once comes once, but for what was edited or under way.
    assert downloaded <= OBJECTS // 4 + len(edited)
    print(
        f"killed with {placed} objects in place (tree published: {published}); then {downloaded=} {reused=} {linked=}"
    )


def overwrite(path: Path) -> None:
    """Edit a file in place, with other bytes of the same length."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\xff" * size)


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
