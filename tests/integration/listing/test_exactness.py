"""Listings under every fault at once, compared with the server's own account: count, order and digest.

`DATAFLUX_EXACTNESS_RUNS` sets how many randomised runs there are (the bar is 200), `DATAFLUX_EXACTNESS_SEED` their
seed.
A run draws its size, streams and faults, and one of its worker processes is killed at a random moment. Runs take turns
between generated names and the name sets of the benchmark.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from process_table import children, engines

from airflow_dataflux.core.config import ListRequest
from airflow_dataflux.core.gcs.http_store import StoreConfig
from airflow_dataflux.core.listing import list_objects
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.testing import GCSServer

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "benchmarks"))

from dataflux_bench.namesets import CONVENTIONS, HARD, names_of

RUNS = int(os.environ.get("DATAFLUX_EXACTNESS_RUNS", "4"))
SEED = int(os.environ.get("DATAFLUX_EXACTNESS_SEED", "20261122"))
STYLES = ["flat", "classes", "deep", "uuid", "unicode", "timestamps"]
SETS = [*CONVENTIONS, *HARD]
FAULTS: dict[str, tuple[float, dict[str, float]]] = {
    "status": (0.01, {}),
    "reset": (0.005, {}),
    "truncate": (0.005, {}),
    "reset_body": (0.005, {}),
    "stall": (0.01, {"stall_s": 2.5}),
}
"""Probability of each fault of a list request. A stall is longer than the least time-out of a list request."""


@pytest.mark.timeout(600 + 30 * RUNS)
def test_listings_under_faults_with_a_killed_worker_are_exact(tmp_path: Path) -> None:
    hits: Counter[str] = Counter()
    for run in range(RUNS):
        # A server for each: what a run draws must not depend on the runs before it.
        with GCSServer() as server:
            _one_run(server, tmp_path / f"{run}", run, hits)
    print(f"{RUNS} runs: {dict(hits)}")
    assert all(hits[kind] > 0 for kind in [*FAULTS, "killed"]), hits


def _one_run(server: GCSServer, directory: Path, run: int, hits: Counter[str]) -> None:
    draw = random.Random(SEED * 1_000_003 + run)
    # Small pages make many requests, so that a small bucket meets many faults and is handed over to an engine.
    server.configure(latency_s={"list": 0.01}, jitter=0.5, page_cap=draw.choice([40, 60, 100]))
    server.create_bucket("bucket")
    count = draw.randrange(30_000, 60_000)
    kinds = SETS if run % 2 else STYLES
    style = kinds[run // 2 % len(kinds)]
    if style in STYLES:
        server.synthesize("bucket", count=count, style=style, seed=draw.randrange(1000))  # type: ignore[arg-type]
    else:
        server.put_many("bucket", dict.fromkeys(names_of(style, count), b""))
    for kind, (probability, rest) in FAULTS.items():
        server.fail(kind, operation="list", probability=probability, seed=draw.randrange(1 << 30), **rest)  # type: ignore[arg-type]
    request = ListRequest(bucket="bucket", manifest_uri=str(directory), workers=2, streams=draw.choice([8, 24, 64]))
    what = f"run {run} with {style} and {request.streams} streams"
    with ThreadPoolExecutor(1) as threads:
        listing = threads.submit(
            list_objects, request, store_config=StoreConfig(endpoint=server.endpoint), tokens=AnonymousTokens()
        )
        _kill_a_worker(server, listing, after_requests=draw.randrange(0, 400), choose=draw.choice)
    assert listing.exception() is None, what
    manifest = listing.result()
    expected = server.listing("bucket")
    assert len(manifest) == expected.count, what
    assert _digest(manifest) == (expected.names_sha256, expected.versions_sha256), what
    parts = {path.name for path in directory.iterdir() if path.suffix == ".parquet"}
    assert parts == {part.path for part in manifest.index.parts}, what
    hits.update({fault.rule.kind: fault.hits for fault in server.faults()})
    hits["killed"] += manifest.stats["lost_workers"]


def _kill_a_worker(
    server: GCSServer, listing: Future[Manifest], *, after_requests: int, choose: Callable[[list[int]], int]
) -> None:
    """Kill one worker process of the listing, so many requests after both are there; none if it is over before."""
    at: float = math.inf
    while not listing.done():
        workers = [worker for engine in engines() for worker in children(engine)]
        requests = server.requests().operations.get("list", 0)
        if len(workers) == 2 and math.isinf(at):
            at = requests + after_requests
        if workers and requests >= at:
            os.kill(choose(workers), signal.SIGKILL)
            return
        wait([listing], 0.005)


def _digest(manifest: Manifest) -> tuple[str, str]:
    names, versions = hashlib.sha256(), hashlib.sha256()
    for batch in manifest.batches():
        listed = batch.column("name").to_pylist()
        names.update("".join(f"{name}\n" for name in listed).encode())
        versions.update(
            "".join(
                f"{name}\n{generation}\n"
                for name, generation in zip(listed, batch.column("generation").to_pylist(), strict=True)
            ).encode()
        )
    return names.hexdigest(), versions.hexdigest()
