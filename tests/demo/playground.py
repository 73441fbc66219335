"""The demo's world: an embedded Cloud Storage server full of real files, and a real Airflow with the example DAG."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_deployment import AirflowDeployment, DeploymentError
from sources import Sources, installed_packages
from telling import Clock, DemoError, megabytes

from airflow_dataflux.testing import GCSServer

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".demo"
BUCKET = "installed-packages"
DAG_ID = "stage_training_data"
HISTORY = "changed-day-by-day"
EXAMPLES = (
    DAG_ID,
    "approve_cost",
    "changed_days",
    "daily_increment",
    "list_by_ranges",
    "one_worker",
    "pack_training_data",
    "pinned_to_a_queue",
    "select_and_split",
    "stage_and_train",
)
SHARDS = 4


@dataclass(frozen=True, kw_only=True)
class Playground:
    """What runs while the demo does."""

    sources: Sources
    server: GCSServer
    airflow: AirflowDeployment
    data: Path


@contextmanager
def playground(clock: Clock) -> Iterator[Playground]:
    """Start everything from nothing, and stop everything at the end."""
    if HOME.exists():
        clock.step(f"Removing what an earlier demo left in {HOME}")
        shutil.rmtree(HOME)
    HOME.mkdir()
    sources = installed_packages()
    clock.step(
        f"Found {len(sources.sizes):,} real files, {megabytes(sources.total_bytes)}, in {sources.root}: "
        f"{sources.large_count} of them of 8 MB and more"
    )
    with GCSServer() as server:
        clock.step(f"An embedded Cloud Storage server runs at {server.endpoint}")
        server.create_bucket(BUCKET)
        served = server.seed_directory(BUCKET, sources.root)
        if served != (len(sources.sizes), sources.total_bytes):
            raise DemoError(f"The server serves {served}, but there are {len(sources.sizes)} files: run it again.")
        clock.step(f"It serves them as gs://{BUCKET}, from where they are")
        data = HOME / "data"
        airflow = AirflowDeployment(
            HOME / "airflow", ROOT / "dags", environment=_environment(server, data), parallelism=os.cpu_count() or 2
        )
        clock.step("Starting Airflow: database, scheduler with LocalExecutor, DAG processor, API server")
        try:
            airflow.start()
        except DeploymentError as error:
            raise DemoError(f"{error}\n{error.details.get('log', '')}") from error
        try:
            clock.step(f"Airflow is healthy at {airflow.url} (user {airflow.username}, password {airflow.password})")
            yield Playground(sources=sources, server=server, airflow=airflow, data=data)
        finally:
            # A second Ctrl-C would leave what the first one is about to end.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            clock.step("Stopping Airflow and the server")
            airflow.stop()
    if airflow.processes() or server.running:
        raise DemoError(f"Processes are left: {airflow.processes()}. End them with kill.")


def _environment(server: GCSServer, data: Path) -> dict[str, str]:
    """Return what the tasks see: where the server is, and what the example DAG is to stage."""
    settings = {
        "SCHEDULE": "",  # runs by hand only
        "BUCKET": BUCKET,
        "DESTINATION_ROOT": str(data),
        "MANIFEST_ROOT": (HOME / "manifests").as_uri(),
        "SHARDS": str(SHARDS),
    }
    increments = {
        "BUCKET": HISTORY,
        "DESTINATION_ROOT": str(data / "increments"),
        "MANIFEST_ROOT": (HOME / "increments-listed").as_uri(),
    }
    days = {
        "DESTINATION_ROOT": str(data / "days"),
        "MANIFEST_ROOT": (HOME / "days-listed").as_uri(),
        "PACK_ROOT": str(data / "days-packed"),
    }
    return {
        **server.environment(),
        **{f"STAGE_TRAINING_DATA_{name}": value for name, value in settings.items()},
        **{f"DAILY_INCREMENT_{name}": value for name, value in increments.items()},
        **{f"CHANGED_DAYS_{name}": value for name, value in days.items()},
    }


def ready_examples(world: Playground) -> None:
    """Make every example DAG run from its form as it stands: its data is there, and it is not paused."""
    fill_examples(world.server)
    for example in EXAMPLES:
        world.airflow.wait_for_dag(example)
        world.airflow.unpause(example)


def fill_examples(server: GCSServer) -> None:
    """Make the buckets that the forms of the example DAGs name."""
    server.create_bucket(HISTORY)  # objects that changed every 7,919 s from 2024-01-01 on: eleven a day
    server.synthesize(HISTORY, count=1000, size=6000)
    server.create_bucket("my-training-data")
    server.synthesize("my-training-data", count=3000, style="classes", prefix="images/train/", size=(300, 5000, 60_000))
    server.create_bucket("my-events")
    for day in ("2026-03-01", "2026-03-02", "2026-03-03"):
        server.synthesize("my-events", count=200, style="flat", prefix=f"day={day}/", size=4000)
    server.create_bucket("my-packs")
    server.create_bucket("my-manifests")
