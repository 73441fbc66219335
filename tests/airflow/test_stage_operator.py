"""ComposeDownloadOperator, the sweeper and the hook in `dag.test()` runs against the embedded server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from dag_runs import AIRFLOW_3, failure, run_dag

from airflow_dataflux import ComposeDownloadOperator
from airflow_dataflux.core.config import RunIdentity
from airflow_dataflux.core.gcs.store import ObjectVersion
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.staging.composites import CompositeNames
from airflow_dataflux.hooks.dataflux import DatafluxHook
from airflow_dataflux.operators.shard_labels import shard_label

pytestmark = pytest.mark.usefixtures("airflow_database")

OBJECTS = {f"train/{n:03}.txt": bytes([65 + n % 26]) * (100 + n) for n in range(60)}


@pytest.fixture
def bucket(gcs_server):
    gcs_server.create_bucket("data")
    gcs_server.put_many("data", OBJECTS)
    return gcs_server


@pytest.fixture
def manifest(bucket, tmp_path: Path) -> dict:
    conf = {"bucket": "data", "manifest_uri": (tmp_path / "manifest").as_uri()}
    return run_dag("list_only", conf).xcom("list")


def tree(destination: Path) -> dict[str, bytes]:
    """Return every staged file with its bytes; receipts are not staged."""
    files = (path for path in destination.rglob("*") if path.is_file())
    named = {path.relative_to(destination).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in named.items() if not name.startswith(".dataflux/")}


@pytest.mark.parametrize("strategy", ["auto", "compose", "direct"])
def test_every_strategy_stages_the_same_bytes_and_leaves_nothing_in_the_bucket(
    bucket, manifest: dict, tmp_path: Path, strategy: str
) -> None:
    destination = tmp_path / "staged"
    run = run_dag("stage_only", {"manifest": manifest, "destination": str(destination), "strategy": strategy})
    assert run.state == "success"
    assert tree(destination) == OBJECTS
    summary = run.xcom("stage")
    assert summary["format"] == "dataflux-receipt/1"
    assert (summary["downloaded"], summary["reused"], summary["leftovers"]) == (60, 0, [])
    assert (summary["composites"] > 0) == (strategy == "compose") or strategy == "auto"
    assert len(json.dumps(summary)) < 4096
    assert bucket.names("data") == sorted(OBJECTS)


def test_a_second_run_fetches_only_what_is_missing(bucket, manifest: dict, tmp_path: Path) -> None:
    destination = tmp_path / "staged"
    conf = {"manifest": manifest, "destination": str(destination)}
    run_dag("stage_only", conf)
    again = run_dag("stage_only", conf).xcom("stage")
    assert (again["downloaded"], again["reused"]) == (0, 60)
    os.unlink(destination / "train/030.txt")
    repaired = run_dag("stage_only", conf).xcom("stage")
    assert (repaired["downloaded"], repaired["reused"]) == (1, 59)
    assert tree(destination) == OBJECTS


@pytest.mark.parametrize("form", [str, json.dumps, dict, lambda reference: reference["uri"]])
def test_a_manifest_may_be_a_reference_its_rendered_text_or_a_uri(bucket, manifest, tmp_path: Path, form) -> None:
    run = run_dag("stage_only", {"manifest": form(manifest), "destination": str(tmp_path / "staged")})
    assert run.state == "success"
    assert tree(tmp_path / "staged") == OBJECTS


def test_an_inline_manifest_goes_from_task_to_task_through_xcom(bucket, tmp_path: Path) -> None:
    odd = {"{{ dag.dag_id }}/{{ 1/0 }}.txt": b"not a template", "ключ/鍵 'quoted' \"twice\".txt": b"unicode"}
    bucket.put_many("data", odd)
    run = run_dag("list_then_stage", {"bucket": "data", "destination": str(tmp_path / "staged")})
    assert run.states() == {"list": ["success"], "stage": ["success"]}
    assert tree(tmp_path / "staged") == OBJECTS | odd


def place_of(path: Path) -> str:
    """Return how a link names a file at the destination: 3.x is told the path as it is."""
    return str(path) if AIRFLOW_3 else path.as_uri()


def test_mapped_shards_fill_one_directory_together(bucket, tmp_path: Path) -> None:
    conf = {
        "bucket": "data",
        "manifest_uri": (tmp_path / "manifest").as_uri(),
        "shards": 4,
        "destination": str(tmp_path / "staged"),
    }
    run = run_dag("shards_then_stage", conf)
    assert run.states() == {"list": ["success"], "stage": ["success"] * 4}
    assert tree(tmp_path / "staged") == OBJECTS
    summaries = [run.xcom("stage", map_index=index) for index in range(4)]
    assert sum(summary["downloaded"] for summary in summaries) == 60
    label = run.task("stage", 1).rendered_map_index
    assert label.startswith("shard 2 of 4: ")
    assert label.endswith("KiB")
    shards = run.xcom("list")
    for shard in shards:  # what Airflow shows before the task has done anything is what it shows at its end
        assert ComposeDownloadOperator(task_id="x", manifest=shard, destination="/x").shard_label == shard_label(
            Manifest.from_reference(shard)
        )
    for index in range(4):
        path = tmp_path / "staged" / ".dataflux" / f"receipt-{index:05}-of-00004.json"
        address = run.xcom("stage", "_link_ReceiptLink", map_index=index)
        assert address == run.file_link("receipt", place_of(path), "stage", index)
        assert json.loads(path.read_bytes())["object_count"] == summaries[index]["object_count"]


@pytest.mark.parametrize("manifest", ["gs://x/y", None, 7, {}, {"shard": 7}, {"shard": {"index": "x"}}], ids=repr)
def test_a_manifest_that_says_nothing_has_no_label(manifest) -> None:
    assert ComposeDownloadOperator(task_id="x", manifest=manifest, destination="/x").shard_label == ""


def test_an_empty_listing_skips_what_is_mapped_over_it(bucket, tmp_path: Path) -> None:
    bucket.create_bucket("empty")
    run = run_dag("shards_then_stage", {"bucket": "empty", "shards": 4, "destination": str(tmp_path / "staged")})
    assert run.states() == {"list": ["success"], "stage": ["skipped"]}


def test_the_links_lead_to_the_bucket_the_manifest_and_the_receipt(bucket, manifest: dict, tmp_path: Path) -> None:
    destination = tmp_path / "a place"
    run = run_dag("stage_only", {"manifest": manifest, "destination": str(destination)})
    assert run.xcom("stage", "_link_BucketLink") == (
        "https://console.cloud.google.com/storage/browser/data;tab=objects"
    )
    assert run.xcom("stage", "_link_ManifestLink") == run.file_link(
        "manifest", f"{manifest['uri']}/manifest.json", "stage"
    )
    receipt = place_of(destination / ".dataflux/receipt.json")
    assert run.xcom("stage", "_link_ReceiptLink") == run.file_link("receipt", receipt, "stage")
    assert (destination / ".dataflux/receipt.json").is_file()


def test_the_report_is_linked_and_described_in_xcom(bucket, manifest: dict, tmp_path: Path) -> None:
    destination = tmp_path / "staged"
    run = run_dag("stage_only", {"manifest": manifest, "destination": str(destination)})
    summary, report = run.xcom("stage"), run.xcom("stage", "dataflux_report")
    (page,) = (destination / ".dataflux/reports").iterdir()
    assert run.run.run_id.partition("T")[0] in page.name
    assert report == {
        "kind": "staging",
        "uri": page.as_uri(),
        "title": f"gs://data to {destination}",
        "object_count": summary["object_count"],
        "total_bytes": summary["total_bytes"],
        "seconds": summary["seconds"],
        "finished_at": report["finished_at"],
    }
    assert run.xcom("stage", "_link_ReportLink") == run.file_link("report", report["uri"], "stage")
    assert summary["fingerprint"] in page.read_text(encoding="utf-8")
    # Nothing to do: this run has a report of its own, too, and that of the first stays.
    again = run_dag("stage_only", {"manifest": manifest, "destination": str(destination)})
    assert again.xcom("stage", "dataflux_report")["uri"] != report["uri"]
    assert len(list((destination / ".dataflux/reports").iterdir())) == 2


def test_no_report_of_a_staging_is_written_where_none_is_wanted(bucket, manifest: dict, tmp_path: Path) -> None:
    destination = tmp_path / "staged"
    run = run_dag("stage_only", {"manifest": manifest, "destination": str(destination), "report": "False"})
    assert run.xcom("stage", "dataflux_report") is None
    assert not (destination / ".dataflux/reports").exists()


def test_a_dry_run_moves_nothing_and_estimates(bucket, manifest: dict, tmp_path: Path) -> None:
    bucket.forget_requests()
    run = run_dag("stage_only", {"manifest": manifest, "destination": str(tmp_path / "staged"), "dry_run": "True"})
    summary = run.xcom("stage")
    assert (summary["dry_run"], summary["object_count"]) == (True, 60)
    assert summary["estimated_usd"] > 0
    assert not (tmp_path / "staged").exists()
    assert "read" not in bucket.requests().operations


def test_the_hook_stages_inside_a_task(bucket, tmp_path: Path) -> None:
    run = run_dag("hook_in_a_task", {"bucket": "data", "destination": str(tmp_path / "staged")})
    assert run.xcom("count_bytes") == {"files": 60, "bytes": sum(map(len, OBJECTS.values()))}


def test_composites_carry_the_names_of_the_run(bucket, manifest: dict, tmp_path: Path) -> None:
    conf = {"manifest": manifest, "destination": str(tmp_path / "staged"), "strategy": "compose"}
    run_dag("stage_only", conf)
    composed = [record.name for record in bucket.log("compose")]
    assert composed
    assert all(name.startswith("dataflux-composed-objects/") and "stage_only" in name for name in composed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "fastest"}, "strategy must be one of 'auto', 'compose', 'direct', got 'fastest'"),
        ({"destination": "relative/path"}, "destination must be an absolute local directory"),
        ({"destination": ""}, "destination is empty"),
        ({"manifest": ""}, "manifest is empty"),
        ({"manifest": "relative/path"}, "relative path"),
        ({"manifest": "file:///nowhere/at/all"}, "ManifestNotFoundError"),
        ({"workers": "0"}, "workers must be 1 or more"),
        ({"dry_run": "maybe"}, "dry_run must be true or false"),
        ({"strip_prefix": "test/"}, "does not begin with strip_prefix"),
    ],
)
def test_what_cannot_succeed_fails_on_the_first_try_before_data_moves(
    bucket, manifest: dict, tmp_path: Path, airflow_log, change: dict, message: str
) -> None:
    bucket.forget_requests()
    conf = {"manifest": manifest, "destination": str(tmp_path / "staged"), **change}
    assert message in failure(run_dag("stage_only", conf), "stage", airflow_log)
    assert not {"read", "compose"} & bucket.requests().operations.keys()


def test_a_destination_that_is_a_file_fails_on_the_first_try(bucket, manifest, tmp_path: Path, airflow_log) -> None:
    (tmp_path / "file").write_text("in the way")
    bucket.forget_requests()
    run = run_dag("stage_only", {"manifest": manifest, "destination": str(tmp_path / "file" / "below")})
    assert "DestinationError" in failure(run, "stage", airflow_log)
    assert not {"read", "compose"} & bucket.requests().operations.keys()


def test_a_manifest_that_changed_since_its_reference_fails_on_the_first_try(
    bucket, manifest: dict, tmp_path: Path, airflow_log
) -> None:
    bucket.put("data", "train/new.txt", b"new")
    run_dag("list_only", {"bucket": "data", "manifest_uri": manifest["uri"]})
    run = run_dag("stage_only", {"manifest": manifest, "destination": str(tmp_path / "staged")})
    assert "ManifestChangedError" in failure(run, "stage", airflow_log)


def test_objects_that_changed_since_the_listing_fail_the_first_try_by_name(
    bucket, manifest: dict, tmp_path: Path, airflow_log
) -> None:
    bucket.put("data", "train/030.txt", b"overwritten")
    run = run_dag("stage_only", {"manifest": manifest, "destination": str(tmp_path / "staged")})
    assert "train/030.txt" in failure(run, "stage", airflow_log)


def run_out_of_time(dag_id: str, conf: dict, log) -> None:
    """Run a DAG whose task runs into its time-out, which is no Exception in 2.11 and ends `dag.test()` itself there."""
    if AIRFLOW_3:
        assert run_dag(dag_id, conf).state == "failed"
    else:
        from airflow.exceptions import AirflowTaskTimeout

        with pytest.raises(AirflowTaskTimeout):
            run_dag(dag_id, conf)
    assert any("Timeout" in line for line in log())


def test_a_listing_ends_at_its_time_out_and_leaves_nothing(bucket, tmp_path: Path, airflow_log) -> None:
    bucket.create_bucket("large")
    bucket.synthesize("large", count=100_000)
    bucket.configure(latency_s={"list": 1.0})
    conf = {"bucket": "large", "manifest_uri": (tmp_path / "large").as_uri()}
    run_out_of_time("list_within_seconds", conf, airflow_log)
    assert bucket.log("list"), "the listing was under way"
    assert not (tmp_path / "large/manifest.json").exists()
    assert list((tmp_path / "large").glob("*.parquet")) == []


def test_a_staging_ends_at_its_time_out_and_leaves_nothing(bucket, manifest: dict, tmp_path: Path, airflow_log) -> None:
    bucket.configure(latency_s={"read": 60})  # composites are there, and nobody gets to read them
    run_out_of_time(
        "stage_within_seconds", {"manifest": manifest, "destination": str(tmp_path / "staged")}, airflow_log
    )
    assert bucket.log("compose"), "the staging was under way"
    assert bucket.names("data") == sorted(OBJECTS)


def test_a_sweep_deletes_leftovers_only_and_a_dry_run_deletes_nothing(bucket) -> None:
    names = CompositeNames(composite_prefix="dataflux-composed-objects/", identity=RunIdentity(dag="killed"))
    store = DatafluxHook().get_conn()
    version = bucket.find("data", "train/000.txt")
    store.compose(
        "data",
        names.name(0, 0),
        [ObjectVersion(name="train/000.txt", generation=version.generation)],
        metadata=names.metadata,
        storage_class="STANDARD",
    )
    store.close()
    bucket.put("data", "dataflux-composed-objects/a-users-own.bin", b"keep me")
    assert len(bucket.names("data")) == 62
    young = run_dag("sweep_only", {"bucket": "data"}).xcom("sweep")
    assert (young["found"], young["deleted"]) == (0, 0)
    planned = run_dag("sweep_only", {"bucket": "data", "older_than": "0", "dry_run": True}).xcom("sweep")
    assert (planned["found"], planned["deleted"]) == (1, 0)
    swept = run_dag("sweep_only", {"bucket": "data", "older_than": "0"}).xcom("sweep")
    assert swept == {"bucket": "data", "found": 1, "deleted": 1, "failures": []}
    assert bucket.names("data") == ["dataflux-composed-objects/a-users-own.bin", *sorted(OBJECTS)]


def test_a_sweeper_prints_a_lifecycle_rule_instead_and_asks_the_bucket_nothing(bucket, airflow_log) -> None:
    before = bucket.requests().operations
    run = run_dag("sweep_only", {"bucket": "data", "older_than": "90000", "print_lifecycle_rule": True})
    condition = {"age": 2, "matchesPrefix": ["dataflux-composed-objects/"]}
    rule = {"action": {"type": "Delete"}, "condition": condition}
    assert run.xcom("sweep") == {"bucket": "data", "rule": rule}
    assert bucket.requests().operations == before
