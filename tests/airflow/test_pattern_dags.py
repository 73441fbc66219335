"""The example DAGs of the patterns, on either of Airflow's lines; `stage_training_data` has a module of its own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dag_runs import EXAMPLE_FILES, dag_bag, failure, run_dag

from airflow_dataflux import Manifest

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


def test_splits_are_staged_and_a_bucket_that_grows_moves_nothing(bucket, tmp_path: Path) -> None:
    bucket.put_many("training", {name.replace(".bin", ".json"): b"{}" for name in OBJECTS})
    bucket.put("training", "train/half.tmp", b"unfinished")
    conf = {"bucket": "training", "prefix": "train/", "root": str(tmp_path), "validation": 0.25}

    def staged() -> tuple[set[str], set[str]]:
        run = run_dag("select_and_split", conf)
        assert run.state == "success"
        assert list(run.xcom("select")) == ["train", "val"]
        return tuple({path.name for path in (tmp_path / split / "train").iterdir()} for split in ("train", "val"))

    train, val = staged()
    assert train | val == {Path(name).with_suffix(kind).name for name in OBJECTS for kind in (".bin", ".json")}
    for split, other in ((train, val), (val, train)):
        assert len(split) > 20
        assert not {Path(name).stem for name in split} & {Path(name).stem for name in other}
    bucket.put_many("training", {f"train/more{n:03}.bin": b"x" for n in range(40)})
    more_train, more_val = staged()
    assert train < more_train
    assert val < more_val


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


def test_a_day_stages_what_changed_on_it_and_an_empty_day_is_skipped(gcs_server, tmp_path: Path) -> None:
    gcs_server.create_bucket("history")  # synthetic objects were changed every 7,919 s from 2024-01-01 on
    gcs_server.synthesize("history", count=60, size=500)
    conf = {
        "bucket": "history",
        "destination_root": str(tmp_path / "days"),
        "manifest_root": (tmp_path / "manifests").as_uri(),
    }
    listed = run_dag("list_only", {"bucket": "history"}).xcom("list")
    expected = {row.name for row in Manifest.from_reference(listed) if row.updated.day == 2}
    run = run_dag("daily_increment", conf, datetime(2024, 1, 3, 1, tzinfo=UTC))
    assert run.states() == {"list": ["success"], "stage": ["success"]}
    staged = {path.relative_to(tmp_path / "days/2024-01-02").as_posix() for path in (tmp_path / "days").rglob("*.jpg")}
    assert staged == expected != set()
    empty = run_dag("daily_increment", conf, datetime(2025, 1, 3, 1, tzinfo=UTC))
    assert empty.states() == {"list": ["skipped"], "stage": ["skipped"]}


# Names that are templates to Jinja and markup to JSON: a boundary is passed from task to task as it is.
ODD = [*(f"{{{{ 1/0 }}}}/{n:05}" for n in range(4000)), *(f"\"'\\{{% raw %}}/{n:05}" for n in range(4000))]


def test_a_listing_mapped_over_name_ranges_is_the_listing(gcs_server, tmp_path: Path) -> None:
    gcs_server.create_bucket("large")
    gcs_server.synthesize("large", count=4_000)
    gcs_server.put_many("large", dict.fromkeys(ODD, b"odd"))
    conf = {"bucket": "large", "manifest_root": (tmp_path / "manifests").as_uri(), "ranges": 3}
    run = run_dag("list_by_ranges", conf)
    ranges = run.xcom("divide")
    assert 2 <= len(ranges) <= 3
    assert run.states() == {"divide": ["success"], "join": ["success"], "list": ["success"] * len(ranges)}
    assert [one["end"] for one in ranges[:-1]] == [other["start"] for other in ranges[1:]]
    labels = [run.task("list", index).rendered_map_index for index in range(len(ranges))]
    assert labels[0] == "from the first name"
    assert labels[1:] == [f"from {names['start'][:80]}" for names in ranges[1:]]

    reference = run.xcom("join")
    whole = run_dag("list_only", {"bucket": "large", "manifest_uri": (tmp_path / "whole").as_uri()}).xcom("list")
    assert reference["object_count"] == whole["object_count"] == 12_000
    assert reference["fingerprint"] == whole["fingerprint"]
    assert [row.name for row in Manifest.from_reference(reference)] == gcs_server.names("large")
    index = f"{reference['uri']}/manifest.json"
    assert run.xcom("join", "_link_ManifestLink") == run.file_link("manifest", index, "join")

    seeded = run_dag("list_by_ranges", {**conf, "seed_manifest": reference["uri"], "ranges": 5})
    starts = [names["start"] for names in seeded.xcom("divide")]
    assert (starts[1][:9], starts[-1][:9]) == (ODD[-1][:9], ODD[0][:9]), "boundaries look like templates"
    assert seeded.xcom("join")["fingerprint"] == whole["fingerprint"]
    sizes = [seeded.xcom("list", map_index=index)["object_count"] for index in range(5)]
    # A boundary is right to about 500 rows (Manifest.boundary_names), and two ranges have four of them.
    assert max(sizes) - min(sizes) <= 2000, "an earlier manifest divides evenly"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda references: references[:-1], "is missing: none of the manifests covers it"),
        (lambda references: [*references, references[0]], "were listed twice"),
        (lambda references: [*references[:-1], None], "1 of 3 manifests are absent"),
        (lambda references: references[0], "must be a list of manifest references"),
    ],
    ids=["missing", "doubled", "absent", "one"],
)
def test_ranges_that_are_not_the_whole_are_not_joined(bucket, tmp_path: Path, airflow_log, change, message) -> None:
    points = ["train/040.bin", "train/080.bin"]
    ranges = [{"start": a, "end": b} for a, b in zip(["", *points], [*points, None], strict=True)]
    references = [
        run_dag("list_only", {"bucket": "training", "name_range": form(names)}).xcom("list")
        for names, form in zip(ranges, [json.dumps, str, dict], strict=True)
    ]
    assert [reference["object_count"] for reference in references] == [40, 40, 40]
    joined = run_dag("join_only", {"manifests": references, "manifest_uri": (tmp_path / "m").as_uri(), "shards": 4})
    assert joined.xcom("join", "manifest")["object_count"] == 120
    assert len(joined.xcom("join")) == 4
    run = run_dag("join_only", {"manifests": change(references), "manifest_uri": (tmp_path / "n").as_uri()})
    assert message in failure(run, "join", airflow_log)
    assert not (tmp_path / "n").exists()


@pytest.fixture
def alone() -> Iterator[None]:
    """Wait for the other suite, on Airflow 2.11 or 3.3, which may be writing to the same directories now."""
    with open(Path(tempfile.gettempdir(), f"airflow-dataflux-playground-{os.getuid()}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "dag_id",
    ["list_by_ranges", "one_worker", "pack_training_data", "pinned_to_a_queue", "select_and_split", "stage_and_train"],
)
def test_in_the_playground_every_form_runs_as_it_stands(gcs_server, monkeypatch, dag_id: str) -> None:
    """`make ui`: the buckets that the forms name are there, and have data."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "demo"))
    from playground import EXAMPLES, fill_examples

    fill_examples(gcs_server)
    assert set(EXAMPLES) == set(EXAMPLE_FILES)
    directory = Path("/var/tmp", dag_id.replace("_", "-"))  # what the forms say
    was_there = directory.exists()
    try:
        run = run_dag(dag_id)
        assert run.state == "success", run.states()
        assert {state for states in run.states().values() for state in states} == {"success"}
    finally:
        if not was_there:
            shutil.rmtree(directory, ignore_errors=True)
