"""What is in the buckets, and how to look at them and at processes from outside, and wait for what no event tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from airflow_dataflux.testing import GCSServer
from airflow_dataflux.testing.deployment import AirflowDeployment

OBJECTS = {f"images/{n:04}.jpg": bytes([n % 251]) * (1000 + n) for n in range(300)}
ENGINE = b"airflow_dataflux.core.runtime.engine"
TIMEOUT_S = 900.0
"""A bound for a test that hangs, not a measure: on a busy machine a task alone may take a minute to start."""


def wait_until(reached: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not reached():
        assert time.monotonic() < deadline, f"{what} did not happen within {TIMEOUT_S} s"
        time.sleep(0.1)


def engines(airflow: AirflowDeployment) -> list[int]:
    """Return the engines of this deployment, and their workers: fork keeps the command line."""
    found = []
    for pid in airflow.processes():
        try:
            if ENGINE in Path("/proc", str(pid), "cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue  # it ended meanwhile
    return found


def parent_of(pid: int) -> int:
    # proc_pid_stat(5): the name in parentheses may hold anything, so the fields count from its end.
    return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])


def composites(server: GCSServer, bucket: str, *, try_number: int | None = None) -> list[str]:
    """Return the names of the composites in the bucket, of one try or of all."""
    names = server.names(bucket, "dataflux-composed-objects/")
    # Their end is <try number>/<attempt>-<batch>-<round>.
    return [name for name in names if try_number is None or int(name.split("/")[-2]) == try_number]
