"""A real scheduler: a DAG that waits for data runs when they changed, is told what changed, and lineage is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow_deployment import AirflowDeployment
from dag_runs import AIRFLOW_3
from waiting import wait_until

from airflow_dataflux.testing import GCSServer

pytestmark = [
    pytest.mark.deployment,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not AIRFLOW_3, reason="the deployment is one of Airflow 3"),
]


class Scheduler:
    """A deployment at work, as this test speaks to it."""

    def __init__(self, deployment: AirflowDeployment) -> None:
        self._deployment = deployment
        deployment.wait_for_dag("consuming")
        deployment.unpause("consuming")

    def run(self, dag_id: str, conf: dict[str, Any]) -> dict[str, Any]:
        run_id = self._deployment.trigger(dag_id, conf)
        state = self._deployment.wait(dag_id, run_id)
        assert state == "success", self._deployment.logs(dag_id, run_id, "list")
        return dict(self._deployment.xcom(dag_id, run_id, "list"))

    def consumed(self) -> list[list[dict[str, Any]]]:
        runs = [run for run in self._deployment.dag_runs("consuming") if run["state"] == "success"]
        assert {run["run_type"] for run in runs} <= {"asset_triggered"}
        return [self._deployment.xcom("consuming", run["dag_run_id"], "triggered_by") for run in runs]


@pytest.fixture
def server() -> Iterator[GCSServer]:
    with GCSServer() as running:
        yield running


@pytest.fixture
def lineage_file(tmp_path: Path) -> Path:
    return tmp_path / "lineage.json"


@pytest.fixture
def running(server: GCSServer, tmp_path: Path, lineage_file: Path) -> Iterator[Scheduler]:
    transport = {"type": "file", "log_file_path": str(lineage_file), "append": True}
    environment = {**server.environment(), "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}
    dags = Path(__file__).parent / "dags"
    with AirflowDeployment(tmp_path / "home", dags, environment=environment, parallelism=2) as deployment:
        yield Scheduler(deployment)
    assert deployment.processes() == []


def test_a_consumer_runs_for_a_change_only_and_is_told_of_it(
    running: Scheduler, server: GCSServer, tmp_path: Path, lineage_file: Path
) -> None:
    server.create_bucket("changing")
    server.put("changing", "one", b"1")
    uri = (tmp_path / "manifest").as_uri()
    conf = {"bucket": "changing", "manifest_uri": uri, "seed_manifest": uri}
    first = running.run("announcing", conf)
    wait_until(lambda: len(running.consumed()) == 1, "the consumer's first run", limit_s=600)
    assert running.run("announcing", conf)["fingerprint"] == first["fingerprint"]
    server.put("changing", "two", b"22")
    changed = running.run("announcing", conf)
    # Had the run in the middle had an event, it would have come before this one: as a run, or beside it.
    told = wait_until(lambda: len(running.consumed()) >= 2 and running.consumed(), "the consumer's second run", 600)
    keys = ("fingerprint", "manifest_uri", "objects", "bytes")
    assert sorted([[{key: extra[key] for key in keys} for extra in run] for run in told], key=str) == sorted(
        [
            [
                {
                    "fingerprint": reference["fingerprint"],
                    "manifest_uri": uri,
                    "objects": reference["object_count"],
                    "bytes": reference["total_bytes"],
                }
            ]
            for reference in (first, changed)
        ],
        key=str,
    )

    def completed() -> list[dict[str, Any]]:
        lines = lineage_file.read_text(encoding="utf-8").splitlines() if lineage_file.exists() else []
        events = [json.loads(line) for line in lines]
        return [one for one in events if one["eventType"] == "COMPLETE" and one["job"]["name"] == "announcing.list"]

    events = wait_until(lambda: len(completed()) == 3 and completed(), "the lineage of three listings", limit_s=600)
    last = max(events, key=lambda one: one["eventTime"])
    assert [(one["namespace"], one["name"]) for one in last["inputs"]] == [("gs://changing", "/")]
    (output,) = last["outputs"]
    assert (output["namespace"], output["name"]) == ("file://", str(tmp_path / "manifest"))
    assert output["outputFacets"]["outputStatistics"]["fileCount"] == 2
    assert output["facets"]["version"]["datasetVersion"] == changed["fingerprint"]
