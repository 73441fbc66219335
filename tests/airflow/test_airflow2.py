"""The tests of this directory once more, on Airflow 2.11, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from dag_runs import AIRFLOW_3

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "AIRFLOW_DATAFLUX_AIRFLOW2_PYTHON"


def airflow2_python() -> str | None:
    """Return the interpreter beside which Airflow 2.11 is installed, None if there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    made = ROOT / ".venv-airflow2" / "bin" / "python"
    return str(made) if made.exists() else None


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(2400)  # one test here, a suite there
@pytest.mark.skipif(not AIRFLOW_3, reason="this is Airflow 2 already")
@pytest.mark.skipif(airflow2_python() is None, reason=f"no Airflow 2.11: run `make airflow2`, or set {VARIABLE}")
def test_the_airflow_layer_passes_its_tests_on_airflow_2(tmp_path: Path) -> None:
    python = airflow2_python()
    assert python is not None
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTEST_"))}
    done = subprocess.run(
        [
            *(python, "-W", "ignore", "-m", "pytest", "-q", "--tb=short"),
            *("tests/airflow", "tests/unit/hooks", "tests/unit/plugin"),
            *("--basetemp", str(tmp_path / "pytest"), "-p", "no:cacheprovider"),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout.splitlines()[-1]
    version = subprocess.run(
        [python, "-W", "ignore", "-c", "import airflow; print(airflow.__version__)"],
        env={**environment, "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert version.startswith("2.")
