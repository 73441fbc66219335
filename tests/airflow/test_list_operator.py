"""FastListOperator in `dag.test()` runs against the embedded server."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from dag_runs import AIRFLOW_3, AIRFLOW_3_0, failure, run_dag

from airflow_dataflux import DatafluxHook
from airflow_dataflux.core.config import Filters, RunIdentity
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
    some = {"match_glob": "train/**.txt", "min_bytes": "3", "max_bytes": "5"}
    cases: list[tuple[dict[str, str], int]] = [
        (some, 4),
        ({**some, "exclude_glob": "**/*3.txt"}, 3),
        ({**some, "storage_classes": "standard"}, 3),
        ({**some, "updated_before": "2020-01-01"}, 0),
        ({**some, "updated_after": "2020-01-01T00:00:00Z"}, 4),
        ({"prefix": "train/", "include_placeholders": "True"}, 42),
    ]
    assert {name for given, _ in cases for name in given} - {"prefix"} == {each.name for each in fields(Filters)}
    for given, count in cases:
        assert run_dag("list_only", {"bucket": "data", **given}).xcom("list")["object_count"] == count, given


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


def test_more_shard_references_than_a_row_should_hold_are_an_error_that_says_what_helps(
    bucket, tmp_path: Path, airflow_log
) -> None:
    """Each shard of an inline manifest carries the prefixes of the whole."""
    bucket.put_many("data", {f"many/{number:04}": b"x" for number in range(1000)})
    prefixes = ["many/", *(f"{number:03}/{'p' * 200}" for number in range(50))]
    conf = {"bucket": "data", "prefix": prefixes, "shards": 1000}
    log = failure(run_dag("list_only", conf), "list", airflow_log)
    assert "The references of 1000 shards take" in log
    assert "Set manifest_uri" in log
    run = run_dag("list_only", {**conf, "manifest_uri": (tmp_path / "manifest").as_uri()})
    assert len(run.xcom("list")) == 1000
    assert len(json.dumps(run.xcom("list"))) < 1 << 20


def test_the_links_lead_to_the_bucket_and_to_the_manifest(bucket, tmp_path: Path) -> None:
    uri = (tmp_path / "manifest").as_uri()
    run = run_dag("list_only", {"bucket": "data", "prefix": "train/0", "manifest_uri": uri})
    address = "https://console.cloud.google.com/storage/browser/data/train;tab=objects?prefix=0"
    assert run.xcom("list", "_link_BucketLink") == address
    assert run.xcom("list", "_link_ManifestLink") == run.file_link("manifest", f"{uri}/manifest.json", "list")


def test_a_manifest_in_a_bucket_is_linked(bucket) -> None:
    """To this package's page in 3.x, to the console in 2.11."""
    run = run_dag("list_only", {"bucket": "data", "manifest_uri": "gs://data/manifests/today"})
    console = "https://console.cloud.google.com/storage/browser/_details/data/manifests/today/"
    report = run.xcom("list", "dataflux_report")["uri"]
    assert report.startswith("gs://data/manifests/today/reports/")
    for link, document, uri in (
        ("Manifest", "manifest", "gs://data/manifests/today/manifest.json"),
        ("Report", "report", report),
    ):
        page = run.file_link(document, uri, "list")
        in_console = console + uri.partition("/today/")[2]
        assert run.xcom("list", f"_link_{link}Link") == (page if AIRFLOW_3 else in_console)


def test_the_report_is_linked_and_described_in_xcom(bucket, tmp_path: Path) -> None:
    uri = (tmp_path / "manifest").as_uri()
    run = run_dag("list_only", {"bucket": "data", "prefix": "train/", "manifest_uri": uri})
    reference, report = run.xcom("list"), run.xcom("list", "dataflux_report")
    (page,) = (tmp_path / "manifest" / "reports").iterdir()
    assert report == {
        "kind": "listing",
        "uri": page.as_uri(),
        "title": "gs://data/train/",
        "object_count": 40,
        "total_bytes": reference["total_bytes"],
        "seconds": reference["stats"]["wall_s"],
        "finished_at": report["finished_at"],
    }
    assert run.xcom("list", "_link_ReportLink") == run.file_link("report", report["uri"], "list")
    assert reference["fingerprint"] in page.read_text(encoding="utf-8")


def test_no_report_is_written_where_none_is_wanted_or_there_is_no_place(bucket, tmp_path: Path) -> None:
    uri = (tmp_path / "manifest").as_uri()
    for conf in ({"manifest_uri": uri, "report": "False"}, {}):
        run = run_dag("list_only", {"bucket": "data", **conf})
        assert run.state == "success"
        assert run.xcom("list", "dataflux_report") is None
    assert not (tmp_path / "manifest" / "reports").exists()


def test_the_log_ends_with_what_was_found(bucket, airflow_log) -> None:
    run_dag("list_only", {"bucket": "data"})
    log = airflow_log()
    assert any("Listed gs://data/: 41 objects, 785 B in " in line for line in log)
    assert any("The data changed since the earlier listing" in line for line in log)


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
    log = failure(run, "list", airflow_log)
    assert "PermissionDeniedError" in log
    last = log.index("gs://locked/: storage.objects.list is missing. Grant it to the account of the task.")
    assert last > log.index("Task failed with exception"), "a traceback hides the line that says it in short"


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


def test_a_log_says_each_thing_once_and_in_the_open(bucket, tmp_path: Path, airflow_log) -> None:
    uri = (tmp_path / "manifest").as_uri()
    run_dag("list_only", {"bucket": "data", "manifest_uri": uri, "seed_manifest": uri})
    log = airflow_log()
    if AIRFLOW_3 and not AIRFLOW_3_0:  # these tell this test everything twice
        assert len([line for line in log if "There is no earlier manifest at" in line]) == 1
    assert any("Listed gs://data/: 41 objects, " in line and " with 1 request." in line for line in log)
    assert not any("::group::listing" in line or "::group::summary" in line for line in log)

    run_dag("list_only", {"bucket": "data", "manifest_uri": uri, "seed_manifest": uri})
    assert any("has 41 objects" in line for line in airflow_log())


@pytest.mark.skipif(not AIRFLOW_3, reason="2.11 has no page that shows it")
def test_a_running_listing_tells_how_far_it_is(bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []

    def remember(_context: Any, value: dict[str, Any], key: str) -> None:
        assert key == "dataflux_progress"
        told.append(value)

    monkeypatch.setattr("airflow_dataflux.operators.base.show_progress", remember)
    monkeypatch.setattr("airflow_dataflux.operators.base.PROGRESS_EVERY_S", 0.0)
    monkeypatch.setattr("airflow_dataflux.core.listing.job.PROGRESS_EVERY_S", 0.0)
    bucket.synthesize("data", count=20_000, style="flat", prefix="many/")
    run = run_dag("list_only", {"bucket": "data", "prefix": "many/", "manifest_uri": (tmp_path / "m").as_uri()})
    assert run.state == "success"
    assert told
    counts = [one["objects"] for one in told]
    assert counts == sorted(counts)
    assert {one["try_number"] for one in told} == {1}
    assert told[-1]["text"].startswith("Listed ")
    assert not any("expected_objects" in one for one in told)
    json.dumps(told)

    told.clear()
    seeded = {"manifest_uri": (tmp_path / "again").as_uri(), "seed_manifest": (tmp_path / "m").as_uri()}
    assert run_dag("list_only", {"bucket": "data", "prefix": "many/", **seeded}).state == "success"
    assert told[0]["expected_objects"] == 20_000
    assert " of about 20,000 objects at " in told[0]["text"]


@pytest.mark.parametrize(("on_empty", "state"), [("skip", "skipped"), ("fail", "failed")])
def test_an_empty_listing_that_is_not_wanted_leaves_the_manifest_that_is_there(
    bucket, tmp_path: Path, on_empty: str, state: str
) -> None:
    uri = (tmp_path / "manifest").as_uri()
    good = run_dag("list_only", {"bucket": "data", "manifest_uri": uri}).xcom("list")
    run = run_dag("list_only", {"bucket": "data", "prefix": "typo/", "manifest_uri": uri, "on_empty": on_empty})
    assert str(run.task("list").state) == state
    assert len(Manifest.from_reference(good)) == good["object_count"] == 41


def test_an_unchanged_listing_that_is_skipped_publishes_nothing(bucket, tmp_path: Path) -> None:
    first, second = ((tmp_path / name).as_uri() for name in ("first", "second"))
    run_dag("list_only", {"bucket": "data", "manifest_uri": first})
    conf = {"bucket": "data", "manifest_uri": second, "seed_manifest": first, "on_unchanged": "skip"}
    assert str(run_dag("list_only", conf).task("list").state) == "skipped"
    assert not (tmp_path / "second" / "manifest.json").exists()


def test_an_unchanged_bucket_is_listed_again_until_what_comes_after_has_finished(
    bucket, tmp_path: Path, airflow_log
) -> None:
    """Last night's staging failed, tonight nothing changed: a skip of the listing would skip the staging, too."""
    uri, destination = (tmp_path / "manifest").as_uri(), tmp_path / "data"
    conf = {"bucket": "data", "manifest_uri": uri, "destination": str(destination), "shards": 2}
    failed = run_dag("list_what_changed_then_stage", {**conf, "destination": "relative/path"})
    assert failed.states() == {"list": ["success"], "stage": ["failed"] * 2, "tidy_up": ["success"]}
    assert failed.state == "success", "the state of a run does not tell"
    second = run_dag("list_what_changed_then_stage", conf)
    assert second.states() == {"list": ["success"], "stage": ["success"] * 2, "tidy_up": ["success"]}
    assert (destination / "other/1.bin").read_bytes() == b"12345"
    assert len(list(destination.glob("train/*.txt"))) == 40
    assert any("has not finished with it: stage (failed)" in line for line in airflow_log())
    for _ in range(2):
        states = run_dag("list_what_changed_then_stage", conf).states()
        assert (states["list"], states["stage"]) == (["skipped"], ["skipped"])
    bucket.put("data", "train/007.txt", b"new content")
    assert run_dag("list_what_changed_then_stage", conf).states()["stage"] == ["success"] * 2


@pytest.mark.parametrize("maker", ["a script", "another DAG", "a run that is gone"])
def test_a_manifest_of_this_task_that_nobody_vouches_for_is_made_again(
    bucket, tmp_path: Path, airflow_database, maker: str
) -> None:
    uri = (tmp_path / "manifest").as_uri()
    conf = {"bucket": "data", "manifest_uri": uri, "destination": str(tmp_path / "data"), "shards": 1}
    if maker == "another DAG":
        run_dag("list_only", {"bucket": "data", "manifest_uri": uri})
    else:
        identity = RunIdentity(dag="list_what_changed_then_stage", run="gone", task="list")
        DatafluxHook().fast_list("data", manifest_uri=uri, identity=identity if maker == "a run that is gone" else None)
    for expected in ("success", "skipped"):
        states = run_dag("list_what_changed_then_stage", conf).states()
        assert (states["list"], states["stage"]) == ([expected], [expected])


def test_a_list_in_a_template_is_a_list(bucket, airflow_log) -> None:
    assert run_dag("list_only", {"bucket": "data", "prefix": ["train/0", "other/"]}).xcom("list")["object_count"] == 41
    assert run_dag("list_only", {"bucket": "data", "prefix": None}).xcom("list")["object_count"] == 41
    run_dag("list_only", {"bucket": "data", "prefix": "/train/"})
    assert any("'train/' may be meant" in line for line in airflow_log())
