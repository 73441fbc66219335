"""Asset events: there is one exactly when the data changed, and it tells what a consumer needs to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dag_runs import AIRFLOW_3, FinishedRun, run_dag

pytestmark = pytest.mark.usefixtures("airflow_database")


def asset_events(uri: str) -> list[dict[str, Any]]:
    """Return the extras of all events of an asset, oldest first."""
    from airflow.utils.session import create_session

    if AIRFLOW_3:
        from airflow.models.asset import AssetEvent, AssetModel

        statement = AssetEvent, AssetModel, AssetEvent.asset_id == AssetModel.id
    else:
        from airflow.models.dataset import DatasetEvent, DatasetModel

        statement = DatasetEvent, DatasetModel, DatasetEvent.dataset_id == DatasetModel.id
    event, asset, same = statement
    with create_session() as session:
        found = session.query(event).join(asset, same).filter(asset.uri == uri).order_by(event.id)
        return [dict(one.extra) for one in found]


def told(events: list[dict[str, Any]]) -> list[tuple[str, str, int, int]]:
    """Return what the events of listings say, without what Airflow adds."""
    return [tuple(extra[key] for key in ("fingerprint", "manifest_uri", "objects", "bytes")) for extra in events]


def expected(run: FinishedRun) -> tuple[str, str, int, int]:
    reference = run.xcom("list")
    return (reference["fingerprint"], reference["uri"], reference["object_count"], reference["total_bytes"])


@pytest.mark.parametrize("seeded", [True, False], ids=["compared with a seed", "compared with what it replaces"])
def test_a_listing_has_an_event_exactly_when_the_data_changed(gcs_server, tmp_path: Path, seeded: bool) -> None:
    bucket = f"changing-{seeded}".lower()
    gcs_server.create_bucket(bucket)
    gcs_server.put(bucket, "one", b"1")
    uri = (tmp_path / "manifest").as_uri()
    conf = {"bucket": bucket, "manifest_uri": uri} | ({"seed_manifest": uri} if seeded else {})
    dag_id, asset = ("announcing", "listing") if seeded else ("announcing_without_a_seed", "without-a-seed")
    before = len(asset_events(f"gs://announced/{asset}"))
    first = run_dag(dag_id, conf)
    unchanged = run_dag(dag_id, conf)
    gcs_server.put(bucket, "two", b"22")
    changed = run_dag(dag_id, conf)
    unchanged_again = run_dag(dag_id, conf)
    assert {run.state for run in (first, unchanged, changed, unchanged_again)} == {"success"}
    assert unchanged.xcom("list")["object_count"] == 1, "the task itself goes on"
    announced = [expected(first), expected(changed)]
    assert told(asset_events(f"gs://announced/{asset}")[before:]) == announced
    assert told(asset_events(f"gs://{bucket}/")) == announced, "the alias tells the same"


def test_a_listing_that_can_compare_with_nothing_counts_as_changed(gcs_server, tmp_path: Path) -> None:
    gcs_server.create_bucket("dated")
    for day in ("1", "2"):
        run_dag("announcing_without_a_seed", {"bucket": "dated", "manifest_uri": (tmp_path / day).as_uri()})
    assert len(asset_events("gs://dated/")) == 2


def test_a_damaged_manifest_that_is_to_be_replaced_stops_nothing(gcs_server, tmp_path: Path) -> None:
    gcs_server.create_bucket("damaged")
    manifest = tmp_path / "manifest"
    manifest.mkdir()
    (manifest / "manifest.json").write_text("{")
    run = run_dag("announcing_without_a_seed", {"bucket": "damaged", "manifest_uri": manifest.as_uri()})
    assert run.state == "success"
    assert len(asset_events("gs://damaged/")) == 1


def test_splits_have_an_event_exactly_when_one_of_them_changed(gcs_server, tmp_path: Path) -> None:
    gcs_server.create_bucket("divided")
    gcs_server.put_many("divided", {f"{number:03}": b"x" for number in range(40)})
    listed, uri = (tmp_path / "listed").as_uri(), (tmp_path / "splits").as_uri()
    conf = {"manifest": listed, "manifest_uri": uri}
    events = []
    for more in (None, None, "040", None):
        if more:
            gcs_server.put("divided", more, b"y")
        run_dag("list_only", {"bucket": "divided", "manifest_uri": listed})
        run = run_dag("announcing_splits", conf)
        assert run.state == "success"
        events.append(asset_events("gs://announced/splits"))
    assert [len(each) for each in events] == [1, 1, 2, 2]
    assert [(event["objects"], event["bytes"]) for event in events[-1]] == [(40, 40), (41, 41)]
    assert {name: found["fingerprint"] for name, found in run.xcom("select").items()} == events[-1][-1]["fingerprints"]


def test_a_change_that_a_lost_try_saw_is_still_told(gcs_server, tmp_path: Path) -> None:
    gcs_server.create_bucket("lost")
    gcs_server.put("lost", "one", b"1")
    conf = {"bucket": "lost", "manifest_uri": (tmp_path / "manifest").as_uri()}
    run = run_dag("announcing_after_a_lost_worker", conf)
    # The second try finds what the first one published, and nothing changed since: it goes on nevertheless.
    assert (str(run.task("list").state), run.task("list").try_number) == ("success", 2)
    assert told(asset_events("gs://lost/")) == [expected(run)]


def test_a_staging_has_an_event_exactly_when_files_were_fetched_or_removed(gcs_server, tmp_path: Path) -> None:
    gcs_server.create_bucket("staged")
    gcs_server.put_many("staged", {"one": b"1", "two": b"22"})
    listed = {"bucket": "staged", "manifest_uri": (tmp_path / "manifest").as_uri()}
    conf = {"manifest": run_dag("list_only", listed).xcom("list"), "destination": str(tmp_path / "files")}
    before = len(asset_events("file:///announced/staging"))
    run_dag("announcing_what_was_staged", {**conf, "dry_run": True})
    summary = run_dag("announcing_what_was_staged", conf).xcom("stage")
    again = run_dag("announcing_what_was_staged", conf)
    assert (again.state, again.xcom("stage")["reused"]) == ("success", 2)
    (extra,) = asset_events("file:///announced/staging")[before:]
    keys = ("fingerprint", "object_count", "total_bytes", "hostname", "destination")
    assert {key: extra[key] for key in keys} == {key: summary[key] for key in keys}
    assert extra["manifest_uri"] == listed["manifest_uri"]
