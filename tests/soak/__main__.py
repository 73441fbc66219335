"""Listings and stagings in a loop, while everything goes wrong: `make soak SOAK_MINUTES=30`.

Each round draws a data set and what happens to it: faults of the service, tokens that end, objects that change, workers
and whole process trees that are killed, a disk that fills up, a cancel. After each round the result is compared with
what the server says, and this process, the disk and the bucket with what they were before.

It ends with 0 only if nothing was wrong: no wrong byte, no lost or doubled object, no error that should not be, nothing
left of any kind, and, in a run of ten minutes or more, memory within 5 % of what it was after the first minute. A
shorter run prints its memory and judges nothing from it: pools and arenas still fill up. The process allocates as an
engine does. With the defaults of glibc and Arrow, each new thread may add a pool that is kept: 15 MB at one moment of
half an hour.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

# The checkout, so that what is tried is what is here, whether it is installed or not.
sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from leftovers import Baseline, memory_bytes
from rounds import ROUNDS, World

import airflow_dataflux.core
from airflow_dataflux.core.runtime.launch import ALLOCATOR
from airflow_dataflux.testing import GCSServer

WARM_UP = 4
"""Rounds of each kind before the first minute."""
GROWTH = 0.05
GROWTH_IS_JUDGED_FROM_MINUTES = 10.0
MINUTE_S = 60.0


def main(arguments: list[str]) -> int:
    """Run rounds for so many minutes; return the exit status."""
    parser = argparse.ArgumentParser(prog="tests/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats what a run drew")
    parser.add_argument("--only", choices=sorted(ROUNDS), help="rounds of one kind only")
    options = parser.parse_args(arguments)
    say(f"Seed {options.seed}, {options.minutes:g} minutes")
    with tempfile.TemporaryDirectory(prefix="dataflux-soak-") as directory, GCSServer() as server:
        scratch = Path(directory, "temporary")
        scratch.mkdir()
        tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)
        world = World(server=server, disk=Path(directory), hits=Counter())
        return soak(world, scratch, options)


def soak(world: World, scratch: Path, options: argparse.Namespace) -> int:
    """Run the rounds, print what came of them, and return the exit status."""
    problems: list[str] = []
    counts: Counter[str] = Counter()
    kinds = [options.only] if options.only else sorted(ROUNDS)
    import_all()
    for number, kind in enumerate(kinds * WARM_UP):  # pools and caches that live as long as the process are no leak
        problems += run_round(world, kind, f"{options.seed}/before/{number}")
    modules = set(sys.modules)
    baseline = Baseline(scratch=scratch, children={world.server.pid or 0})
    began = time.monotonic()
    memory: list[int] = []
    """Of each minute, at its end."""
    number = 0
    while time.monotonic() - began < options.minutes * 60:
        kind = kinds[number % len(kinds)]
        problems += run_round(world, kind, f"{options.seed}/{number}")
        problems += [f"round {number} ({kind}) left {each}" for each in baseline.leaked()]
        counts[kind] += 1
        number += 1
        if time.monotonic() - began >= MINUTE_S * (len(memory) + 1):
            memory.append(memory_bytes())
        if problems:
            say("\n".join(problems))
            break
    memory.append(memory_bytes())
    if options.minutes >= GROWTH_IS_JUDGED_FROM_MINUTES and memory[-1] > memory[0] * (1 + GROWTH):
        problems.append(f"memory grew from {memory[0] / 1e6:.1f} MB after a minute to {memory[-1] / 1e6:.1f} MB")
    minutes = (time.monotonic() - began) / 60
    say(f"{number} rounds in {minutes:.1f} minutes: {listed(counts)}")
    say(f"What happened: {listed(world.hits)}")
    say(f"Modules imported meanwhile: {', '.join(sorted(set(sys.modules) - modules)) or 'none'}")
    say(f"Memory by the minute, MB: {' '.join(f'{bytes_ / 1e6:.1f}' for bytes_ in memory)}")
    say(
        f"{len(problems)} problems: wrong bytes, lost or doubled objects, wrong errors, left processes, threads, "
        "descriptors, files and composites"
    )
    return 1 if problems else 0


def import_all() -> None:
    """Import what any round may need: what is loaded once, late or early, is no growth."""
    for module in pkgutil.walk_packages(airflow_dataflux.core.__path__, "airflow_dataflux.core."):
        importlib.import_module(module.name)
    importlib.import_module("pyarrow.compute")


def run_round(world: World, kind: str, seed: str) -> list[str]:
    """Run one round; return what was wrong."""
    try:
        return [f"{kind} (seed {seed}): {each}" for each in ROUNDS[kind](world, random.Random(seed))]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this program looks for
        return [f"{kind} (seed {seed}): {type(error).__name__}: {error}"]


def listed(counts: Counter[str]) -> str:
    """Return counts as text."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count) or "nothing"


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if not ALLOCATOR.keys() <= os.environ.keys():  # they are read when a process starts
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**ALLOCATOR, **os.environ})
    sys.exit(main(sys.argv[1:]))
