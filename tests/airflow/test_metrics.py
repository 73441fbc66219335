"""The metrics that tasks send are those of docs/reference/metrics.md, name by name, with the figures of the run."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dag_runs import run_dag

from airflow_dataflux import DatafluxHook, compat

pytestmark = pytest.mark.usefixtures("airflow_database")

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/metrics.md"
DOCUMENTED = dict(re.findall(r"^\| `([\w.]+)` \| (counter|timer) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


class Recorder:
    """Stands where Airflow's Stats stand, with the signatures that both lines share."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.tags: set[tuple[str, str]] = set()

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, str]) -> None:
        self._keep("counter", stat, count, tags)

    def timing(self, stat: str, dt: timedelta, *, tags: dict[str, str]) -> None:
        assert isinstance(dt, timedelta), "a bare number is milliseconds in one system and seconds in another"
        self._keep("timer", stat, dt, tags)

    def _keep(self, kind: str, stat: str, value: object, tags: dict[str, str]) -> None:
        assert stat not in self.values, f"{stat} was sent twice"
        self.kinds[stat], self.values[stat] = kind, value
        self.tags.add((tags["dag_id"], tags["task_id"]))


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(compat, "Stats", recorder)
    return recorder


def test_exactly_the_documented_metrics_are_sent_with_the_runs_own_figures(
    gcs_server, tmp_path: Path, metrics: Recorder
) -> None:
    gcs_server.create_bucket("data")
    gcs_server.put_many("data", {f"{n:02}": b"x" * n for n in range(20)})
    listed = {"bucket": "data", "manifest_uri": (tmp_path / "manifest").as_uri()}
    reference = run_dag("list_only", listed).xcom("list")
    conf = {"manifest": reference, "destination": str(tmp_path / "staged"), "strategy": "compose"}
    summary = run_dag("stage_only", conf).xcom("stage")
    pack = run_dag("pack_only", {"manifest": reference, "output": str(tmp_path / "pack")}).xcom("pack")
    shards = DatafluxHook().open_manifest(reference).shards(2)
    parts = [DatafluxHook().pack(shard, str(tmp_path / "joined")).summary() for shard in shards]
    joined = run_dag("join_packs_only", {"packs": parts}).xcom("join")
    run_dag("sweep_only", {"bucket": "data"})
    assert metrics.kinds == DOCUMENTED
    tasks = {("list_only", "list"), ("stage_only", "stage"), ("pack_only", "pack"), ("sweep_only", "sweep")}
    tasks.add(("join_packs_only", "join"))
    assert metrics.tags == tasks

    values = metrics.values
    assert (values["dataflux.listing.objects"], values["dataflux.listing.bytes"]) == (20, 190)
    for name in ("requests", "retries", "throttled", "steals"):
        assert values[f"dataflux.listing.{name}"] == reference["stats"][name]
    assert values["dataflux.listing.seconds"].total_seconds() == pytest.approx(reference["stats"]["wall_s"])
    for name in ("downloaded", "downloaded_bytes", "reused", "skipped", "deleted", "composites"):
        assert values[f"dataflux.staging.{name}"] == summary[name]
    for name in ("packed_shards", "reused_shards", "packed_objects", "packed_bytes", "reused_objects", "skipped"):
        assert values[f"dataflux.packing.{name}"] == pack[name]
    for name, figure in (("shards", "shard_count"), ("samples", "sample_count"), ("bytes", "total_bytes")):
        assert values[f"dataflux.joined_pack.{name}"] == joined[figure]
    assert [values[f"dataflux.joined_pack.{name}"] for name in ("parts", "objects")] == [2, 20]
    assert values["dataflux.joined_pack.seconds"] > timedelta(0)
    assert [pack[name] for name in ("packed_shards", "packed_objects", "packed_bytes")] == [1, 20, 190]
    for work, told in (("staging", summary), ("packing", pack), ("joined_pack", joined)):
        priced = {f"requests_{price}": told["requests"][price] for price in ("class_a", "class_b", "free")}
        assert {name: values[f"dataflux.{work}.{name}"] for name in priced} == priced
        assert values[f"dataflux.{work}.requests"] == sum(priced.values()) > 0
    for work, told in (("staging", summary), ("packing", pack)):
        assert values[f"dataflux.{work}.seconds"].total_seconds() == pytest.approx(told["seconds"], abs=0.001)


def test_a_dry_run_and_a_failure_send_nothing(gcs_server, tmp_path: Path, metrics: Recorder) -> None:
    gcs_server.create_bucket("data")
    gcs_server.put("data", "one", b"1")
    reference = run_dag("list_only", {"bucket": "data"}).xcom("list")
    metrics.kinds.clear()
    conf = {"manifest": reference, "destination": str(tmp_path / "staged")}
    run_dag("stage_only", {**conf, "dry_run": True})
    run_dag("stage_only", {**conf, "strategy": "fastest"})
    pack = {"manifest": reference, "output": str(tmp_path / "pack")}
    run_dag("pack_only", {**pack, "dry_run": True})
    run_dag("pack_only", {**pack, "output": "relative"})
    assert metrics.kinds == {}


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_airflow_accepts_the_name(name: str) -> None:
    # Its rule for StatsD names, in both lines: letters, digits, '_', '.', '-' and '/'; 250 at most.
    assert re.fullmatch(r"[A-Za-z0-9_.\-/]{1,250}", name)
