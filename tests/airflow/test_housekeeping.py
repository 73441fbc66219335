"""Changed partitions, the prefix sensor and pruning, as Airflow runs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dag_runs import AIRFLOW_3, FinishedRun, run_dag

from airflow_dataflux import (
    ChangedPartitionsOperator,
    DatafluxHook,
    PrefixSensor,
    PruneStagedOperator,
)
from airflow_dataflux.compat import AirflowFailException, Asset

pytestmark = pytest.mark.usefixtures("airflow_database")


class Event:
    """An outlet's event."""

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}
        self.partitions: list[str] = []

    def add_partitions(self, partitions: list[str]) -> None:
        for key in partitions:
            if len(key) > 250:  # as Airflow's own
                raise ValueError(f"partition_key must be at most 250 characters; got {len(key)}.")
        self.partitions += partitions


class OutletEvents:
    """An event for each outlet, found by its URI: assets of Airflow 3.1 have no hash."""

    def __init__(self, outlets: list[Any]) -> None:
        self._events = {outlet.uri: Event() for outlet in outlets}

    def __getitem__(self, outlet: Any) -> Event:
        return self._events[outlet.uri]


class Context(dict[str, Any]):
    """As much of a task's context as these need."""

    def __init__(self, task: Any) -> None:
        super().__init__(ti=self, dag_run=self, task=task, outlet_events=OutletEvents(task.outlets))
        self.try_number, self.map_index = 1, -1
        self.dag_id, self.task_id, self.run_id = "d", "t", "r"

    def xcom_push(self, **_: Any) -> None:
        pass


@pytest.fixture
def bucket(gcs_server):
    gcs_server.create_bucket("events")
    gcs_server.put_many("events", {f"log/day={day}/{n}.bin": bytes([n]) * 50 for day in (1, 2, 3) for n in range(4)})
    gcs_server.create_bucket("manifests")
    return gcs_server


def compare(**parameters: Any) -> tuple[list[dict[str, Any]], Event, list[Any]]:
    asset = Asset(uri="gs://events/log/", name="log") if AIRFLOW_3 else Asset(uri="gs://events/log/")
    made = ChangedPartitionsOperator(task_id="t", outlets=[asset], **parameters)
    context = Context(made)
    changes = made.execute(context)
    return changes, context["outlet_events"][asset], made.outlets


def test_exactly_the_partitions_that_changed_are_returned_and_told(bucket) -> None:
    hook = DatafluxHook()
    before = hook.fast_list("events", "log/", manifest_uri="gs://manifests/1")
    bucket.put("events", "log/day=2/0.bin", b"new")
    bucket.put("events", "log/day=4/0.bin", b"new")
    for n in range(4):
        bucket.delete("events", f"log/day=3/{n}.bin")
    now = hook.fast_list("events", "log/", manifest_uri="gs://manifests/2")
    changes, event, _ = compare(manifest=now.reference(), previous=before.reference())
    assert {each["partition"]: each["change"] for each in changes} == {"2": "changed", "3": "removed", "4": "added"}
    assert changes[0]["prefix"] == "log/day=2/"
    assert sorted(event.partitions) == ["2", "3", "4"]
    assert event.extra["partitions"] == ["2", "3", "4"]


def test_no_change_gives_an_empty_list_and_no_event(bucket) -> None:
    reference = DatafluxHook().fast_list("events", "log/", manifest_uri="gs://manifests/1").reference()
    changes, event, outlets = compare(manifest=reference, previous="gs://manifests/1")
    assert (changes, event.partitions, outlets) == ([], [], [])


@pytest.mark.skipif(not AIRFLOW_3, reason="references to assets are new in Airflow 3")
def test_a_reference_to_an_asset_is_told_of_partitions_too(bucket) -> None:
    reference = DatafluxHook().fast_list("events", "log/", manifest_uri="gs://manifests/1").reference()
    outlet = Asset.ref(uri="gs://events/log/")
    made = ChangedPartitionsOperator(task_id="t", outlets=[outlet], manifest=reference)
    context = Context(made)
    made.execute(context)
    assert context["outlet_events"][outlet].partitions == ["1", "2", "3"]


def test_a_partition_that_airflow_does_not_take_is_named_and_not_tried_again(bucket) -> None:
    bucket.put("events", f"long/day={'x' * 251}/0.bin", b"x")
    reference = DatafluxHook().fast_list("events", "long/", manifest_uri="gs://manifests/1").reference()
    with pytest.raises(AirflowFailException, match=r"at most 250 characters; got 251\. Let `partition`"):
        compare(manifest=reference)


def test_a_manifest_that_is_not_there_yet_makes_everything_new(bucket) -> None:
    reference = DatafluxHook().fast_list("events", "log/", manifest_uri="gs://manifests/1").reference()
    changes, _, _ = compare(manifest=reference, previous="gs://manifests/0")
    assert {each["change"] for each in changes} == {"added"}


def sensor(**parameters: Any) -> PrefixSensor:
    return PrefixSensor(task_id="t", bucket="events", prefix="log/", manifest_uri="gs://manifests/quiet", **parameters)


def test_a_prefix_is_quiet_when_it_stayed_the_same_for_so_long(bucket, monkeypatch) -> None:
    waiting = sensor(quiet_for=timedelta(minutes=15))
    assert waiting.mode == "reschedule"
    assert not waiting.poke({}).is_done
    from airflow_dataflux.sensors import prefix

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(UTC) + timedelta(minutes=16)

    with monkeypatch.context() as later:
        later.setattr(prefix, "datetime", Later)
        done = sensor(quiet_for="900").poke({})  # another instance: nothing is remembered but the manifest
    assert done.is_done
    assert done.xcom_value["object_count"] == 12
    bucket.put("events", "log/day=9/late.bin", b"late")
    assert not sensor(quiet_for=900).poke({}).is_done


def test_a_prefix_has_changed_when_its_fingerprint_is_another(bucket) -> None:
    before = DatafluxHook().fast_list("events", "log/", manifest_uri="gs://manifests/before")
    for since in (before.fingerprint, before.reference(), "gs://manifests/before"):
        assert not sensor(changed_since=since).poke({}).is_done
    bucket.put("events", "log/day=1/new.bin", b"new")
    for since in (before.fingerprint, before.reference(), "gs://manifests/before", "gs://manifests/never"):
        assert sensor(changed_since=since).poke({}).is_done


def test_a_sensor_that_waits_for_nothing_is_refused(bucket) -> None:
    with pytest.raises(Exception, match="Say what to wait for"):
        sensor().poke({})


def test_old_trees_go_and_a_leased_one_stays(bucket, tmp_path: Path) -> None:
    hook = DatafluxHook()
    manifest = hook.fast_list("events", "log/")
    for day in (1, 2, 3):
        hook.stage(manifest, str(tmp_path / f"run-{day}"))
    with hook.lease(str(tmp_path / "run-1")):
        made = PruneStagedOperator(task_id="t", root=str(tmp_path), keep_last="1", older_than="")
        result = made.execute({})
    assert result["removed"] == [str(tmp_path / "run-2")]
    assert result["kept"] == {str(tmp_path / "run-1"): "it is leased"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-1", "run-3"]


def test_the_example_stages_and_packs_only_the_days_that_changed(bucket, tmp_path: Path) -> None:
    bucket.create_bucket("packs")
    conf = {
        "bucket": "events",
        "prefix": "log/",
        "manifest_root": "gs://manifests/nights",
        "destination_root": str(tmp_path),
        "pack_root": "gs://packs/events",
    }

    def run(day: int) -> FinishedRun:
        return run_dag("changed_days", conf, datetime(2026, 1, day, tzinfo=UTC))

    def nights(day: int) -> list[str]:
        return sorted(path.name for path in (tmp_path / f"log/day={day}").iterdir())

    first = run(2)
    assert first.state == "success"
    assert first.states() == {
        "list": ["success"],
        "compare": ["success"],
        **{f"day.{task}": ["success"] * 3 for task in ("list", "stage", "pack", "prune")},
    }
    for number in (1, 2):
        bucket.put("events", "log/day=2/0.bin", f"new {number}".encode())
        changed = run(2 + number)
        assert changed.states()["day.stage"] == changed.states()["day.prune"] == ["success"]
        assert [changed.xcom("day.stage", map_index=0)[key] for key in ("downloaded", "linked")] == [1, 3]
    assert [nights(day) for day in (1, 2, 3)] == [["2026-01-01"], ["2026-01-02", "2026-01-03"], ["2026-01-01"]]
    versions = [(tmp_path / f"log/day=2/{night}/0.bin").read_bytes() for night in nights(2)]
    assert versions == [b"new 1", b"new 2"]
    packed = [name for name in bucket.names("packs", "events/log/day=2/") if name.endswith("/000000.tar")]
    assert packed == [f"events/log/day=2/2026-01-0{night}/000000.tar" for night in (1, 2, 3)]
    unchanged = run(5)
    assert unchanged.states()["day.stage"] == unchanged.states()["day.pack"] == ["skipped"]
    assert nights(2) == ["2026-01-02", "2026-01-03"]
