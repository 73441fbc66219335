"""Packing in Airflow: the example DAG, what the tasks return, and what a second run does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import webdataset
from dag_runs import failure, run_dag

from airflow_dataflux import ComposePackOperator, DatafluxHook

pytestmark = pytest.mark.usefixtures("airflow_database")

OBJECTS = {f"train/{n:03}.{kind}": bytes([n]) * (200 + n) for n in range(90) for kind in ("jpg", "cls")}


@pytest.fixture
def bucket(gcs_server):
    gcs_server.create_bucket("training")
    gcs_server.put_many("training", OBJECTS)
    gcs_server.create_bucket("packs")
    gcs_server.create_bucket("manifests")
    return gcs_server


def conf(output: str, **more: object) -> dict[str, object]:
    return {
        "bucket": "training",
        "prefix": "train/",
        "manifest_uri": "gs://manifests/training",
        "output": output,
        "shard_bytes": 20_480,
        "tasks": 3,
        **more,
    }


def downloaded(prefix: str, directory: Path) -> Path:
    """Stage a pack from its bucket, as a training would that does not stream it."""
    hook = DatafluxHook()
    hook.stage(hook.fast_list("packs", prefix), str(directory), strip_prefix=prefix)
    return directory


def samples(directory: Path) -> list[dict[str, bytes]]:
    index = json.loads((directory / "index.json").read_text())
    urls = [str(directory / shard["url"]) for shard in index["shardlist"]]
    return list(webdataset.WebDataset(urls, shardshuffle=False))


def test_the_example_packs_to_a_bucket_what_webdataset_reads(bucket, tmp_path: Path) -> None:
    run = run_dag("pack_training_data", conf("gs://packs/training/"))
    assert run.state == "success"
    assert run.states()["pack"] == ["success"] * 3
    for shard, label in zip(
        run.xcom("list"), (run.task("pack", index).rendered_map_index for index in range(3)), strict=True
    ):
        # Known before the task has done anything, so that Airflow shows it while the task runs.
        assert label == ComposePackOperator(task_id="x", manifest=shard, output="/x").shard_label
        assert label.startswith(f"shard {shard['shard']['index'] + 1} of 3: ")
    joined = run.xcom("join")
    assert joined["format"] == "dataflux-pack/1"
    assert (joined["sample_count"], joined["object_count"]) == (90, 180)
    assert joined["total_bytes"] == sum(map(len, OBJECTS.values()))
    assert joined["packed_shards"] == joined["shard_count"] > 3
    assert joined["index"] == "gs://packs/training/index.json"
    parts = [run.xcom("pack", map_index=index) for index in range(3)]
    assert sum(part["packed_objects"] for part in parts) == joined["packed_objects"] == 180
    assert (joined["source"]["bucket"], joined["source"]["prefixes"]) == ("training", ["train/"])
    found = samples(downloaded("training/", tmp_path / "pack"))
    assert [one["__key__"] for one in found] == [f"train/{n:03}" for n in range(90)]
    assert {f"{one['__key__']}.{kind}": one[kind] for one in found for kind in ("jpg", "cls")} == OBJECTS


def test_a_second_run_writes_nothing_and_a_changed_bucket_a_new_pack(bucket, tmp_path: Path) -> None:
    output = str(tmp_path / "pack")
    first = run_dag("pack_training_data", conf(output)).xcom("join")
    again = run_dag("pack_training_data", conf(output)).xcom("join")
    assert (again["packed_shards"], again["reused_shards"]) == (0, first["shard_count"])
    assert again["fingerprint"] == first["fingerprint"]
    bucket.put("training", "train/089.jpg", b"new")
    changed = run_dag("pack_training_data", conf(output)).xcom("join")
    assert changed["packed_shards"] == 1
    assert samples(tmp_path / "pack")[-1]["jpg"] == b"new"


def test_the_link_report_leads_to_the_page_beside_the_index(bucket, tmp_path: Path) -> None:
    listed = run_dag("list_only", {"bucket": "training", "prefix": "train/"}).xcom("list")
    run = run_dag("pack_only", {"manifest": listed, "output": str(tmp_path / "pack")})
    (page,) = (tmp_path / "pack/reports").iterdir()
    assert b"<title>" in page.read_bytes()
    assert run.xcom("pack", "_link_ReportLink") == run.file_link("report", page.as_uri(), "pack")
    told = run.xcom("pack", "dataflux_report")
    assert (told["kind"], told["object_count"]) == ("packing", 180)
    assert (tmp_path / "pack/index.json").exists()


def test_the_report_of_a_join_is_of_the_whole_pack_and_can_be_left_out(bucket, tmp_path: Path) -> None:
    run = run_dag("pack_training_data", conf(str(tmp_path / "pack")))
    reports = tmp_path / "pack/reports"
    (whole,) = [path for path in reports.iterdir() if "-of-" not in path.name]
    assert len(list(reports.iterdir())) == 4
    assert run.xcom("join", "_link_ReportLink") == run.file_link("report", whole.as_uri(), "join")
    told = run.xcom("join", "dataflux_report")
    assert (told["kind"], told["object_count"]) == ("packing", 180)
    assert told["title"] == f"gs://training/train/ to {(tmp_path / 'pack').as_uri()}/"
    parts = [run.xcom("pack", map_index=index) for index in range(3)]
    run_dag("join_packs_only", {"packs": parts, "report": False})
    assert len(list(reports.iterdir())) == 4


def test_a_seed_that_renders_to_a_number_shuffles(bucket, tmp_path: Path) -> None:
    run_dag("pack_training_data", conf(str(tmp_path / "pack"), shuffle_seed=3))
    keys = [one["__key__"] for one in samples(tmp_path / "pack")]
    assert keys != sorted(keys)
    assert len(set(keys)) == 90


def test_a_bucket_without_the_data_fails_before_anything_is_packed(bucket, tmp_path: Path, airflow_log) -> None:
    run = run_dag("pack_training_data", conf(str(tmp_path / "pack"), prefix="nothing/"))
    assert 'on_empty is "fail"' in failure(run, "list", airflow_log)
    assert not (tmp_path / "pack").exists()
