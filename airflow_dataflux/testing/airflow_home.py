"""An Airflow of the tests' own: its home, its database, its DAGs, whatever else is on the machine."""

from __future__ import annotations

import os
from pathlib import Path

_LOCK_S = 60
"""How long SQLite may wait for its one writer; its default of 5 s is too short for several busy processes."""


def isolated_environment(home: str | os.PathLike[str], dags_folder: str | os.PathLike[str]) -> dict[str, str]:
    """Return this process's environment for a separate Airflow: its own home, a SQLite database, and its DAGs.

    For tests that run Airflow in their own process: replace `os.environ` with it before Airflow is first imported. It
    works with any version of Airflow.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
    home = Path(home).resolve()
    settings = {
        "CORE__DAGS_FOLDER": str(Path(dags_folder).absolute()),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__FERNET_KEY": "",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout={_LOCK_S}",
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "LOGGING__COLORED_CONSOLE_LOG": "False",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return {
        **inherited,
        "AIRFLOW_HOME": str(home),
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
    }
