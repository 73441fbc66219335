"""Prunes that are killed at random moments while trees are read: nothing leased or foreign goes, nothing stays half."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from how_often import KILLS, SEED
from process_table import kill_all
from prune_actors import PATTERN, check_tree, content
from receipts import write_receipt

from airflow_dataflux.core.config import PruneRequest
from airflow_dataflux.core.staging.pruning import prune_staged

ACTORS = Path(__file__).with_name("prune_actors.py")
TREES = 12
FILES = 120
QUOTA = 5
"""Of the trees' sizes."""

MOMENT_S = 0.01
"""About what the removal of one of them takes."""

HIDDEN = re.compile(r"\.day-\d\d\.dataflux-pruned-[0-9a-f]{12}")
FOREIGN = {"day-90/notes.txt": b"nobody's tree", "mine/weights.pt": b"trained for a week", "day-03/kept.pt": b"mine"}


def make_trees(root: Path) -> None:
    """Make what stagings leave, the oldest first; every third tree is linked to the one before it."""
    paths = [f"{number % 7}/{number:04}.bin" for number in range(FILES)]
    for number in range(TREES):
        tree = root / f"day-{number:02}"
        for directory in {os.path.dirname(path) for path in paths} | {".dataflux"}:
            (tree / directory).mkdir(parents=True)
        for path in paths:
            if number % 3 == 2:
                os.link(root / f"day-{number - 1:02}" / path, tree / path)
            else:
                (tree / path).write_bytes(content(path))
        write_receipt(tree, paths, datetime.now(UTC) - timedelta(days=100 - number))
    for path, data in FOREIGN.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(data)


def start(*arguments: str) -> subprocess.Popen[str]:
    actor = subprocess.Popen(
        [sys.executable, str(ACTORS), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert actor.stdout is not None
    assert actor.stdout.readline() == "ready\n", actor.communicate()
    return actor


def ended(actor: subprocess.Popen[str]) -> str:
    """End an actor that waits for the end of its standard input; return what it said."""
    out, err = actor.communicate("", timeout=60)
    assert actor.returncode == 0, err
    return out.strip()


def check(root: Path) -> tuple[int, int]:
    """Check that every tree is whole or gone and nothing foreign is; return how many are left, and are hidden."""
    for path, data in FOREIGN.items():
        assert (root / path).read_bytes() == data
    left = [name for name in os.listdir(root) if re.fullmatch(r"day-[01]\d", name)]
    for name in left:
        check_tree(str(root / name), FILES)
    others = set(os.listdir(root)) - {*left, "day-90", "mine"}
    assert all(HIDDEN.fullmatch(name) for name in others), others
    return len(left), len(others)


def until_a_random_moment(root: Path, pruning: subprocess.Popen[str], rng: random.Random) -> None:
    """Return when so many trees have left their paths, and a moment later; or, now and then, before the first has."""
    gone = rng.randrange(TREES - QUOTA)
    while sum(name.startswith("day-") for name in os.listdir(root)) > TREES + 1 - gone and pruning.poll() is None:
        pass
    time.sleep(rng.uniform(0, MOMENT_S))  # the moment of the kill is the subject here


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_prune_with_readers_keeps_what_is_leased_and_the_next_one_holds_the_quota(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(f"{SEED}/prune/{seed}")
    make_trees(tmp_path)
    everything = PruneRequest(root=str(tmp_path), pattern=PATTERN, keep_last=TREES)
    quota = prune_staged(everything).total_bytes * QUOTA // TREES
    leased = f"day-{rng.choice([0, 1, 2, 4, 5]):02}"
    holder = start("hold", str(tmp_path / leased))
    reader = start("roam", str(tmp_path), str(FILES))
    killed = start("prune", str(tmp_path), str(quota))
    assert killed.stdin is not None
    killed.stdin.write("go\n")
    killed.stdin.flush()
    until_a_random_moment(tmp_path, killed, rng)
    kill_all(killed)
    left, hidden = check(tmp_path)
    checked = int(ended(reader))
    assert checked >= 0
    result = prune_staged(PruneRequest(root=str(tmp_path), pattern=PATTERN, max_total_bytes=quota))
    assert result.total_bytes <= quota
    assert (tmp_path / leased).is_dir()
    # The killed prune may have passed over older trees, for the reader had them: then they are enough for the quota.
    assert result.kept.get(str(tmp_path / leased), "it is leased") == "it is leased"
    assert check(tmp_path)[1] == 0
    assert ended(holder) == ""
    removed = prune_staged(PruneRequest(root=str(tmp_path), pattern=PATTERN, keep_last=0)).removed
    assert str(tmp_path / leased) in removed
    assert sorted(os.listdir(tmp_path)) == ["day-03", "day-90", "mine"]
    print(f"killed with {left} trees left and {hidden} half removed; a reader checked {checked} trees meanwhile")
