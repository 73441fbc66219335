"""The ways to spread a staging over workers, on CeleryExecutor with two workers that have disks of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from process_table import engines_among
from waiting import HANGS_S, wait_until
from watching import OBJECTS
from worker_machines import PINNED, WORKERS, CeleryDeployment

from airflow_dataflux.testing import GCSServer


def started(airflow: CeleryDeployment, dag_id: str, conf: dict[str, Any]) -> str:
    airflow.wait_for_dag(dag_id, HANGS_S)
    return airflow.trigger(dag_id, conf)


def succeeded(airflow: CeleryDeployment, dag_id: str, run_id: str) -> None:
    state = airflow.wait(dag_id, run_id, timeout_s=HANGS_S)
    states = {ti["task_id"]: ti["state"] for ti in airflow.task_instances(dag_id, run_id)}
    assert state == "success", states


def finished(airflow: CeleryDeployment, dag_id: str, conf: dict[str, Any]) -> str:
    run_id = started(airflow, dag_id, conf)
    succeeded(airflow, dag_id, run_id)
    return run_id


def hosts(airflow: CeleryDeployment, dag_id: str, run_id: str, *task_ids: str) -> set[str]:
    """Return where Airflow says that the tasks ran."""
    return {ti["hostname"] for ti in airflow.task_instances(dag_id, run_id) if ti["task_id"] in task_ids}


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.jpg")}


def test_one_worker_stages_on_its_own_disk(airflow: CeleryDeployment, tmp_path: Path) -> None:
    name, other = WORKERS
    with airflow.only_worker(name) as worker:
        root = airflow.scratch / tmp_path.name
        run_id = finished(airflow, "one_worker", {"bucket": "pictures", "root": str(root)})
    assert hosts(airflow, "one_worker", run_id, "list", "stage", "measure") == {name}
    assert airflow.xcom("one_worker", run_id, "stage")["hostname"] == name
    assert airflow.xcom("one_worker", run_id, "measure")["files"] == {".jpg": len(OBJECTS)}
    assert tree(worker.disk / tmp_path.name / "files") == OBJECTS
    assert not (airflow.workers[other].disk / tmp_path.name).exists()
    assert not root.exists()  # the place is the same for all, what lies there is each worker's own


def test_shards_of_one_tree_run_on_both_workers(airflow: CeleryDeployment, server: GCSServer, tmp_path: Path) -> None:
    conf = {
        "bucket": "pictures",
        "destination_root": str(tmp_path / "staged"),
        "manifest_root": (tmp_path / "manifests").as_uri(),
        "shards": 4,
        "strategy": "direct",
    }
    run_id = started(airflow, "stage_training_data", conf)
    airflow.wait_for_task("stage_training_data", run_id, "list", states=("success",), timeout_s=HANGS_S)
    # A worker runs two tasks at a time, and no shard is done before both workers have one.
    server.configure(bytes_per_s=1)
    wait_until(lambda: hosts(airflow, "stage_training_data", run_id, "stage") == set(WORKERS), "a shard on each worker")
    server.configure(bytes_per_s=None)
    succeeded(airflow, "stage_training_data", run_id)
    day = airflow.dag_run("stage_training_data", run_id)["run_after"][:10]
    assert tree(tmp_path / "staged" / day) == OBJECTS
    summary = airflow.xcom("stage_training_data", run_id, "verify")
    assert (summary["verified"], summary["downloaded"]) == (len(OBJECTS), len(OBJECTS))
    assert hosts(airflow, "stage_training_data", run_id, "stage") == set(WORKERS)
    receipts = [airflow.xcom("stage_training_data", run_id, "stage", map_index=shard) for shard in range(4)]
    assert {receipt["hostname"] for receipt in receipts} == set(WORKERS)
    written = [json.loads(path.read_bytes()) for path in (tmp_path / "staged" / day).rglob("*-of-00004.json")]
    assert sorted(one["hostname"] for one in written) == sorted(receipt["hostname"] for receipt in receipts)


def test_training_runs_beside_the_files_on_the_pinned_worker(airflow: CeleryDeployment, tmp_path: Path) -> None:
    destination = airflow.scratch / tmp_path.name
    conf = {
        "bucket": "pictures",
        "prefix": "images/",
        "manifest_uri": (tmp_path / "manifest").as_uri(),
        "destination": str(destination),
    }
    run_id = finished(airflow, "pinned_to_a_queue", conf)
    assert hosts(airflow, "pinned_to_a_queue", run_id, "stage", "train") == {PINNED}
    assert airflow.xcom("pinned_to_a_queue", run_id, "stage")["hostname"] == PINNED
    trained = airflow.xcom("pinned_to_a_queue", run_id, "train")
    assert (trained["files"], trained["bytes"]) == (len(OBJECTS), sum(map(len, OBJECTS.values())))
    assert tree(airflow.workers[PINNED].disk / tmp_path.name) == OBJECTS
    for name in WORKERS:
        if name != PINNED:
            assert not (airflow.workers[name].disk / tmp_path.name).exists()
    assert not destination.exists()


def test_a_listing_in_a_celery_task_has_worker_processes(airflow: CeleryDeployment, tmp_path: Path) -> None:
    conf = {"bucket": "large", "manifest_uri": (tmp_path / "manifest").as_uri(), "workers": "2"}
    run_id = finished(airflow, "list_only", conf)
    reference = airflow.xcom("list_only", run_id, "list")
    assert reference["object_count"] == 1_000_000
    assert reference["stats"]["workers"] == 2  # processes under an engine; 0 without one
    assert hosts(airflow, "list_only", run_id, "list") <= set(WORKERS)
    assert engines_among(airflow.processes()) == []
