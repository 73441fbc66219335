"""An Airflow of the tests' own: home, database and DAGs folder, set before Airflow is first imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from process_table import engines

from airflow_dataflux.testing import isolated_environment

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(tempfile.mkdtemp(prefix="airflow-dataflux-tests-"))
DAGS = HOME / "dags"

if "airflow" in sys.modules:
    message = "Airflow was imported before its home was set: run tests/airflow first, or in a process of its own."
    raise RuntimeError(message)

# One folder holds the example DAGs and those of the tests: Airflow runs only DAGs that it finds in its folder.
DAGS.mkdir()
(DAGS / "examples").symlink_to(ROOT / "dags")
(DAGS / "tests").symlink_to(ROOT / "tests" / "airflow" / "dags")
for _name in [name for name in os.environ if name.startswith("AIRFLOW__")]:
    del os.environ[_name]
os.environ.update(isolated_environment(HOME, DAGS))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.airflow)


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The AIRFLOW_HOME of the tests that run Airflow in this process."""
    return HOME


@pytest.fixture(scope="session")
def dags_folder() -> Path:
    """The folder with the example DAGs and those of the tests."""
    return DAGS


@pytest.fixture(scope="session")
def airflow_database(airflow_home: Path) -> Path:
    """A migrated database."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return airflow_home / "airflow.db"


@pytest.fixture(autouse=True)
def _no_engine_is_left() -> Iterator[None]:
    """Whatever a test does to a task, no engine process of this process may outlive it."""
    yield
    assert engines() == []


@pytest.fixture
def airflow_log(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged so far, line by line: Airflow 3 prints a task's log, 2.11 hands it to handlers."""
    seen: list[str] = []

    def lines() -> list[str]:
        captured = capfd.readouterr()
        seen.extend((captured.out + captured.err).splitlines())
        return seen + caplog.text.splitlines()

    return lines
