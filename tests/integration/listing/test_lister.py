"""Listings over real HTTP, where HTTP, processes or the requests are the point; the others list buckets in memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from process_table import children, engines

from airflow_dataflux.core.config import Filters, ListRequest
from airflow_dataflux.core.errors import (
    AuthenticationError,
    BucketNotFoundError,
    CancelledError,
    ListingError,
    ManifestError,
    ManifestTooLargeError,
    StoreError,
)
from airflow_dataflux.core.gcs.http_store import StoreConfig
from airflow_dataflux.core.listing import list_objects
from airflow_dataflux.core.listing.messages import ListingPlan
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.runtime import jobs, launch
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.testing import GCSServer

STYLES = ["flat", "deep", "uuid"]


@pytest.fixture(scope="module")
def server() -> Iterator[GCSServer]:
    with GCSServer() as running:
        for style in STYLES:
            running.create_bucket(f"many-{style}")
            running.synthesize(f"many-{style}", count=60_000, style=style)
        running.create_bucket("large")
        running.synthesize("large", count=300_000, style="classes")
        running.create_bucket("few")
        for name in ("a/", "a/1.jpg", "a/2.png", "b/1.jpg", "b/20.jpg", "c/😀.jpg", "日本/x"):
            running.put("few", name, b"" if name.endswith("/") else name.encode())
        running.create_bucket("manifests")
        yield running


@pytest.fixture(autouse=True)
def calm(server: GCSServer) -> None:
    server.configure(latency_s={}, list_per_1000_rows_s=0.0, page_cap=1000)
    server.forget_requests()


def fetch(
    server: GCSServer, bucket: str, *, isolated: bool = False, cancel: CancelToken | None = None, **request: object
) -> Manifest:
    return list_objects(
        ListRequest(bucket=bucket, **request),  # type: ignore[arg-type]
        store_config=StoreConfig(endpoint=server.endpoint),
        tokens=AnonymousTokens(),
        cancel=cancel,
        isolated=isolated,
    )


def names_of(manifest: Manifest) -> list[str]:
    return [name for batch in manifest.batches() for name in batch.column("name").to_pylist()]


@pytest.mark.usefixtures("early_hand_over")
def test_one_stream_and_many_streams_in_processes_give_the_same_fingerprint(server: GCSServer, tmp_path: Path) -> None:
    one = fetch(server, "large", manifest_uri=str(tmp_path / "one"), workers=1, streams=1)
    many = fetch(server, "large", manifest_uri=str(tmp_path / "many"), workers=2, streams=64, isolated=True)
    assert one.fingerprint == many.fingerprint
    assert len(one) == len(many) == 300_000
    assert one.stats["steals"] == 0
    assert many.stats["workers"] == 2
    assert [process["role"] for process in many.stats["processes"]] == ["task", "engine", "worker 0", "worker 1"]
    assert many.stats["cpu_s"] == pytest.approx(sum(process["cpu_s"] for process in many.stats["processes"]), abs=0.01)


def test_streams_that_nobody_chose_follow_the_latency(server: GCSServer, tmp_path: Path) -> None:
    server.configure(latency_s={"list": 0.2}, page_cap=50)
    slow = fetch(server, "many-flat", manifest_uri=str(tmp_path / "slow"), workers=2, isolated=True)
    assert slow.stats["streams"] > 64
    chosen = fetch(server, "many-flat", manifest_uri=str(tmp_path / "chosen"), workers=2, streams=32, isolated=True)
    assert chosen.stats["streams"] == 32
    assert chosen.fingerprint == slow.fingerprint


def test_threads_of_the_task_follow_the_latency_too(server: GCSServer, tmp_path: Path) -> None:
    """With pages of 200 ms, 24 threads took half as long again for 100,000 objects as those that the latency needs."""
    found = {}
    for name, latency_s, options in (("slow", 0.2, {}), ("chosen", 0.2, {"streams": 30}), ("usual", 0.03, {})):
        server.configure(latency_s={"list": latency_s}, page_cap=600)
        found[name] = fetch(server, "many-flat", manifest_uri=str(tmp_path / name), workers=2, isolated=True, **options)
        assert [process["role"] for process in found[name].stats["processes"]] == ["task"]
    assert found["slow"].fingerprint == found["chosen"].fingerprint == found["usual"].fingerprint
    assert 60 <= found["slow"].stats["streams"] <= 96
    assert found["chosen"].stats["streams"] == 30
    assert found["usual"].stats["streams"] == 24


def test_a_seed_of_an_identical_bucket_costs_few_requests_more_than_there_are_pages(
    server: GCSServer, tmp_path: Path
) -> None:
    fetch(server, "large", manifest_uri=str(tmp_path / "seed"), workers=2, streams=64, isolated=True)
    again = fetch(
        server, "large", manifest_uri=str(tmp_path / "again"), seed_manifest_uri=str(tmp_path / "seed"),
        workers=2, streams=16, isolated=True,
    )  # fmt: skip
    # There are 300 pages. The range of each of 16 streams ends in the midst of a page, and so does what it steals.
    assert again.stats["requests"] <= 300 + 3 * 16
    assert again.stats["listed"] == 300_000


def test_a_listing_imports_nothing_that_it_has_no_use_for(server: GCSServer, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from airflow_dataflux.core.config import ListRequest\n"
        "from airflow_dataflux.core.gcs.http_store import StoreConfig\n"
        "from airflow_dataflux.core.listing import list_objects\n"
        "from airflow_dataflux.core.runtime.tokens import AnonymousTokens\n"
        f"request = ListRequest(bucket='many-uuid', manifest_uri={str(tmp_path)!r}, streams=8, report=True)\n"
        f"store = StoreConfig(endpoint={server.endpoint!r})\n"
        "list_objects(request, store_config=store, tokens=AnonymousTokens(), isolated=False)\n"
        "unused = {'pandas', 'google.auth', 'google.cloud.storage', 'requests', 'pyarrow.compute'}\n"
        "print(sorted(unused & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_listing_of_one_page_without_a_report_imports_neither_pages_nor_the_scheduler(
    server: GCSServer, tmp_path: Path
) -> None:
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from airflow_dataflux.core.config import ListRequest\n"
        "from airflow_dataflux.core.gcs.http_store import StoreConfig\n"
        "from airflow_dataflux.core.listing import list_objects\n"
        "from airflow_dataflux.core.runtime.tokens import AnonymousTokens\n"
        f"request = ListRequest(bucket='few', manifest_uri={str(tmp_path)!r}, report=False)\n"
        f"store = StoreConfig(endpoint={server.endpoint!r})\n"
        "list_objects(request, store_config=store, tokens=AnonymousTokens())\n"
        "core = 'airflow_dataflux.core.'\n"
        "unused = {'jinja2', 'markupsafe', 'multiprocessing', core + 'listing.scheduler', core + 'report.charts'}\n"
        "print(core + 'listing.run' in sys.modules, sorted(unused & (sys.modules.keys() - before)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


def test_one_page_takes_one_request_and_no_engine(server: GCSServer) -> None:
    manifest = fetch(server, "few", isolated=True)
    assert names_of(manifest) == ["a/1.jpg", "a/2.png", "b/1.jpg", "b/20.jpg", "c/😀.jpg", "日本/x"]
    assert manifest.stats["requests"] == 1
    assert manifest.stats["workers"] == 0
    assert manifest.stats["dropped"] == {"include_placeholders": 1}
    # Of another bucket, requests of an earlier test may still arrive.
    assert [request.bucket for request in server.log("list")].count("few") == 1


def test_a_sparse_glob_over_many_pages_is_complete(server: GCSServer, tmp_path: Path) -> None:
    server.configure(scan_cap=500)
    manifest = fetch(
        server, "many-flat", manifest_uri=str(tmp_path), streams=16, filters=Filters(match_glob="**77.jpg")
    )
    server.configure(scan_cap=20_000)
    assert names_of(manifest) == [name for name in server.names("many-flat") if name.endswith("77.jpg")]


def test_a_listing_too_large_for_xcom_fails_after_a_few_pages(server: GCSServer) -> None:
    with pytest.raises(ManifestTooLargeError, match="manifest_uri"):
        fetch(server, "large", isolated=True)
    assert len(server.log("list")) < 40


def test_a_manifest_on_the_bucket_store_is_the_same(server: GCSServer, tmp_path: Path) -> None:
    local = fetch(server, "many-flat", manifest_uri=str(tmp_path))
    environment = dict(os.environ)
    os.environ.update(server.environment())
    try:
        remote = fetch(server, "many-flat", manifest_uri="gs://manifests/here", isolated=True, workers=2)
        assert Manifest.open("gs://manifests/here").fingerprint == local.fingerprint == remote.fingerprint
        # What was returned can be read and cut: the listing has not closed what it reads through.
        assert next(remote.rows()) == next(local.rows())
        assert [len(shard) for shard in remote.shards(7)] == [len(shard) for shard in local.shards(7)]
    finally:
        os.environ.clear()
        os.environ.update(environment)


def test_a_missing_bucket_and_an_unwritable_place_are_clear_errors_before_data_moves(
    server: GCSServer, tmp_path: Path
) -> None:
    with pytest.raises(BucketNotFoundError):
        fetch(server, "there-is-none")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ManifestError):
        fetch(server, "large", manifest_uri=str(tmp_path / "file" / "below"))
    assert len(server.log("list")) <= 2


def test_faults_on_the_way_change_nothing(server: GCSServer, tmp_path: Path) -> None:
    faults = [
        server.fail("status", operation="list", status=503, probability=0.05, times=10),
        server.fail("reset", operation="list", probability=0.05, times=10),
        server.fail("truncate", operation="list", probability=0.05, times=10),
    ]
    manifest = fetch(server, "many-deep", manifest_uri=str(tmp_path), streams=16)
    counts = server.faults()
    for fault in faults:
        server.stop_failing(fault)
    assert names_of(manifest) == server.names("many-deep")
    assert sum(counts[fault].hits for fault in faults) > 0
    assert manifest.stats["retries"] >= sum(counts[fault].hits for fault in faults)


def test_what_fails_for_good_leaves_nothing_behind(server: GCSServer, tmp_path: Path) -> None:
    fault = server.fail("status", operation="list", status=400, nth=20)
    with pytest.raises(StoreError):
        fetch(server, "many-flat", manifest_uri=str(tmp_path), streams=8)
    assert server.faults()[fault].hits == 1
    server.stop_failing(fault)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("isolated", [False, True])
def test_a_cancel_stops_everything_and_publishes_nothing(server: GCSServer, tmp_path: Path, isolated: bool) -> None:
    server.configure(latency_s={"list": 0.05}, list_per_1000_rows_s=0.025)
    cancel = CancelToken()

    def cancel_midway() -> None:
        while len(server.log("list")) < 60:
            pass
        cancel.cancel("the test says so")

    canceller = threading.Thread(target=cancel_midway)
    canceller.start()
    with pytest.raises(CancelledError):
        fetch(server, "large", manifest_uri=str(tmp_path), isolated=isolated, cancel=cancel, streams=8)
    canceller.join()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("early_hand_over")
def test_an_engine_that_starts_while_the_threads_end_is_not_left_behind(
    server: GCSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = CancelToken()
    started: list[launch.Engine] = []

    class Engine(launch.Engine):
        def __init__(self) -> None:
            super().__init__()
            started.append(self)
            cancel.cancel("the test says so")

    monkeypatch.setattr(launch, "Engine", Engine)
    with pytest.raises(CancelledError):
        fetch(server, "large", manifest_uri=str(tmp_path), isolated=True, cancel=cancel, streams=8)
    (engine,) = started
    assert engine._process.returncode == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("early_hand_over")
@pytest.mark.parametrize(("page_cap", "most_requests"), [(1000, 450), (5000, 180)])
def test_a_large_listing_takes_pages_as_large_as_the_service_sends(
    server: GCSServer, tmp_path: Path, page_cap: int, most_requests: int
) -> None:
    server.configure(latency_s={"list": 0.02}, page_cap=page_cap)
    manifest = fetch(server, "large", manifest_uri=str(tmp_path), isolated=True, workers=2, streams=8)
    assert manifest.stats["workers"] == 2
    assert names_of(manifest) == server.names("large")
    assert manifest.stats["requests"] <= most_requests


@pytest.mark.usefixtures("early_hand_over")
def test_a_killed_worker_process_loses_and_doubles_nothing(server: GCSServer, tmp_path: Path) -> None:
    server.configure(latency_s={"list": 0.04}, list_per_1000_rows_s=0.025)
    listed: list[Manifest] = []

    def run() -> None:
        uri = str(tmp_path)
        listed.append(fetch(server, "large", manifest_uri=uri, isolated=True, workers=2, streams=8, report=True))

    listing = threading.Thread(target=run)
    listing.start()
    while len(server.log("list")) < 110 and listing.is_alive():
        pass
    workers = [worker for engine in engines() for worker in children(engine)]
    assert workers
    os.kill(workers[-1], signal.SIGKILL)
    listing.join()
    (manifest,) = listed
    assert manifest.stats["lost_workers"] == 1
    assert names_of(manifest) == server.names("large")
    parts = {path.name for path in tmp_path.iterdir() if path.suffix == ".parquet"}
    assert parts == {part.path for part in manifest.index.parts}
    (page,) = (tmp_path / "reports").iterdir()
    report = page.read_text(encoding="utf-8")
    assert "1 worker process died" in report
    assert 'class="lostline"' in report


def test_credentials_that_are_refused_end_the_listing(server: GCSServer, tmp_path: Path) -> None:
    fault = server.fail("status", operation="list", status=401, prefix="x/")
    with pytest.raises(AuthenticationError):
        fetch(server, "many-flat", prefixes=("x/",), manifest_uri=str(tmp_path))
    assert server.faults()[fault].hits > 0
    server.stop_failing(fault)


@pytest.mark.usefixtures("early_hand_over")
def test_a_rate_that_was_found_before_the_hand_over_is_kept_after_it(
    server: GCSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[ListingPlan] = []

    def noting(job: jobs.Job, **options: Any) -> Any:
        plans.append(job.payload)
        return run_job(job, **options)

    run_job = jobs.run_job
    monkeypatch.setattr(jobs, "run_job", noting)
    server.configure(lists_per_s=50, budget_burst_s=0.05, latency_s={"list": 0.02})
    try:
        manifest = fetch(server, "large", manifest_uri=str(tmp_path), workers=2, streams=64, isolated=True)
    finally:
        server.configure(lists_per_s=None, budget_burst_s=0.25)
    assert manifest.stats["workers"] == 2
    assert manifest.fingerprint == fetch(server, "large", manifest_uri=str(tmp_path / "free")).fingerprint
    assert manifest.stats["throttled"] > 0
    in_threads, in_engine = plans[:2]
    assert in_threads.remainder.found_reads_per_s is None
    assert in_engine.remainder.found_reads_per_s is not None
    assert 5 <= in_engine.remainder.found_reads_per_s <= 125  # of 5,000 at first; a busy machine sends fewer than 50


def test_a_machine_without_a_temporary_directory_is_told_what_helps(
    server: GCSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ListingError, match=r"TMPDIR .* or give the listing a manifest_uri") as caught:
        fetch(server, "few")
    assert not caught.value.retryable
    assert len(fetch(server, "few", manifest_uri=str(tmp_path / "manifest"))) > 0
