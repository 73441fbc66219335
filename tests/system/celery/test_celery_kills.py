"""Ways in which a staging on a Celery worker may end before its time.

Marked as failed in the UI, its task killed, its supervisor killed, its worker asked to go, told to go, killed, its
whole machine gone: nothing may keep running, no composite may stay once the task was tried again, and the files of the
successful try must be whole.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from process_table import engines_among, parent_of
from waiting import HANGS_S, wait_until
from watching import composites
from worker_machines import CeleryDeployment, Worker

from airflow_dataflux.testing import GCSServer

BUCKET = "medium"
COUNT = 20_000
SIZE = 6000


@dataclass(frozen=True)
class Staging:
    """A staging in the middle of its work: composites are in the bucket, an engine reads them."""

    run_id: str
    pid: int
    worker: Worker

    @property
    def supervisor(self) -> int:
        """The pid of the Celery pool's process, which supervises the task."""
        return parent_of(self.pid)


@pytest.fixture
def staging(airflow: CeleryDeployment, server: GCSServer, tmp_path: Path) -> Staging:
    """Start a staging that would not end by itself within a test, onto the worker's own disk."""
    conf = {"bucket": BUCKET, "manifest_uri": (tmp_path / "manifest").as_uri()}
    airflow.wait_for_dag("list_only", HANGS_S)
    run_id = airflow.trigger("list_only", conf)
    assert airflow.wait("list_only", run_id, timeout_s=HANGS_S) == "success"
    server.configure(bytes_per_s=10_000)  # of each connection, and there are few of them: half an hour in all
    conf = {
        "manifest": airflow.xcom("list_only", run_id, "list"),
        "destination": str(airflow.scratch / tmp_path.name),
        "strategy": "compose",
        "max_in_flight": 8,
    }
    run_id = airflow.trigger("stage_only", conf)
    wait_until(lambda: composites(server, BUCKET) and engines_among(airflow.processes()), "composites and an engine")
    ti = airflow.task_instance("stage_only", run_id, "stage")
    assert ti["state"] == "running", ti
    return Staging(run_id, int(ti["pid"]), airflow.workers[ti["hostname"]])


def finished(airflow: CeleryDeployment, staging: Staging, server: GCSServer, tmp_path: Path, *, tries: int) -> Worker:
    """Let the run end at full speed, check all of it, and return the worker that did it."""
    server.configure(bytes_per_s=None)
    state = airflow.wait("stage_only", staging.run_id, timeout_s=HANGS_S)
    log = "\n".join(airflow.logs("stage_only", staging.run_id, "stage", try_number=n + 1) for n in range(tries))
    assert state == "success", log
    ti = airflow.task_instance("stage_only", staging.run_id, "stage")
    assert ti["try_number"] == tries, log
    worker = airflow.workers[ti["hostname"]]
    staged = list((worker.disk / tmp_path.name).rglob("*.jpg"))
    assert len(staged) == COUNT
    assert sum(path.stat().st_size for path in staged) == COUNT * SIZE
    wait_until(lambda: not engines_among(airflow.processes()), "the engines' end")
    assert composites(server, BUCKET) == []
    return worker


def test_a_staging_marked_as_failed_leaves_no_process_and_no_composite(
    airflow: CeleryDeployment, server: GCSServer, staging: Staging
) -> None:
    airflow.set_task_state("stage_only", staging.run_id, "stage", "failed")
    wait_until(lambda: not engines_among(airflow.processes()), "the engines' end")
    wait_until(lambda: staging.pid not in airflow.processes(), "the task's end")
    assert airflow.wait("stage_only", staging.run_id, timeout_s=HANGS_S) == "failed"
    wait_until(lambda: not composites(server, BUCKET), "the composites' end")
    assert staging.worker.running()


@pytest.mark.parametrize("victim", ["task", "supervisor"])
def test_a_staging_whose_process_is_killed_is_tried_again_and_leaves_nothing(
    airflow: CeleryDeployment, server: GCSServer, staging: Staging, tmp_path: Path, victim: str
) -> None:
    first = engines_among(airflow.processes())
    os.kill(staging.pid if victim == "task" else staging.supervisor, signal.SIGKILL)
    wait_until(lambda: not set(first) & set(engines_among(airflow.processes())), "the engines' end")
    wait_until(lambda: staging.pid not in airflow.processes(), "the task's end")
    assert staging.worker.running()
    finished(airflow, staging, server, tmp_path, tries=2)


def test_a_worker_that_is_asked_to_go_finishes_its_staging_first(
    airflow: CeleryDeployment, server: GCSServer, staging: Staging, tmp_path: Path
) -> None:
    with airflow.without_worker(staging.worker.name) as worker:
        worker.process.terminate()
        wait_until(lambda: "Warm shutdown" in airflow.component_log(worker.name), "the warm shutdown")
        assert worker.running()
        assert finished(airflow, staging, server, tmp_path, tries=1) == worker
        wait_until(lambda: not airflow.processes_of(worker), "the end of all that the worker started")
        assert worker.process.wait() == 0


def test_a_worker_that_is_told_to_go_at_once_leaves_nothing(
    airflow: CeleryDeployment, server: GCSServer, staging: Staging, tmp_path: Path
) -> None:
    with airflow.without_worker(staging.worker.name) as worker:
        worker.process.send_signal(signal.SIGQUIT)  # Celery's cold shutdown ends its tasks with SIGTERM
        wait_until(lambda: not airflow.processes_of(worker), "the end of all that the worker started")
        assert composites(server, BUCKET, try_number=1) == []  # the next try may be under way elsewhere
        assert finished(airflow, staging, server, tmp_path, tries=2) != worker


def test_a_staging_whose_worker_is_killed_ends_and_is_tried_again_elsewhere(
    airflow: CeleryDeployment, server: GCSServer, staging: Staging, tmp_path: Path
) -> None:
    """The kernel kills the pool's processes with Celery's main process, which asked for that, and nobody else."""
    first = engines_among(airflow.processes())
    with airflow.without_worker(staging.worker.name) as worker:
        worker.process.kill()
        wait_until(lambda: not set(first) & set(engines_among(airflow.processes())), "the engines' end")
        wait_until(lambda: staging.pid not in airflow.processes(), "the task's end")
        assert finished(airflow, staging, server, tmp_path, tries=2) != worker


def test_a_staging_whose_machine_is_gone_is_tried_again_elsewhere(
    airflow: CeleryDeployment, server: GCSServer, staging: Staging, tmp_path: Path
) -> None:
    with airflow.without_worker(staging.worker.name) as worker:
        airflow.switch_off(worker)
        assert not engines_among(airflow.processes())
        assert composites(server, BUCKET, try_number=1)
        assert finished(airflow, staging, server, tmp_path, tries=2) != worker
