"""One round of each kind: a data set, what happens to it, and what must hold afterwards.

A round returns what was wrong, as sentences; an exception that it does not expect is wrong, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from airflow_dataflux.core import (
    CancelToken,
    ListRequest,
    Manifest,
    Receipt,
    StageRequest,
    StoreConfig,
    list_objects,
    stage,
)
from airflow_dataflux.core.config import RunIdentity
from airflow_dataflux.core.errors import CancelledError, DatafluxError, UnavailableError
from airflow_dataflux.core.runtime.tokens import AnonymousTokens, Token
from airflow_dataflux.testing import GCSServer

BUCKET = "soak"
MANIFESTS = "soak-manifests"
ENGINE = "airflow_dataflux.core.runtime.engine"
COMPOSITES = "dataflux-composed-objects/"
TRIES = 4
STYLES = ("flat", "classes", "deep", "uuid", "unicode", "timestamps")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
PROGRAM = Path(__file__).with_name("one_staging.py")
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "status", "status": 503, "probability": 0.01},
    {"kind": "status", "status": 429, "probability": 0.005},
    {"kind": "reset", "probability": 0.005},
    {"kind": "reset_body", "probability": 0.005},
    {"kind": "truncate", "probability": 0.005},
    {"kind": "flip", "operation": "read", "probability": 0.005},
    {"kind": "lose_answer", "operation": "compose", "probability": 0.02},
    {"kind": "stall", "probability": 0.005, "stall_s": 0.3},
    {"kind": "stall_body", "operation": "read", "probability": 0.005, "stall_s": 0.3},
)
_ON_SMALL_DISK = 'mount -t tmpfs -o "$1" none "$2" || exit 77; shift 2; exec "$@"'
_NO_MOUNT = 77


@dataclass
class World:
    """What all rounds share: one server, one disk, and the count of what really happened."""

    server: GCSServer
    disk: Path
    hits: Counter[str]

    @property
    def store(self) -> StoreConfig:
        """Where the server is."""
        return StoreConfig(endpoint=self.server.endpoint)

    @contextlib.contextmanager
    def round(self) -> Iterator[Path]:
        """Give an empty server and an empty directory; count its faults, and remove it all, at the end."""
        self.server.reset()
        self.server.create_bucket(BUCKET)
        self.server.create_bucket(MANIFESTS)
        directory = self.disk / "round"
        directory.mkdir()
        try:
            yield directory
            for fault in self.server.faults():
                self.hits[f"{fault.rule.kind} faults"] += fault.hits
            self.hits["objects changed"] += self.server.changes_made()
        finally:
            shutil.rmtree(directory)

    def script_faults(self, draw: random.Random) -> None:
        """Let every kind of fault happen."""
        for rule in FAULTS:
            self.server.fail(**rule, seed=draw.randrange(1 << 30))

    def stop_faults(self) -> None:
        """Let none happen any more."""
        for number in range(len(self.server.faults())):
            self.server.stop_failing(number)


class ShortTokens:
    """Access tokens that end within the round, from the server's own token endpoint."""

    def __init__(self, world: World, life_s: float) -> None:
        self._world = world
        world.server.configure(token_life_s=life_s)

    def fetch(self) -> Token:
        """Return a new token."""
        request = urllib.request.Request(f"{self._world.server.endpoint}/token", method="POST", data=b"")
        for _ in range(20):  # the faults hit this request, too; Google's own library repeats it
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                with urllib.request.urlopen(request) as answer:
                    token = json.load(answer)
                self._world.hits["tokens"] += 1
                return Token(value=token["access_token"], valid_for_s=float(token["expires_in"]))
        raise UnavailableError("The server hands out no token.")


def repeated(world: World, work: Callable[[int], Any]) -> Any:
    """Do it again after an error that says that this is worth it, as Airflow does; the last time without faults."""
    for attempt in range(1, TRIES + 1):
        if attempt == TRIES:
            world.stop_faults()
        try:
            return work(attempt)
        except DatafluxError as error:
            if not error.retryable or attempt == TRIES:
                raise
            world.hits[f"{type(error).__name__}s, tried again"] += 1
    raise AssertionError("unreachable")


def listing_of_many(world: World, draw: random.Random) -> Iterator[str]:
    """A listing by an engine under faults, one of whose workers is killed, beside tokens that end."""
    with world.round() as directory:
        server = world.server
        server.configure(latency_s={"list": 0.01}, jitter=0.5, page_cap=draw.choice([60, 100]))
        count, seed = draw.randrange(20_000, 40_000), draw.randrange(99)
        server.synthesize(BUCKET, count=count, style=draw.choice(STYLES), seed=seed)
        world.script_faults(draw)
        tokens = ShortTokens(world, life_s=draw.choice([6.0, 12.0]))
        uri = draw.choice([f"gs://{MANIFESTS}/m", str(directory / "manifest")])
        request = ListRequest(bucket=BUCKET, manifest_uri=uri, workers=2, streams=draw.choice([8, 24, 64]))

        def once(_attempt: int) -> Manifest:
            with ThreadPoolExecutor(1) as threads:
                listing = threads.submit(list_objects, request, store_config=world.store, tokens=tokens)
                if draw.random() < 0.7:
                    kill_a_worker(world, listing, draw)
                return listing.result()

        manifest = repeated(world, once)
        world.stop_faults()
        yield from wrong_listing(world, manifest, tokens)
        if uri.startswith("/"):
            parts = {path.name for path in Path(uri).iterdir() if path.suffix == ".parquet"}
            if parts != {part.path for part in manifest.index.parts}:
                yield f"parts that no index names: {sorted(parts)[:5]}"
        world.hits["objects listed"] += len(manifest)


def wrong_listing(world: World, manifest: Manifest, tokens: Any) -> Iterator[str]:
    """Compare a manifest with the server's own account."""
    names, versions, count = hashlib.sha256(), hashlib.sha256(), 0
    opened = Manifest.from_reference(manifest.reference(), store=world.store.open(tokens, _options()))
    for row in opened.rows():
        names.update(f"{row.name}\n".encode())
        versions.update(f"{row.name}\n{row.generation}\n".encode())
        count += 1
    truth = world.server.listing(BUCKET)
    if (count, names.hexdigest(), versions.hexdigest()) != (truth.count, truth.names_sha256, truth.versions_sha256):
        yield f"{count} objects were listed, and the bucket has {truth.count}, or others"


def _options() -> Any:
    from airflow_dataflux.core.gcs.store import StoreOptions

    return StoreOptions(connections=2)


def kill_a_worker(world: World, work: Future[Any], draw: random.Random) -> None:
    """Kill one worker process of an engine at a random moment; none if the work is over before."""
    while not work.done():
        engines = [child for child in psutil.Process().children() if ENGINE in command(child)]
        workers = [process for engine in engines for process in children(engine)]
        if len(workers) == 2:
            wait([work], draw.uniform(0.0, 0.5))
            with contextlib.suppress(psutil.NoSuchProcess):
                draw.choice(workers).kill()
                world.hits["workers killed"] += 1
            return
        wait([work], 0.01)


def command(process: psutil.Process) -> str:
    """Return a process's command line, empty if it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def children(process: psutil.Process) -> list[psutil.Process]:
    """Return a process's children, none if it is gone."""
    try:
        return list(process.children())
    except psutil.NoSuchProcess:
        return []


def content(number: int, size: int) -> bytes:
    """Return bytes that differ for each number."""
    return (f"object {number} ".encode() * (size // 8 + 1))[:size]


def filled(world: World, draw: random.Random, *, most: int = 600) -> dict[str, bytes]:
    """Put objects into the bucket and return them."""
    objects = {
        f"train/{number // 40:03}/{number:05}.bin": content(number, draw.choice([0, 20, 3000, 30_000]) + number % 97)
        for number in range(draw.randrange(60, most))
    }
    objects["train/large"] = content(1, draw.randrange(1_000_000, 3_000_000))
    world.server.put_many(BUCKET, objects)
    return objects


def list_here(world: World, directory: Path) -> Manifest:
    """List the bucket, without faults."""
    request = ListRequest(bucket=BUCKET, manifest_uri=str(directory / "manifest"))
    return list_objects(request, store_config=world.store, tokens=AnonymousTokens(), isolated=False)


def staging_under_faults(world: World, draw: random.Random) -> Iterator[str]:
    """A staging by threads of this process under faults, of objects that change before and meanwhile."""
    with world.round() as directory:
        objects = filled(world, draw)
        if draw.random() < 0.5:
            yield from restaged(world, draw, directory, objects)
            return
        manifest = list_here(world, directory)
        changing = draw.sample([name for name, data in objects.items() if data], 5)
        world.server.put(BUCKET, changing[0], b"overwritten after it was listed")
        world.server.delete(BUCKET, changing[1])
        for name in changing[2:]:
            world.server.change_later(BUCKET, name, draw.choice([None, b"later"]), after=draw.randrange(2, 12))
        receipt = staged(world, draw, manifest, directory / "tree", on_changed_object="skip")
        if not set(changing[:2]) <= set(receipt.changed) <= set(changing):
            yield f"changed are {sorted(receipt.changed)} instead of {sorted(changing)}"
        expected = {name: data for name, data in objects.items() if name not in receipt.changed}
        yield from wrong_tree(world, directory / "tree", expected, receipt.leftovers)


def restaged(world: World, draw: random.Random, directory: Path, objects: dict[str, bytes]) -> Iterator[str]:
    """Stage, change the bucket, list, and stage into the same place."""
    staged(world, draw, list_here(world, directory), directory / "tree")
    names = draw.sample(sorted(objects), 12)
    for name in names[:6]:
        del objects[name]
        world.server.delete(BUCKET, name)
    for number, name in enumerate(names[6:]):
        objects[name] = content(10_000 + number, draw.randrange(1, 4000))
        world.server.put(BUCKET, name, objects[name])
    world.stop_faults()
    manifest = list_here(world, directory)
    receipt = staged(world, draw, manifest, directory / "tree", delete_extraneous=True)
    yield from wrong_tree(world, directory / "tree", objects, receipt.leftovers)


def staged(world: World, draw: random.Random, manifest: Manifest, destination: Path, **request: Any) -> Receipt:
    """Stage under faults, again after errors that are worth it."""
    world.script_faults(draw)
    tokens = ShortTokens(world, life_s=draw.choice([3.0, 5.0])) if draw.random() < 0.5 else AnonymousTokens()
    strategy = draw.choice(["auto", "compose", "direct"])
    in_flight = draw.choice([3, 16, 64])

    def once(attempt: int) -> Receipt:
        return stage(
            manifest,
            StageRequest(
                destination=str(destination),
                strategy=strategy,
                max_in_flight=in_flight,
                identity=RunIdentity(dag="soak", try_number=attempt),
                **request,
            ),
            store_config=world.store,
            tokens=tokens,
            isolated=False,
        )

    receipt = repeated(world, once)
    world.server.configure(token_life_s=None)
    world.hits["objects staged"] += len(manifest)
    return receipt


def wrong_tree(world: World, root: Path, expected: dict[str, bytes], leftovers: Any = ()) -> Iterator[str]:
    """Compare a tree with what should be in it, and the bucket's composites with those that were owned up to."""
    found = files_below(root)
    wrong = sorted(name for name in found.keys() & expected.keys() if found[name] != expected[name])
    if wrong:
        yield f"wrong bytes in {wrong[:5]}"
    if found.keys() != expected.keys():
        missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        yield f"missing {missing[:5]}, too many {extra[:5]}"
    composites = set(world.server.names(BUCKET, COMPOSITES))
    if composites != set(leftovers):
        yield f"composites {sorted(composites)[:3]} are left"


def files_below(root: Path) -> dict[str, bytes]:
    """Return all files by relative path, without our own directory."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".dataflux" not in path.parts
    }


def cancelled_staging(world: World, draw: random.Random) -> Iterator[str]:
    """A staging that is cancelled at a random moment, then done again."""
    with world.round() as directory:
        objects = filled(world, draw)
        world.server.configure(latency_s={"compose": 0.02, "read": 0.01, "batch": 0.01})
        manifest = list_here(world, directory)
        cancel = CancelToken()
        timer = threading.Timer(draw.uniform(0.0, 1.0), cancel.cancel, ["the soak's cancel"])
        timer.start()
        request = StageRequest(destination=str(directory / "tree"), strategy="compose", max_in_flight=8)
        try:
            stage(manifest, request, store_config=world.store, tokens=AnonymousTokens(), cancel=cancel, isolated=False)
        except CancelledError:
            world.hits["stagings cancelled"] += 1
        finally:
            timer.cancel()
            timer.join()
        yield from (f"after a cancel, {each}" for each in left_composites(world))
        receipt = stage(manifest, request, store_config=world.store, tokens=AnonymousTokens(), isolated=False)
        yield from wrong_tree(world, directory / "tree", objects, receipt.leftovers)


def left_composites(world: World) -> Iterator[str]:
    """Say which composites are in the bucket."""
    composites = world.server.names(BUCKET, COMPOSITES)
    if composites:
        yield f"composites {composites[:3]} are left"


def killed_staging(world: World, draw: random.Random) -> Iterator[str]:
    """A staging in a program of its own that is killed, or told to end, at a random moment; then its next try."""
    with world.round() as directory:
        objects = filled(world, draw, most=1500)
        world.server.configure(latency_s={"compose": 0.02, "read": 0.01, "batch": 0.01})
        list_here(world, directory)
        how = draw.choice([signal.SIGKILL, signal.SIGTERM])
        program = start(world, directory / "manifest", directory / "tree", try_number=1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(draw.uniform(0.3, 3.0))
        if program.poll() is None:
            world.hits[f"programs ended by {how.name}"] += 1
            below = children_of(program.pid)
            program.send_signal(how)
            program.communicate()
            _gone, alive = psutil.wait_procs(below, timeout=20)
            if alive:
                yield f"{len(alive)} processes outlived a program that {how.name} ended"
            if how is signal.SIGTERM:
                yield from (f"after SIGTERM, {each}" for each in left_composites(world))
        else:
            program.communicate()
        wrong = [name for name, data in files_below(directory / "tree").items() if objects.get(name) != data]
        if wrong:
            yield f"wrong bytes at final names after a kill: {wrong[:5]}"
        again = start(world, directory / "manifest", directory / "tree", try_number=2)
        _out, said = again.communicate()
        if again.returncode:
            yield f"the try after a kill ended with {again.returncode}: {said[-500:]}"
            return
        yield from wrong_tree(world, directory / "tree", objects)


def children_of(pid: int) -> list[psutil.Process]:
    """Return all processes below one."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def start(world: World, manifest: Path, destination: Path, *, try_number: int) -> subprocess.Popen[str]:
    """Start the program that stages, and wait until it begins."""
    program = subprocess.Popen(
        order(world, manifest, destination, try_number=try_number),
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    program.stdout.readline()
    return program


def order(world: World, manifest: Path, destination: Path, *, try_number: int) -> list[str]:
    """Return the command of the program that stages."""
    task = {
        "endpoint": world.server.endpoint,
        "manifest": str(manifest),
        "destination": str(destination),
        "strategy": "compose",
        "try_number": try_number,
    }
    return [sys.executable, str(PROGRAM), json.dumps(task)]


def full_disk(world: World, draw: random.Random) -> Iterator[str]:
    """A staging to a disk whose inodes run out midway: a tmpfs in a mount namespace of its own."""
    with world.round() as directory:
        objects = {f"d{number:03}/f.bin": content(number, 1000) for number in range(300)}
        world.server.put_many(BUCKET, objects)
        list_here(world, directory)
        disk = directory / "small"
        disk.mkdir()
        command_line = order(world, directory / "manifest", disk / "set", try_number=1)
        namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _ON_SMALL_DISK, "sh"]
        inodes = draw.randrange(100, 500)
        done = subprocess.run(
            [*namespace, f"size=64m,nr_inodes={inodes}", str(disk), *command_line],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == _NO_MOUNT or "unshare:" in done.stderr:
            world.hits["full disks that could not be made here"] += 1
            return
        if "InsufficientSpaceError" not in done.stderr:
            yield f"a full disk ended with {done.returncode}: {done.stderr[-300:]}"
        world.hits["full disks"] += 1
        yield from (f"after a full disk, {each}" for each in left_composites(world))


ROUNDS: dict[str, Callable[[World, random.Random], Iterator[str]]] = {
    "cancelled stagings": cancelled_staging,
    "full disks": full_disk,
    "killed stagings": killed_staging,
    "listings": listing_of_many,
    "stagings under faults": staging_under_faults,
}
