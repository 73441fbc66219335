"""The example DAGs of the patterns, on either of Airflow's lines; `stage_training_data` has a module of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from dag_runs import dag_bag, failure, run_dag

pytestmark = pytest.mark.usefixtures("airflow_database")

OBJECTS = {f"train/{n:03}.bin": bytes([n % 7, 255]) * (20 + n) for n in range(120)}
ALL_BYTES = b"".join(OBJECTS.values())
MEAN = sum(ALL_BYTES) / len(ALL_BYTES)
DEVIATION = (sum((value - MEAN) ** 2 for value in ALL_BYTES) / len(ALL_BYTES)) ** 0.5


@pytest.fixture
def bucket(gcs_server):
    gcs_server.create_bucket("training")
    gcs_server.put_many("training", OBJECTS)
    gcs_server.create_bucket("manifests")
    return gcs_server


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.bin")}


def test_one_worker_stages_uses_and_follows_the_bucket(bucket, tmp_path: Path) -> None:
    conf = {"bucket": "training", "prefix": "train/", "root": str(tmp_path / "one")}
    first = run_dag("one_worker", conf)
    assert first.states() == {"list": ["success"], "stage": ["success"], "measure": ["success"]}
    assert tree(tmp_path / "one/files") == OBJECTS
    assert first.xcom("measure") == {"files": {".bin": 120}, "bytes": {".bin": len(ALL_BYTES)}}
    bucket.delete("training", "train/000.bin")
    bucket.put("training", "train/new.bin", b"new")
    second = run_dag("one_worker", conf)
    assert {key: second.xcom("stage")[key] for key in ("downloaded", "reused", "deleted")} == {
        "downloaded": 1,
        "reused": 119,
        "deleted": 1,
    }
    assert second.xcom("measure")["files"] == {".bin": 120}


@pytest.mark.parametrize("dag_id", ["pinned_to_a_queue", "stage_and_train"])
def test_a_training_reads_exactly_the_staged_bytes(bucket, tmp_path: Path, dag_id: str) -> None:
    directory = {"pinned_to_a_queue": "destination", "stage_and_train": "scratch"}[dag_id]
    conf = {"bucket": "training", "manifest_uri": "gs://manifests/m", directory: str(tmp_path / "staged")}
    run = run_dag(dag_id, conf)
    assert run.state == "success"
    assert tree(tmp_path / "staged") == OBJECTS
    result = run.xcom({"pinned_to_a_queue": "train"}.get(dag_id, dag_id))
    assert (result["files"], result["bytes"]) == (120, len(ALL_BYTES))
    assert (result["mean"], result["deviation"]) == pytest.approx((MEAN, DEVIATION))


def test_staging_and_training_name_one_queue_and_the_listing_none() -> None:
    dag = dag_bag().get_dag("pinned_to_a_queue")
    queues = {task.task_id: task.queue for task in dag.tasks}
    assert queues["stage"] == queues["train"] == "gpu-1"
    assert queues["list"] != "gpu-1"


def test_a_training_elsewhere_than_the_files_says_so(tmp_path: Path) -> None:
    train = dag_bag().get_dag("pinned_to_a_queue").get_task("train").python_callable
    with pytest.raises(RuntimeError, match="The files are on another-machine"):
        train({"hostname": "another-machine", "destination": str(tmp_path), "object_count": 0})


@pytest.mark.parametrize("dag_id", ["pinned_to_a_queue", "stage_and_train"])
def test_a_training_without_data_fails_before_it_begins(bucket, airflow_log, dag_id: str) -> None:
    run = run_dag(dag_id, {"bucket": "manifests", "manifest_uri": "gs://manifests/m"})
    assert 'on_empty is "fail"' in failure(run, "list", airflow_log)
