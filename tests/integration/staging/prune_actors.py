"""Programs around a root of staged trees, to be killed or to read meanwhile: argv is the role, the root, and more.

`prune ROOT QUOTA` prunes once when its standard input says so. `hold TREE` keeps a lease until its standard input ends.
`roam ROOT FILES` leases one tree after the other and checks all its files, until its standard input ends.
"""

from __future__ import annotations

import os
import random
import select
import sys

from airflow_dataflux.core.config import PruneRequest
from airflow_dataflux.core.errors import DestinationError
from airflow_dataflux.core.staging.pruning import lease, prune_staged

PATTERN = "day-*"


def content(path: str) -> bytes:
    """Return what a staged file holds, by its path below the tree."""
    return path.encode() * 64


def check_tree(tree: str, files: int) -> None:
    """Raise unless all files are there and whole."""
    for number in range(files):
        path = f"{number % 7}/{number:04}.bin"
        with open(os.path.join(tree, path), "rb") as file:
            if file.read() != content(path):
                raise ValueError(f"{tree}/{path} is wrong")


def main() -> None:
    role, root, *more = sys.argv[1:]
    if role == "prune":
        print("ready", flush=True)
        sys.stdin.readline()
        result = prune_staged(PruneRequest(root=root, pattern=PATTERN, max_total_bytes=int(more[0])))
        print(len(result.removed), flush=True)
    elif role == "hold":
        with lease(root):
            print("ready", flush=True)
            sys.stdin.read()
    else:
        print("ready", flush=True)
        draw, checked = random.Random(0), 0
        while not select.select([sys.stdin], [], [], 0)[0]:
            trees = sorted(name for name in os.listdir(root) if name.startswith("day-"))
            tree = os.path.join(root, draw.choice(trees))
            try:
                with lease(tree):
                    check_tree(tree, int(more[0]))
            except DestinationError:
                continue  # it was pruned
            checked += 1
        print(checked, flush=True)


if __name__ == "__main__":
    main()
