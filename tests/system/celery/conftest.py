"""One deployment with CeleryExecutor and two workers, and the embedded Cloud Storage, for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import HANGS_S
from watching import OBJECTS
from worker_machines import PINNED, CeleryDeployment

from airflow_dataflux.testing import GCSServer

ROOT = Path(__file__).resolve().parents[3]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.deployment)
        item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.timeout(4 * HANGS_S))  # the first one starts the deployment, too


@pytest.fixture(scope="session")
def server() -> Iterator[GCSServer]:
    with GCSServer() as running:
        running.create_bucket("pictures")
        running.put_many("pictures", OBJECTS)
        running.create_bucket("large")
        running.synthesize("large", count=1_000_000)
        running.create_bucket("medium")
        running.synthesize("medium", count=20_000, size=6000)
        yield running


@pytest.fixture(autouse=True)
def _calm_server(server: GCSServer) -> Iterator[None]:
    yield
    server.configure(latency_s={}, bytes_per_s=None)


@pytest.fixture(scope="session")
def airflow(server: GCSServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CeleryDeployment]:
    root = tmp_path_factory.mktemp("celery")
    dags = root / "dags"
    dags.mkdir()
    (dags / "examples").symlink_to(ROOT / "dags")
    (dags / "operators").symlink_to(ROOT / "tests" / "airflow" / "dags")
    environment = {
        **server.environment(),
        "PINNED_TO_A_QUEUE": PINNED,
        "STAGE_TRAINING_DATA_SCHEDULE": "",  # runs here are triggered
    }
    deployment = CeleryDeployment(root / "home", dags, environment=environment)
    with deployment:
        yield deployment
    assert deployment.processes() == []
