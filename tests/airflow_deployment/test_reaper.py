"""A deployment whose owner is killed does not live on. No Airflow here: its components are programs that sleep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from process_table import is_alive, wait_until_gone

from airflow_deployment import AirflowDeployment

HANG_S = 120.0

TESTS = Path(__file__).parents[1]

OWNER = f"""
import os, signal, subprocess, sys
sys.path.insert(0, {str(TESTS)!r})
from airflow_deployment import AirflowDeployment

deployment = AirflowDeployment(sys.argv[1], sys.argv[1])
# One that lost its environment, as Airflow's processes do, and one that left the session, as a task's child may.
bare = ["env", "-i", "sleep", "1000"]
deployment.start_component("bare", bare)
deployment.start_component("deep", ["sh", "-c", "setsid sleep 1000 & exec sleep 1000"])
if sys.argv[2] == "holding":
    # A forked child of the owner keeps the pipe to the reaper open.
    if os.fork() == 0:
        signal.pause()
while len(deployment.processes()) < 3:
    pass
print(*deployment.processes(), flush=True)
signal.pause()
"""


@pytest.fixture(params=["alone", "holding"])
def owner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "home"), request.param],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the child that held the pipe
    process.communicate()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=str)
def test_nothing_outlives_an_owner_that_is_killed(owner: subprocess.Popen[str], end: signal.Signals) -> None:
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) == 3
    assert all(map(is_alive, pids))
    owner.send_signal(end)
    assert owner.wait() == -end
    assert wait_until_gone(pids, HANG_S) == []


def test_a_deployment_that_was_stopped_leaves_no_reaper(tmp_path: Path) -> None:
    deployment = AirflowDeployment(tmp_path / "home", tmp_path)
    process = deployment.start_component("sleeper", ["sleep", "1000"])
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = set(children.read_text().split())
    assert str(process.pid) in before
    deployment.stop()
    assert process.returncode == -signal.SIGTERM
    assert deployment.processes() == []
    left = set(children.read_text().split())
    assert len(before - left) == 2  # the component and the reaper
    deployment.stop()
