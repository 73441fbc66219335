"""From a bucket to training data on a real Airflow 3.3: a scheduler, forms, a backfill, a person's answer."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow as airflow_itself
import pytest
from airflow_deployment import AirflowDeployment
from waiting import wait_until

from airflow_dataflux.testing import GCSServer

VERSION = tuple(map(int, airflow_itself.__version__.split(".")[:2]))

pytestmark = [
    pytest.mark.deployment,
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(1800),  # a machine that is busy otherwise takes several times as long for each task
    pytest.mark.skipif(VERSION < (3, 3), reason="partitions of assets are new in Airflow 3.3"),
]

SAMPLES = {f"train/{n:03}.{kind}": bytes([n, ord(kind[0])]) * (100 + n) for n in range(90) for kind in ("jpg", "cls")}
DAYS = {f"log/day=2026-01-0{day}/{n}.bin": bytes([day, n]) * 50 for day in (1, 2, 3) for n in range(4)}


@pytest.fixture(scope="module")
def server() -> Iterator[GCSServer]:
    with GCSServer() as running:
        running.create_bucket("training")
        running.put_many("training", SAMPLES)
        running.put("training", "train/half.tmp", b"unfinished")
        running.create_bucket("days")
        running.put_many("days", DAYS)
        running.create_bucket("events")
        running.put_many("events", DAYS)
        for name in ("manifests", "packs"):
            running.create_bucket(name)
        yield running


@pytest.fixture(scope="module")
def airflow(
    server: GCSServer, dags_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowDeployment]:
    root = tmp_path_factory.mktemp("training")
    environment = {
        **server.environment(),
        "CHANGED_DAYS_BUCKET": "days",
        "CHANGED_DAYS_PREFIX": "log/",
        "CHANGED_DAYS_MANIFEST_ROOT": "gs://manifests/nights",
        "CHANGED_DAYS_DESTINATION_ROOT": str(root / "staged"),
        "CHANGED_DAYS_PACK_ROOT": "gs://packs/days",
    }
    deployment = AirflowDeployment(root / "home", dags_folder, environment=environment)
    with deployment:
        yield deployment
    assert deployment.processes() == []


def finished(airflow: AirflowDeployment, dag_id: str, conf: dict[str, Any]) -> str:
    """Run a DAG as its form does, and return the run that succeeded."""
    run_id = airflow.trigger(dag_id, conf)
    assert airflow.wait(dag_id, run_id) == "success", states(airflow, dag_id, run_id)
    return run_id


def states(airflow: AirflowDeployment, dag_id: str, run_id: str) -> dict[str, list[str]]:
    """Return the states of a run's task instances by their task."""
    found: dict[str, list[str]] = {}
    for ti in airflow.task_instances(dag_id, run_id):
        found.setdefault(ti["task_id"], []).append(ti["state"])
    return found


def files(root: Path) -> dict[str, bytes]:
    """Return what is staged below a directory, without the receipts."""
    found = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
    return {name.as_posix(): path.read_bytes() for name, path in found.items() if ".dataflux" not in name.parts}


# -- a person's answer


def asked(airflow: AirflowDeployment, destination: Path) -> tuple[str, str, dict[str, Any]]:
    """Trigger the example, and return its run, the path of its question, and the question once it is asked."""
    conf = {"bucket": "training", "prefix": "train/", "destination": str(destination)}
    run_id = airflow.trigger("approve_cost", {**conf, "manifest_uri": "gs://manifests/approve"})
    airflow.wait_for_task("approve_cost", run_id, "approve", states=("awaiting_input",), timeout_s=300)
    # An answer that comes before the scheduler has heard of the pause is lost: it takes the end of the paused process
    # for that of the queued one, and asks again in a second try. No person is so quick.
    heard = re.compile(rf"Received executor event .*task_id='approve', run_id='{re.escape(run_id)}'")
    wait_until(lambda: heard.search(airflow.component_log("scheduler")), "the scheduler's word on the pause")
    path = f"/dags/approve_cost/dagRuns/{run_id.replace('+', '%2B')}/taskInstances/approve/-1/hitlDetails"
    return run_id, path, airflow.request("GET", path)


def test_what_a_person_approves_is_staged(airflow: AirflowDeployment, tmp_path: Path) -> None:
    run_id, path, question = asked(airflow, tmp_path / "approved")
    estimate = airflow.xcom("approve_cost", run_id, "estimate")
    assert (estimate["dry_run"], estimate["object_count"]) == (True, 181)
    assert estimate["estimated_usd"] > 0
    dollars = f"${estimate['estimated_usd']:.4f}"
    assert question["subject"] == f"Stage 181 objects of gs://training for about {dollars}?"
    assert f"\n- class b: ${estimate['costs']['class_b']:.4f}" in question["body"]
    assert question["defaults"] == ["Reject"]
    assert not (tmp_path / "approved").exists(), "nothing is staged before the answer"

    answer = airflow.request("PATCH", path, {"chosen_options": ["Approve"], "params_input": {}})
    assert answer["chosen_options"] == ["Approve"]
    assert airflow.wait("approve_cost", run_id) == "success"
    receipt = airflow.xcom("approve_cost", run_id, "stage")
    assert (receipt["downloaded"], receipt["fingerprint"]) == (181, estimate["fingerprint"])
    assert files(tmp_path / "approved") == {**SAMPLES, "train/half.tmp": b"unfinished"}


def test_what_a_person_rejects_is_not_staged(airflow: AirflowDeployment, server: GCSServer, tmp_path: Path) -> None:
    run_id, path, _ = asked(airflow, tmp_path / "rejected")
    server.forget_requests()
    airflow.request("PATCH", path, {"chosen_options": ["Reject"], "params_input": {}})
    assert airflow.wait("approve_cost", run_id) == "success"
    assert states(airflow, "approve_cost", run_id) == {
        "list": ["success"],
        "estimate": ["success"],
        "approve": ["success"],
        "stage": ["skipped"],
    }
    assert not (tmp_path / "rejected").exists()
    assert server.log() == []


# -- forms


def test_a_form_selects_splits_and_stages(airflow: AirflowDeployment, tmp_path: Path) -> None:
    conf = {"bucket": "training", "prefix": "train/", "root": str(tmp_path), "validation": 0.25}
    run_id = finished(airflow, "select_and_split", conf)
    train, val = files(tmp_path / "train"), files(tmp_path / "val")
    assert {**train, **val} == SAMPLES, "all but the unfinished file"
    assert not {name.rpartition(".")[0] for name in train} & {name.rpartition(".")[0] for name in val}
    assert len(train) > len(val) > 0
    selected = airflow.xcom("select_and_split", run_id, "select")
    assert {name: reference["object_count"] for name, reference in selected.items()} == {
        "train": len(train),
        "val": len(val),
    }


def test_a_form_packs_with_several_tasks_and_a_second_run_writes_nothing(
    airflow: AirflowDeployment, tmp_path: Path
) -> None:
    conf = {
        "bucket": "training",
        "prefix": "train/",
        "manifest_uri": "gs://manifests/pack",
        "output": str(tmp_path / "pack"),
        "shard_bytes": 20_480,
        "tasks": 3,
    }
    run_id = finished(airflow, "pack_training_data", conf)
    assert states(airflow, "pack_training_data", run_id)["pack"] == ["success"] * 3
    joined = airflow.xcom("pack_training_data", run_id, "join")
    assert (joined["object_count"], joined["packed_shards"]) == (181, joined["shard_count"])
    members: dict[str, bytes] = {}
    for shard in json.loads((tmp_path / "pack/index.json").read_text())["shardlist"]:
        with tarfile.open(tmp_path / "pack" / shard["url"]) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    assert members == {**SAMPLES, "train/half.tmp": b"unfinished"}
    again = airflow.xcom("pack_training_data", finished(airflow, "pack_training_data", conf), "join")
    assert (again["packed_shards"], again["reused_shards"]) == (0, joined["shard_count"])


# -- partitions


def scheduled(airflow: AirflowDeployment) -> list[str]:
    """Return the states of the runs that the schedule began."""
    return [run["state"] for run in airflow.dag_runs("changed_days") if run["run_type"] == "scheduled"]


def nights(airflow: AirflowDeployment, *days: str) -> list[dict[str, list[str]]]:
    """Backfill nights one after the other, and return what became of their tasks."""
    airflow.backfill("changed_days", from_date=days[0], to_date=days[-1], max_active_runs=1)
    airflow.wait_for_backfills("changed_days", timeout_s=900)
    runs = {run["logical_date"][:10]: run for run in airflow.dag_runs("changed_days") if run["run_type"] == "backfill"}
    assert [runs[day]["state"] for day in days] == ["success"] * len(days)
    return [states(airflow, "changed_days", runs[day]["dag_run_id"]) for day in days]


def test_a_backfill_stages_and_packs_only_the_days_that_changed(airflow: AirflowDeployment, server: GCSServer) -> None:
    root = airflow.home.parent / "staged" / "log"
    steps = ("day.list", "day.stage", "day.pack", "day.prune")

    def versions() -> dict[str, list[str]]:
        """Return what the backfills staged: the schedule's run is of another year."""
        return {day.name[4:]: sorted(path.name for path in day.glob("2025*")) for day in sorted(root.iterdir())}

    airflow.wait_for_dag("changed_days")
    airflow.unpause("changed_days")
    wait_until(lambda: scheduled(airflow) == ["success"], "last night's run, with which the schedule begins", 300)
    (first,) = nights(airflow, "2025-02-01")
    assert {step: first[step] for step in steps} == dict.fromkeys(steps, ["success"] * 3)
    assert versions() == {f"2026-01-0{day}": ["2025-02-01"] for day in (1, 2, 3)}

    server.put("days", "log/day=2026-01-02/0.bin", b"changed")
    server.put("days", "log/day=2026-01-04/0.bin", b"added")
    server.forget_requests()
    second, third = nights(airflow, "2025-02-02", "2025-02-03")
    assert {step: second[step] for step in steps} == dict.fromkeys(steps, ["success"] * 2)
    assert third["compare"] == ["success"]
    assert {state for step in steps for state in third.get(step, [])} <= {"skipped"}, "nothing runs without a change"
    assert versions() == {
        "2026-01-01": ["2025-02-01"],
        "2026-01-02": ["2025-02-01", "2025-02-02"],
        "2026-01-03": ["2025-02-01"],
        "2026-01-04": ["2025-02-02"],
    }
    assert files(root / "day=2026-01-02/2025-02-02") == {
        "0.bin": b"changed",
        **{f"{n}.bin": DAYS[f"log/day=2026-01-02/{n}.bin"] for n in (1, 2, 3)},
    }
    shards = (name.rpartition("/")[0] for name in server.names("packs", "days/") if name.endswith("/000000.tar"))
    written = {place for place in shards if "/2025-" in place}
    assert written == {f"days/log/day={day}/{night}" for day, several in versions().items() for night in several}
    read = {record.name for record in server.log("read") if record.bucket == "days"}
    assert read
    assert all("2026-01-02" in name or "2026-01-04" in name for name in read), "no other day was read"


def test_a_consumer_runs_once_for_each_partition_that_changed(airflow: AirflowDeployment, server: GCSServer) -> None:
    """(1) Airflow runs a DAG with a PartitionedAssetTimetable once for each event with a partition; (2) one with
    schedule=[asset] hears of no such event; (3) one that waits for an alias hears of a change once."""
    for dag_id in ("once_a_partition", "once_a_change", "without_partitions"):
        airflow.wait_for_dag(dag_id)
        airflow.unpause(dag_id)

    def compare(night: int) -> list[str]:
        conf = {"manifest_root": "gs://manifests/told", "night": night, "before": night - 1}
        run_id = finished(airflow, "tell_partitions", conf)
        return [change["partition"] for change in airflow.xcom("tell_partitions", run_id, "compare")]

    def heard(dag_id: str) -> list[dict[str, Any]]:
        runs = airflow.dag_runs(dag_id)
        if any(run["state"] != "success" for run in runs):
            return []
        found = [airflow.xcom(dag_id, run["dag_run_id"], "told") for run in runs]
        assert [each["key"] for each in found] == [run["partition_key"] for run in runs]
        return found

    def partitions() -> list[str]:
        return sorted(each["key"] for each in heard("once_a_partition"))

    days = [f"2026-01-0{day}" for day in (1, 2, 3)]
    assert compare(1) == days
    wait_until(lambda: partitions() == days, "a run for each partition", limit_s=300)
    assert compare(2) == []
    server.put("events", "log/day=2026-01-03/0.bin", b"changed")
    server.put("events", "log/day=2026-01-04/0.bin", b"added")
    assert compare(3) == [*days[2:], "2026-01-04"]
    # Had the night in the middle had events, their runs would be here, too.
    wait_until(lambda: len(heard("once_a_partition")) == 5, "a run for each changed partition", limit_s=300)
    assert partitions() == sorted([*days, days[2], "2026-01-04"])
    wait_until(lambda: len(heard("once_a_change")) == 2, "a run for each change", limit_s=300)
    # Airflow gives the event of an alias twice: under the alias, and under the asset that it stands for.
    told = [each["partitions"] for each in heard("once_a_change")]
    assert sorted(told, key=str) == sorted([[days] * 2, [[days[2], "2026-01-04"]] * 2], key=str)
    assert airflow.dag_runs("without_partitions") == []
