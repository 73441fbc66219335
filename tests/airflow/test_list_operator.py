"""FastListOperator in `dag.test()` runs against the embedded server."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from dag_runs import AIRFLOW_3, failure, run_dag

from airflow_dataflux.core.manifest import Manifest

pytestmark = pytest.mark.usefixtures("airflow_database")


@pytest.fixture
def bucket(gcs_server):
    gcs_server.create_bucket("data")
    gcs_server.put_many("data", {f"train/{n:03}.txt": b"x" * n for n in range(40)} | {"other/1.bin": b"12345"})
    gcs_server.put("data", "train/", b"")
    return gcs_server


def test_a_listing_returns_the_reference_of_all_objects(bucket, tmp_path: Path) -> None:
    uri = (tmp_path / "manifest").as_uri()
    run = run_dag("list_only", {"bucket": "data", "prefix": "train/", "manifest_uri": uri})
    assert run.state == "success"
    reference = run.xcom("list")
    assert (reference["uri"], reference["object_count"], reference["total_bytes"]) == (uri, 40, sum(range(40)))
    assert len(json.dumps(reference)) < 4096
    names = [row.name for row in Manifest.from_reference(reference).rows()]
    assert names == [name for name in bucket.names("data", "train/") if name != "train/"]


def test_every_filter_reaches_the_listing_through_its_template(bucket) -> None:
    bucket.put("data", "train/cold.txt", b"x" * 5, storage_class="NEARLINE")
    conf = {"bucket": "data", "match_glob": "train/**.txt", "min_bytes": "3", "max_bytes": "5"}
    assert run_dag("list_only", conf).xcom("list")["object_count"] == 4
    assert run_dag("list_only", {**conf, "storage_classes": "standard"}).xcom("list")["object_count"] == 3
    assert run_dag("list_only", {**conf, "updated_before": "2020-01-01"}).xcom("list")["object_count"] == 0
    assert run_dag("list_only", {**conf, "updated_after": "2020-01-01T00:00:00Z"}).xcom("list")["object_count"] == 4
    everything = {"bucket": "data", "prefix": "train/", "include_placeholders": "True"}
    assert run_dag("list_only", everything).xcom("list")["object_count"] == 42


def test_shards_are_returned_and_the_whole_reference_is_beside_them(bucket, tmp_path: Path) -> None:
    uri = (tmp_path / "manifest").as_uri()
    run = run_dag("list_only", {"bucket": "data", "manifest_uri": uri, "shards": "3"})
    shards, whole = run.xcom("list"), run.xcom("list", "manifest")
    assert [one["shard"]["index"] for one in shards] == [0, 1, 2]
    assert sum(one["shard"]["object_count"] for one in shards) == whole["object_count"] == 41
    rows = [row.name for one in shards for row in Manifest.from_reference(one).rows()]
    assert rows == [row.name for row in Manifest.from_reference(whole).rows()]


def test_shard_bytes_decides_how_many_shards_there_are(bucket, tmp_path: Path) -> None:
    uri = (tmp_path / "manifest").as_uri()
    run = run_dag("list_only", {"bucket": "data", "manifest_uri": uri, "shard_bytes": "200"})
    assert len(run.xcom("list")) == 4  # 785 bytes


@pytest.mark.parametrize(("on_empty", "state"), [("continue", "success"), ("skip", "skipped"), ("fail", "failed")])
def test_on_empty_decides_what_an_empty_listing_means(bucket, on_empty: str, state: str) -> None:
    run = run_dag("list_only", {"bucket": "data", "prefix": "nothing/", "on_empty": on_empty})
    assert (str(run.task("list").state), run.task("list").try_number) == (state, 1)


def test_an_empty_listing_gives_no_shards(bucket) -> None:
    run = run_dag("list_only", {"bucket": "data", "prefix": "nothing/", "shards": 4})
    assert run.xcom("list") == []
    assert run.xcom("list", "manifest")["object_count"] == 0


def test_an_unchanged_bucket_skips_the_task_only_when_asked(bucket, tmp_path: Path) -> None:
    uri = (tmp_path / "manifest").as_uri()
    conf = {"bucket": "data", "manifest_uri": uri, "seed_manifest": uri, "on_unchanged": "skip"}
    first = run_dag("list_only", conf)
    assert first.state == "success"  # there is no earlier manifest yet
    assert str(run_dag("list_only", conf).task("list").state) == "skipped"
    as_reference = {**conf, "seed_manifest": first.xcom("list")}
    assert str(run_dag("list_only", as_reference).task("list").state) == "skipped"
    assert str(run_dag("list_only", {**conf, "on_unchanged": "continue"}).task("list").state) == "success"
    bucket.put("data", "train/007.txt", b"new content")
    assert str(run_dag("list_only", conf).task("list").state) == "success"
    assert str(run_dag("list_only", conf).task("list").state) == "skipped"


def test_the_links_lead_to_the_bucket_and_to_the_manifest(bucket, tmp_path: Path) -> None:
    uri = (tmp_path / "manifest").as_uri()
    run = run_dag("list_only", {"bucket": "data", "prefix": "train/0", "manifest_uri": uri})
    address = "https://console.cloud.google.com/storage/browser/data/train;tab=objects?prefix=0"
    assert run.xcom("list", "_link_BucketLink") == address
    assert run.xcom("list", "_link_ManifestLink") == run.file_link("manifest", f"{uri}/manifest.json", "list")


def test_a_manifest_in_a_bucket_is_linked_to_the_console(bucket) -> None:
    run = run_dag("list_only", {"bucket": "data", "manifest_uri": "gs://data/manifests/today"})
    address = "https://console.cloud.google.com/storage/browser/_details/data/manifests/today/manifest.json"
    assert run.xcom("list", "_link_ManifestLink") == address
    assert run.xcom("list", "dataflux_manifest") is None
    page = run.file_link("report", "gs://data/manifests/today/report.html", "list")
    in_console = address.replace("manifest.json", "report.html")
    assert run.xcom("list", "_link_ReportLink") == (page if AIRFLOW_3 else in_console)


def test_the_report_is_linked_and_described_in_xcom(bucket, tmp_path: Path) -> None:
    uri = (tmp_path / "manifest").as_uri()
    run = run_dag("list_only", {"bucket": "data", "prefix": "train/", "manifest_uri": uri})
    reference, report = run.xcom("list"), run.xcom("list", "dataflux_report")
    assert report == {
        "kind": "listing",
        "uri": f"{uri}/report.html",
        "title": "gs://data/train/",
        "object_count": 40,
        "total_bytes": reference["total_bytes"],
        "seconds": reference["stats"]["wall_s"],
        "finished_at": report["finished_at"],
    }
    assert run.xcom("list", "_link_ReportLink") == run.file_link("report", report["uri"], "list")
    assert reference["fingerprint"] in (tmp_path / "manifest" / "report.html").read_text(encoding="utf-8")


def test_no_report_is_written_where_none_is_wanted_or_there_is_no_place(bucket, tmp_path: Path) -> None:
    uri = (tmp_path / "manifest").as_uri()
    for conf in ({"manifest_uri": uri, "report": "False"}, {}):
        run = run_dag("list_only", {"bucket": "data", **conf})
        assert run.state == "success"
        assert run.xcom("list", "dataflux_report") is None
    assert not (tmp_path / "manifest" / "report.html").exists()


def test_the_log_ends_with_what_was_found(bucket, airflow_log) -> None:
    run_dag("list_only", {"bucket": "data"})
    assert any("41 objects, 785 bytes in the manifest in XCom (changed)" in line for line in airflow_log())


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"bucket": "missing"}, "BucketNotFoundError"),
        ({"bucket": "gs://data/x"}, "is not a bucket name"),
        ({"bucket": "data", "manifest_uri": "relative/path"}, "relative path"),
        ({"bucket": "data", "manifest_uri": "gs:/data/x"}, "lacks the //"),
        ({"bucket": "data", "shards": 2, "shard_bytes": 5}, "shards=2 and shard_bytes=5 were both given"),
        ({"bucket": "data", "shards": 1025}, "max_map_length"),
        ({"bucket": "data", "shards": "many"}, "shards must be a whole number"),
        ({"bucket": "data", "on_unchanged": "stop"}, "on_unchanged must be one of 'continue', 'skip', got 'stop'"),
        ({"bucket": "data", "on_empty": "stop"}, "on_empty must be one of"),
        ({"bucket": "data", "updated_after": "2026-01-01T00:00:00"}, "updated_after needs a time zone"),
        ({"bucket": "data", "min_bytes": 5, "max_bytes": 4}, "min_bytes 5 is more than max_bytes 4"),
        ({"bucket": "data", "streams": "0"}, "streams must be 1 or more"),
    ],
)
def test_what_cannot_succeed_fails_on_the_first_try_and_says_why(bucket, airflow_log, conf: dict, message: str) -> None:
    run = run_dag("list_only", conf)
    assert message in failure(run, "list", airflow_log)


def test_a_missing_permission_fails_on_the_first_try(gcs_server, airflow_log) -> None:
    gcs_server.create_bucket("locked", permissions=[])
    run = run_dag("list_only", {"bucket": "locked"})
    assert "PermissionDeniedError" in failure(run, "list", airflow_log)
    assert "storage.objects.list" in "".join(airflow_log())


def test_a_listing_too_large_for_xcom_fails_early_and_names_the_parameter(gcs_server, airflow_log) -> None:
    gcs_server.create_bucket("large")
    gcs_server.synthesize("large", count=200_000)
    run = run_dag("list_only", {"bucket": "large"})
    assert "manifest_uri" in failure(run, "list", airflow_log)
    assert gcs_server.requests().operations["list"] < 100  # of 200 pages


@pytest.mark.slow
@pytest.mark.skipif(not AIRFLOW_3, reason="the listing itself is the same on both lines; once is enough")
def test_a_million_objects_are_listed_exactly_however_many_streams_there_are(gcs_server, tmp_path: Path) -> None:
    gcs_server.create_bucket("million")
    gcs_server.synthesize("million", count=1_000_000, style="unicode")
    gcs_server.create_bucket("manifests")
    here, there = (tmp_path / "manifest").as_uri(), "gs://manifests/million"
    alone = {"bucket": "million", "manifest_uri": here, "workers": "1", "streams": "1"}
    together = {"bucket": "million", "manifest_uri": there, "workers": "2", "streams": "64"}
    references = [run_dag("list_only", conf).xcom("list") for conf in (alone, together)]
    expected = gcs_server.listing("million")
    for reference in references:
        assert len(json.dumps(reference)) < 4096
        names, versions, previous, count = hashlib.sha256(), hashlib.sha256(), b"", 0
        for batch in Manifest.from_reference(reference).batches():
            for name, generation in zip(batch["name"].to_pylist(), batch["generation"].to_pylist(), strict=True):
                encoded = name.encode()
                assert previous < encoded, "sorted by UTF-8 bytes, and unique"
                previous = encoded
                names.update(encoded + b"\n")
                versions.update(encoded + f"\n{generation}\n".encode())
                count += 1
        assert count == reference["object_count"] == expected.count == 1_000_000
        assert (names.hexdigest(), versions.hexdigest()) == (expected.names_sha256, expected.versions_sha256)
    assert references[0]["fingerprint"] == references[1]["fingerprint"]


def test_the_log_has_groups_for_what_comes_before_and_after_the_listing(bucket, tmp_path: Path, airflow_log) -> None:
    uri = (tmp_path / "manifest").as_uri()
    run_dag("list_only", {"bucket": "data", "manifest_uri": uri, "seed_manifest": uri})
    log = airflow_log()

    def groups(name: str) -> str:
        """Return the text of every group of this name; what logs twice is there twice."""
        begins = [number for number, line in enumerate(log) if f"::group::{name}" in line]
        ends = [next(n for n, line in enumerate(log) if n > begin and "::endgroup::" in line) for begin in begins]
        return "\n".join(line for begin, end in zip(begins, ends, strict=True) for line in log[begin:end])

    assert "There is no earlier manifest yet" in groups("preflight")
    if AIRFLOW_3:  # 2.11 tells this test everything twice
        assert len([line for line in log if "::group::preflight" in line]) == 1
    assert "41 objects" in groups("summary")

    run_dag("list_only", {"bucket": "data", "manifest_uri": uri, "seed_manifest": uri})
    log = airflow_log()
    assert "has 41 objects" in groups("preflight")
