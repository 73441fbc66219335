"""The command line `dataflux`, made of `Client`.

It imports no Airflow, and Arrow only once there is something to read.
"""

from __future__ import annotations

from airflow_dataflux.cli.program import main

__all__ = ["main"]
