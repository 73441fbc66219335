"""The example DAG: staged, verified, reused, repaired, on a schedule and by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from dag_runs import AIRFLOW_3, FinishedRun, dag_bag, run_dag

pytestmark = pytest.mark.usefixtures("airflow_database")

OBJECTS = {f"images/{n:04}.jpg": bytes([n % 251]) * (50 + n) for n in range(200)}


@pytest.fixture
def conf(gcs_server, tmp_path: Path) -> dict:
    gcs_server.create_bucket("pictures")
    gcs_server.put_many("pictures", OBJECTS)
    return {
        "bucket": "pictures",
        "prefix": "images/",
        "destination_root": str(tmp_path / "staged"),
        "manifest_root": (tmp_path / "manifests").as_uri(),
        "shards": 3,
    }


def staged_on(conf: dict, day: str) -> dict[str, bytes]:
    root = Path(conf["destination_root"], day)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.jpg")}


def test_a_run_stages_and_verifies_everything_below_its_day(conf: dict) -> None:
    run = run_dag("stage_training_data", conf, datetime(2026, 3, 4, tzinfo=UTC))
    assert run.states() == {"list": ["success"], "stage": ["success"] * 3, "verify": ["success"]}
    assert staged_on(conf, "2026-03-04") == OBJECTS
    summary = run.xcom("verify")
    assert (summary["verified"], summary["verified_bytes"]) == (200, sum(map(len, OBJECTS.values())))
    assert (summary["downloaded"], summary["reused"]) == (200, 0)


def test_the_second_run_of_a_day_downloads_nothing_and_a_repair_one_object(conf: dict) -> None:
    day = datetime(2026, 3, 4, 1, tzinfo=UTC)
    run_dag("stage_training_data", conf, day)
    again = run_dag("stage_training_data", conf, day.replace(hour=2)).xcom("verify")
    assert (again["verified"], again["downloaded"], again["reused"]) == (200, 0, 200)
    Path(conf["destination_root"], "2026-03-04", "images/0123.jpg").unlink()
    repaired = run_dag("stage_training_data", conf, day.replace(hour=3)).xcom("verify")
    assert (repaired["verified"], repaired["downloaded"], repaired["reused"]) == (200, 1, 199)


def test_each_day_has_a_directory_of_its_own(conf: dict, gcs_server) -> None:
    run_dag("stage_training_data", conf, datetime(2026, 3, 8, tzinfo=UTC))
    gcs_server.put("pictures", "images/new.jpg", b"tomorrow's")
    run_dag("stage_training_data", conf, datetime(2026, 3, 9, tzinfo=UTC))
    assert staged_on(conf, "2026-03-08") == OBJECTS
    assert staged_on(conf, "2026-03-09") == OBJECTS | {"images/new.jpg": b"tomorrow's"}


def test_the_verification_finds_a_changed_byte(conf: dict) -> None:
    day = datetime(2026, 3, 10, tzinfo=UTC)
    manifest = run_dag("stage_training_data", conf, day).xcom("list", "manifest")
    destination = Path(conf["destination_root"], "2026-03-10")
    (destination / "images/0001.jpg").write_bytes(b"\0" * len(OBJECTS["images/0001.jpg"]))
    (destination / "images/0002.jpg").unlink()
    verify = dag_bag().get_dag("stage_training_data").get_task("verify").python_callable
    with pytest.raises(ValueError, match=r"2 of 200 files .*0001\.jpg has 51 bytes.*0002\.jpg is missing"):
        verify(manifest, str(destination), [])


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 gives every run a logical date")
def test_a_run_by_hand_has_no_logical_date_and_counts_for_the_day_it_was_asked_for(conf: dict) -> None:
    asked = datetime(2026, 3, 6, 12, tzinfo=UTC)
    dag = dag_bag().get_dag("stage_training_data")
    run = FinishedRun(dag.test(run_conf=conf, logical_date=None, run_after=asked))
    assert run.run.logical_date is None
    assert run.state == "success"
    assert staged_on(conf, "2026-03-06") == OBJECTS


def test_an_empty_bucket_fails_the_listing_and_stages_nothing(conf: dict, gcs_server) -> None:
    gcs_server.create_bucket("empty")
    run = run_dag("stage_training_data", {**conf, "bucket": "empty"})
    assert run.states() == {"list": ["failed"], "stage": ["upstream_failed"], "verify": ["upstream_failed"]}
