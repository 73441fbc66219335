"""A real Airflow 3 deployment: scheduler, LocalExecutor, DAG processor, API server, and the embedded Cloud Storage.

In-process runs hide what real executors forbid (child processes above all), so the main way is run here, too.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from airflow_deployment import AirflowDeployment
from dag_runs import AIRFLOW_3
from process_table import engines_among, parent_of
from waiting import wait_until

from airflow_dataflux import Manifest
from airflow_dataflux.testing import GCSServer

pytestmark = [
    pytest.mark.deployment,
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(1800),  # a machine that is busy otherwise takes several times as long for each task
    pytest.mark.skipif(not AIRFLOW_3, reason="the deployment is one of Airflow 3"),
]

OBJECTS = {f"images/{n:04}.jpg": bytes([n % 251]) * (1000 + n) for n in range(300)}
PARTITIONS = {f"2026-01-{day:02}": {f"day=2026-01-{day:02}/{n}.csv" for n in range(day)} for day in (1, 2, 3, 4)}
"""What a bucket that is laid out by day holds: the last day is one that nobody asks for."""


@pytest.fixture(scope="module")
def server() -> Iterator[GCSServer]:
    with GCSServer() as running:
        running.create_bucket("pictures")
        running.put_many("pictures", OBJECTS)
        running.create_bucket("locked", permissions=[])
        running.create_bucket("large")
        running.synthesize("large", count=1_000_000)
        running.create_bucket("medium")
        running.synthesize("medium", count=100_000, size=6000)
        running.create_bucket("history")  # synthetic objects were changed every 7,919 s from 2024-01-01 on
        running.synthesize("history", count=300, size=6000)
        running.create_bucket("manifests")
        running.create_bucket("partitioned")
        running.put_many("partitioned", {name: b"rows" for names in PARTITIONS.values() for name in names})
        yield running


@pytest.fixture(scope="module")
def airflow(
    server: GCSServer, dags_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowDeployment]:
    root = tmp_path_factory.mktemp("deployment")
    environment = {
        **server.environment(),
        "STAGE_TRAINING_DATA_BUCKET": "pictures",
        "STAGE_TRAINING_DATA_PREFIX": "images/",
        "STAGE_TRAINING_DATA_DESTINATION_ROOT": str(root / "staged"),
        "STAGE_TRAINING_DATA_MANIFEST_ROOT": (root / "manifests").as_uri(),
        "STAGE_TRAINING_DATA_SHARDS": "3",
        "DAILY_INCREMENT_BUCKET": "history",
        "DAILY_INCREMENT_DESTINATION_ROOT": str(root / "increments"),
        "DAILY_INCREMENT_MANIFEST_ROOT": "gs://manifests/increments",
        "DAILY_INCREMENT_STRATEGY": "compose",
        "PARTITIONS_ROOT": str(root / "partitions"),
    }
    deployment = AirflowDeployment(root / "home", dags_folder, environment=environment)
    with deployment:
        yield deployment
    assert deployment.processes() == []


@pytest.fixture(autouse=True)
def _calm_server(server: GCSServer) -> Iterator[None]:
    yield
    server.configure(latency_s={}, bytes_per_s=None)


def finished(airflow: AirflowDeployment, dag_id: str, conf: dict[str, Any], **options: Any) -> tuple[str, str]:
    run_id = airflow.trigger(dag_id, conf, **options)
    return run_id, airflow.wait(dag_id, run_id)


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.jpg")}


def files(root: Path) -> list[Path]:
    """Return what is staged below a directory, without the receipts."""
    return [path for path in root.rglob("*") if path.is_file() and ".dataflux" not in path.parts]


def xcom_sizes(airflow: AirflowDeployment, run_id: str) -> dict[str, int]:
    """Return the bytes of every XCom row of a run in the metadata database, by task and key."""
    with sqlite3.connect(f"file:{airflow.home / 'airflow.db'}?mode=ro", uri=True, timeout=60) as database:
        rows = database.execute(
            "SELECT task_id || '.' || key, LENGTH(CAST(value AS BLOB)) FROM xcom WHERE run_id = ?", (run_id,)
        ).fetchall()
    database.close()
    assert rows
    return dict(rows)


KILL = "Server indicated the task shouldn't be running anymore"
"""What the supervisor writes into a task's log when it delivers the kill: at its next heartbeat, up to 5 s after it was
asked for, or later on a busy machine. The ten seconds that a task has to end count from there."""


def ended_in_time(airflow: AirflowDeployment, dag_id: str, run_id: str, task_id: str) -> None:
    """Wait until no engine is left, and check that this took no more than ten seconds from the kill."""
    wait_until(lambda: not engines_among(airflow.processes()), "the engines' end", limit_s=120)
    ended = time.time()
    path = f"/dags/{dag_id}/dagRuns/{run_id.replace('+', '%2B')}/taskInstances/{task_id}/logs/1?full_content=true"
    delivered: list[float] = []

    def told() -> bool:
        events = airflow.request("GET", path)["content"]
        delivered.extend(
            datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).timestamp()
            for event in events
            if isinstance(event, dict) and KILL in str(event.get("event"))
        )
        return bool(delivered)

    wait_until(told, "the supervisor's word on the kill", limit_s=60)
    assert ended - min(delivered) <= 10


def test_the_example_stages_by_hand_reuses_and_repairs(airflow: AirflowDeployment, tmp_path: Path) -> None:
    conf = {"destination_root": str(tmp_path / "staged"), "manifest_root": (tmp_path / "manifests").as_uri()}
    run_id, state = finished(airflow, "stage_training_data", conf)
    assert state == "success", airflow.logs("stage_training_data", run_id, "list")
    day = airflow.dag_run("stage_training_data", run_id)["run_after"][:10]
    assert airflow.dag_run("stage_training_data", run_id)["logical_date"] is None
    assert tree(tmp_path / "staged" / day) == OBJECTS
    first = airflow.xcom("stage_training_data", run_id, "verify")
    assert (first["verified"], first["downloaded"], first["reused"]) == (300, 300, 0)

    shards = airflow.xcom("stage_training_data", run_id, "list")
    assert len(shards) == 3
    assert len(json.dumps(shards)) < 4096
    staged = [ti for ti in airflow.task_instances("stage_training_data", run_id) if ti["task_id"] == "stage"]
    assert sorted(ti["rendered_map_index"][:12] for ti in staged) == [f"shard {n} of 3" for n in (1, 2, 3)]
    links = airflow.links("stage_training_data", run_id, "list")
    assert links["Bucket"] == "https://console.cloud.google.com/storage/browser/pictures/images;tab=objects"
    for name, start in (("Manifest", "manifest.json"), ("Report", "reports/20")):
        assert (links[name] or "").startswith(f"dataflux/{name.lower()}?dag_id=stage_training_data&run_id=")
        document = airflow.xcom("stage_training_data", run_id, "list", f"dataflux_{name.lower()}")
        assert document["uri"].startswith((tmp_path / "manifests" / day / start).as_uri())
    receipt = airflow.links("stage_training_data", run_id, "stage", 1)["Receipt"] or ""
    assert receipt.startswith("dataflux/receipt?")
    assert receipt.endswith("&map_index=1")

    log = airflow.logs("stage_training_data", run_id, "list").splitlines()
    assert any("Listed gs://pictures/images/: 300 objects" in line for line in log)

    again_id, _ = finished(airflow, "stage_training_data", conf)
    again = airflow.xcom("stage_training_data", again_id, "verify")
    assert (again["verified"], again["downloaded"], again["reused"]) == (300, 0, 300)

    (tmp_path / "staged" / day / "images/0123.jpg").unlink()
    repair_id, _ = finished(airflow, "stage_training_data", conf)
    repaired = airflow.xcom("stage_training_data", repair_id, "verify")
    assert (repaired["verified"], repaired["downloaded"]) == (300, 1)


def test_the_schedule_runs_the_example_without_a_form(airflow: AirflowDeployment) -> None:
    airflow.wait_for_dag("stage_training_data")
    airflow.unpause("stage_training_data")

    def scheduled() -> list[dict[str, Any]]:
        return [run for run in airflow.dag_runs("stage_training_data") if run["run_type"] == "scheduled"]

    wait_until(scheduled, "a scheduled run", limit_s=60)
    run = scheduled()[0]
    assert airflow.wait("stage_training_data", run["dag_run_id"]) == "success"
    summary = airflow.xcom("stage_training_data", run["dag_run_id"], "verify")
    assert summary["destination"].endswith(run["logical_date"][:10])
    assert tree(Path(summary["destination"])) == OBJECTS


def test_a_schedule_catches_up_on_a_partitioned_bucket(airflow: AirflowDeployment) -> None:
    airflow.wait_for_dag("partitions_caught_up")
    airflow.unpause("partitions_caught_up")

    def over() -> bool:
        states = [run["state"] for run in airflow.dag_runs("partitions_caught_up")]
        return len(states) == 3 and set(states) <= {"success", "failed"}

    wait_until(over, "the end of three runs", limit_s=300)
    root = airflow.home.parent / "partitions"
    found = {day.name: {file.relative_to(day).as_posix() for file in files(day)} for day in root.iterdir()}
    assert found == {day: names for day, names in PARTITIONS.items() if day <= "2026-01-03"}


def test_a_dag_file_that_is_new_or_has_changed_is_read_soon(airflow: AirflowDeployment, dags_folder: Path) -> None:
    file = dags_folder / "changing.py"

    def described(text: str) -> None:
        file.write_text(f"from airflow.sdk import DAG\n\ndag = DAG('changing', schedule=None, description={text!r})\n")
        airflow.wait_for_dag("changing")
        # A minute, should the change have come while the file was still being read for the first time.
        wait_until(lambda: airflow.request("GET", "/dags/changing")["description"] == text, text, limit_s=240)

    try:
        described("as it was written")
        described("as it was changed")
    finally:
        file.unlink()


def increments(airflow: AirflowDeployment) -> list[dict[str, Any]]:
    """Backfill seven days, up to four at a time, and return the runs in the order of their days."""
    airflow.backfill(
        "daily_increment",
        from_date="2024-01-01",
        to_date="2024-01-07",
        max_active_runs=4,
        reprocess_behavior="completed",
    )
    airflow.wait_for_backfills("daily_increment")
    runs = [run for run in airflow.dag_runs("daily_increment") if run["run_type"] == "backfill"]
    assert {run["state"] for run in runs} == {"success"}
    return sorted(runs, key=lambda run: str(run["logical_date"]))


def test_a_backfill_gives_each_interval_its_objects_and_a_second_one_downloads_nothing(
    airflow: AirflowDeployment, server: GCSServer
) -> None:
    server.configure(latency_s={"compose": 0.3})  # composites of runs at the same time are there at the same time
    server.forget_requests()
    runs = increments(airflow)
    assert [run["logical_date"][:10] for run in runs] == [f"2024-01-{day:02}" for day in range(1, 8)]
    first = [airflow.xcom("daily_increment", run["dag_run_id"], "stage") for run in runs]

    listed_id, _ = finished(airflow, "list_only", {"bucket": "history"})
    listed = Manifest.from_reference(airflow.xcom("list_only", listed_id, "list"))
    of_day: dict[str, dict[str, int]] = defaultdict(dict)
    for row in listed:
        of_day[row.updated.strftime("%Y-%m-%d")][row.name] = row.size
    for run, summary in zip(runs, first, strict=True):
        day, destination = run["logical_date"][:10], Path(summary["destination"])
        staged = {path.relative_to(destination).as_posix(): path.stat().st_size for path in files(destination)}
        assert (destination.name, staged) == (day, of_day[day])
        assert summary["downloaded"] == len(of_day[day]) > 5

    made = [record.name for record in server.log("compose") if record.bucket == "history" and record.status == 200]
    assert len(made) == len(set(made)), "no composite was made twice"
    owners = {name.removeprefix("dataflux-composed-objects/").rpartition("/-1/")[0] for name in made}
    assert owners == {f"daily_increment/{run['dag_run_id']}/stage" for run in runs}, "each has composites of its own"
    assert server.names("history", "dataflux-composed-objects/") == []

    server.forget_requests()
    second = [airflow.xcom("daily_increment", run["dag_run_id"], "stage") for run in increments(airflow)]
    assert [(each["downloaded"], each["reused"]) for each in second] == [(0, each["downloaded"]) for each in first]
    asked = {record.operation for record in server.log() if record.bucket == "history"}  # manifests are in another
    assert "list" in asked
    assert not {"read", "compose"} & asked


def test_every_pattern_succeeds(airflow: AirflowDeployment, tmp_path: Path) -> None:
    pictures = {"bucket": "pictures", "prefix": "images/"}
    conf: dict[str, dict[str, Any]] = {
        "one_worker": {**pictures, "root": str(tmp_path / "one")},
        "pinned_to_a_queue": {**pictures, "manifest_uri": "gs://manifests/q", "destination": str(tmp_path / "q")},
        "stage_and_train": {**pictures, "manifest_uri": "gs://manifests/t", "scratch": str(tmp_path / "t")},
        "list_by_ranges": {"bucket": "medium", "manifest_root": "gs://manifests/ranges", "ranges": 5},
        "select_and_split": {**pictures, "root": str(tmp_path / "split")},
    }
    runs = {dag_id: airflow.trigger(dag_id, each) for dag_id, each in conf.items()}
    states = {dag_id: airflow.wait(dag_id, run_id) for dag_id, run_id in runs.items()}
    assert states == dict.fromkeys(conf, "success")
    assert all(tree(tmp_path / place) == OBJECTS for place in ("one/files", "q", "t"))
    assert airflow.xcom("one_worker", runs["one_worker"], "measure")["files"] == {".jpg": 300}
    trained = airflow.xcom("pinned_to_a_queue", runs["pinned_to_a_queue"], "train")
    same = airflow.xcom("stage_and_train", runs["stage_and_train"], "stage_and_train")
    assert trained["bytes"] == same["bytes"] == sum(map(len, OBJECTS.values()))
    assert trained["mean"] == pytest.approx(same["mean"])
    joined = airflow.xcom("list_by_ranges", runs["list_by_ranges"], "join")
    assert joined["object_count"] == 100_000
    train, val = (tree(tmp_path / "split" / split) for split in ("train", "val"))
    assert {**train, **val} == OBJECTS
    assert len(train) + len(val) == len(OBJECTS) > len(train) > len(val) > 0


def test_many_shards_are_staged_into_one_tree(airflow: AirflowDeployment, tmp_path: Path) -> None:
    conf = {
        "bucket": "pictures",
        "manifest_uri": (tmp_path / "manifest").as_uri(),
        "shards": 24,  # six times as many as run at once
        "destination": str(tmp_path / "staged"),
    }
    run_id = airflow.trigger("shards_then_stage", conf)
    assert airflow.wait("shards_then_stage", run_id, timeout_s=1500) == "success"
    assert tree(tmp_path / "staged") == OBJECTS
    labels = {ti["rendered_map_index"] for ti in airflow.task_instances("shards_then_stage", run_id)}
    assert {f"shard {n} of 24" for n in range(1, 25)} == {label.partition(":")[0] for label in labels if label}


def test_a_large_listing_runs_in_an_engine_with_worker_processes(airflow: AirflowDeployment) -> None:
    conf = {"bucket": "large", "manifest_uri": "gs://manifests/large/2026-01-01", "workers": "2", "shards": "16"}
    run_id, state = finished(airflow, "list_only", conf)
    assert state == "success", airflow.logs("list_only", run_id, "list")
    assert len(airflow.xcom("list_only", run_id, "list")) == 16
    reference = airflow.xcom("list_only", run_id, "list", "manifest")
    assert reference["object_count"] == 1_000_000
    assert reference["stats"]["workers"] == 2  # processes under an engine; 0 without one
    sizes = xcom_sizes(airflow, run_id)
    assert max(sizes.values()) <= 4096, sizes
    assert "list.return_value" in sizes, "all shards are one row"
    assert engines_among(airflow.processes()) == []


@pytest.mark.parametrize(
    ("dag_id", "task_id", "conf", "message"),
    [
        ("list_only", "list", {"bucket": "missing"}, "BucketNotFoundError"),
        ("list_only", "list", {"bucket": "locked"}, "PermissionDeniedError"),
        ("list_only", "list", {"bucket": "large"}, "manifest_uri"),
        ("list_only", "list", {"bucket": "pictures", "manifest_uri": "gs:/pictures"}, "lacks the //"),
        ("stage_only", "stage", {"strategy": "fastest"}, "strategy must be one of"),
        ("stage_only", "stage", {"destination": "/proc/nowhere"}, "DestinationError"),
    ],
    ids=["bucket", "permission", "too large", "uri", "strategy", "destination"],
)
def test_what_cannot_succeed_is_not_tried_again(
    airflow: AirflowDeployment, tmp_path: Path, dag_id: str, task_id: str, conf: dict[str, Any], message: str
) -> None:
    if dag_id == "stage_only":
        listed_id, _ = finished(airflow, "list_only", {"bucket": "pictures"})
        reference = airflow.xcom("list_only", listed_id, "list")
        conf = {"manifest": reference, "destination": str(tmp_path / "staged"), **conf}
    run_id, state = finished(airflow, dag_id, conf)
    assert state == "failed"
    ti = airflow.task_instance(dag_id, run_id, task_id)
    assert (ti["state"], ti["try_number"], ti["max_tries"]) == ("failed", 1, 2)
    log = airflow.logs(dag_id, run_id, task_id)
    assert message in log
    *_, last = [line for line in log.splitlines() if line.strip() and "::endgroup::" not in line]
    assert re.fullmatch(r"error: .{1,100}", last), f"the log does not end with a short line: {last}"


def slow_listing(airflow: AirflowDeployment, server: GCSServer, tmp_path: Path) -> tuple[str, int]:
    """Start a listing that takes minutes, and return its run and its task's pid once an engine is at work.

    Pages are slow only from then on: a listing gets engines after tens to hundreds of pages.
    """
    server.configure(latency_s={"list": 0.2})
    conf = {"bucket": "large", "manifest_uri": (tmp_path / "manifest").as_uri(), "streams": "8", "workers": "2"}
    run_id = airflow.trigger("list_only", conf)
    try:
        airflow.wait_for_task("list_only", run_id, "list")
        wait_until(lambda: engines_among(airflow.processes()), "an engine", limit_s=60)
        server.configure(latency_s={"list": 2.0})
        return run_id, int(airflow.task_instance("list_only", run_id, "list")["pid"])
    except BaseException as error:
        airflow.set_task_state("list_only", run_id, "list", "failed")
        error.add_note(airflow.logs("list_only", run_id, "list"))
        raise


def slow_staging(airflow: AirflowDeployment, server: GCSServer, tmp_path: Path) -> str:
    """Start a staging that takes minutes, and return its run once there are composites in the bucket."""
    conf = {"bucket": "medium", "manifest_uri": (tmp_path / "manifest").as_uri()}
    run_id, state = finished(airflow, "list_only", conf)
    assert state == "success"
    server.configure(bytes_per_s=20_000)
    conf = {
        "manifest": airflow.xcom("list_only", run_id, "list"),
        "destination": str(tmp_path / "staged"),
        "strategy": "compose",
    }
    run_id = airflow.trigger("stage_only", conf)
    wait_until(lambda: server.names("medium", "dataflux-composed-objects/"), "composites", limit_s=120)
    return run_id


def test_a_listing_marked_as_failed_leaves_no_process(
    airflow: AirflowDeployment, server: GCSServer, tmp_path: Path
) -> None:
    run_id, _ = slow_listing(airflow, server, tmp_path)
    airflow.set_task_state("list_only", run_id, "list", "failed")
    ended_in_time(airflow, "list_only", run_id, "list")
    assert airflow.wait("list_only", run_id) == "failed"  # it was marked so: the task itself may still be ending
    wait_until(
        lambda: "CancelledError: Stopped before the end" in airflow.logs("list_only", run_id, "list"),
        "the task's own word on why it ended",
        limit_s=60,
    )
    assert not (tmp_path / "manifest" / "manifest.json").exists()


def test_a_staging_marked_as_failed_leaves_no_process_and_no_composite(
    airflow: AirflowDeployment, server: GCSServer, tmp_path: Path
) -> None:
    run_id = slow_staging(airflow, server, tmp_path)
    assert engines_among(airflow.processes())
    airflow.set_task_state("stage_only", run_id, "stage", "failed")
    ended_in_time(airflow, "stage_only", run_id, "stage")
    wait_until(lambda: not server.names("medium", "dataflux-composed-objects/"), "the composites' end", 10)
    assert airflow.wait("stage_only", run_id) == "failed"


def test_a_killed_task_leaves_no_process_and_is_tried_again(
    airflow: AirflowDeployment, server: GCSServer, tmp_path: Path
) -> None:
    run_id, pid = slow_listing(airflow, server, tmp_path)
    server.configure(latency_s={})
    os.kill(pid, signal.SIGKILL)
    first = engines_among(airflow.processes())
    wait_until(lambda: not set(first) & set(engines_among(airflow.processes())), "the engines' end", limit_s=60)
    assert airflow.wait("list_only", run_id) == "success"
    assert airflow.task_instance("list_only", run_id, "list")["try_number"] == 2


def test_a_task_whose_supervisor_is_killed_stops_itself(
    airflow: AirflowDeployment, server: GCSServer, tmp_path: Path
) -> None:
    run_id, pid = slow_listing(airflow, server, tmp_path)
    os.kill(parent_of(pid), signal.SIGKILL)
    try:
        wait_until(lambda: not engines_among(airflow.processes()), "the engines' end", limit_s=15)
        wait_until(lambda: pid not in airflow.processes(), "the task's end", limit_s=60)
    finally:
        airflow.set_task_state("list_only", run_id, "list", "failed")


def test_an_unchanged_listing_is_skipped_only_after_the_staging_of_an_earlier_run(
    airflow: AirflowDeployment, tmp_path: Path
) -> None:
    """A task learns from the API server, over its supervisor, what became of the run that made the manifest."""
    dag_id, conf = "list_what_changed_then_stage", {"bucket": "pictures", "shards": 2}
    conf |= {"manifest_uri": (tmp_path / "manifest").as_uri(), "destination": str(tmp_path / "staged")}
    states = []
    for destination in ("relative/path", conf["destination"], conf["destination"]):
        run_id, state = finished(airflow, dag_id, {**conf, "destination": destination})
        assert state == "success"
        found = {(each["task_id"], each["state"]) for each in airflow.task_instances(dag_id, run_id)}
        states.append(sorted(found - {("tidy_up", "success")}))
    assert states == [
        [("list", "success"), ("stage", "failed")],
        [("list", "success"), ("stage", "success")],
        [("list", "skipped"), ("stage", "skipped")],
    ]
