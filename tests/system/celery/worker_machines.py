"""An Airflow deployment with CeleryExecutor whose workers are as good as machines of their own.

Each worker runs in mount and host-name namespaces of its own: `scratch` is the same path for all of them and another
directory for each, as the local disks of machines are, and `socket.gethostname()` answers the worker's name. Files
outside `scratch` are shared, as on a network file system. Each worker has an AIRFLOW_HOME of its own, and serves a
queue of its own name beside the default one.

The scheduler sees an empty directory at `scratch`: what a task finds there, the same worker put there.

Assumptions: Linux with util-linux' unshare, as root or where users may make namespaces (Debian's default). The database
is SQLite and the result backend Redis: in Airflow 3 the workers speak to the API server only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_deployment import AirflowDeployment
from broker import start_redis
from celery import Celery

WORKERS = ("worker-1", "worker-2")
PINNED = WORKERS[1]
"""The worker whose queue the pinned example names."""
CONCURRENCY = 2
"""Tasks at a time on each worker."""
READY_S = 600.0
"""A bound for a start that hangs; on a busy machine it takes minutes."""
HEARTBEAT_TIMEOUT_S = 60
"""After how long without a heartbeat Airflow gives a task up; its default of 300 s is a long time for a test."""

# $1 host name, $2 its /etc/hosts, $3 its disk, $4 where all see their disk
OWN_MACHINE = 'hostname "$1" && mount --bind "$2" /etc/hosts && mount --bind "$3" "$4" && shift 4 && exec "$@"'


@dataclass(frozen=True)
class Worker:
    """One Celery worker."""

    name: str
    process: subprocess.Popen[bytes]
    disk: Path
    """Where its `scratch` really lies."""
    namespace: str

    def running(self) -> bool:
        return self.process.poll() is None


class CeleryDeployment(AirflowDeployment):
    """An `AirflowDeployment` with a broker and workers beside it."""

    def __init__(self, home: Path, dags_folder: Path, *, environment: Mapping[str, str]) -> None:
        super().__init__(
            home,
            dags_folder,
            parallelism=2 * CONCURRENCY,
            environment={
                **environment,
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(CONCURRENCY),
                "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
                "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "3600",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT_S),
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            },
        )
        self.scratch = self.home / "scratch"
        self.workers: dict[str, Worker] = {}

    def start(self, timeout_s: float = READY_S) -> None:
        """Start the broker, the deployment and the workers, and wait until the workers take tasks."""
        self.scratch.mkdir(parents=True)
        url = start_redis(self)
        self._environment |= {
            "AIRFLOW__CELERY__BROKER_URL": f"{url}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"{url}/1",
        }
        super().start(timeout_s)
        try:
            started = {name: self._start_worker(name) for name in WORKERS}
            self.workers = {name: self._ready(name, process) for name, process in started.items()}
        except BaseException:
            self.stop()
            raise

    def _start_worker(self, name: str) -> subprocess.Popen[bytes]:
        home = self.home / "workers" / name
        disk = home / "disk"
        disk.mkdir(parents=True, exist_ok=True)
        hosts = home / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        namespaces = ["unshare", *([] if os.getuid() == 0 else ["--map-root-user"]), "--mount", "--uts"]
        machine = ["sh", "-c", OWN_MACHINE, "own-machine", name, str(hosts), str(disk), str(self.scratch)]
        airflow = [self.python, "-m", "airflow", "celery", "worker", "--skip-serve-logs", "--celery-hostname", name]
        (self.home / "components" / f"{name}.log").unlink(missing_ok=True)  # else the last life's words would count
        return self.start_component(
            name,
            [*namespaces, *machine, *airflow, "--queues", f"default,{name}", "--concurrency", str(CONCURRENCY)],
            environment={"AIRFLOW_HOME": str(home)},
        )

    def _ready(self, name: str, process: subprocess.Popen[bytes]) -> Worker:
        """Wait until a worker says that it takes tasks."""
        deadline = time.monotonic() + READY_S
        while f"{name} ready" not in (log := self.component_log(name)):
            assert process.poll() is None, f"{name} ended with {process.returncode}: {log[-4000:]}"
            assert time.monotonic() < deadline, f"{name} is not ready after {READY_S} s: {log[-4000:]}"
            time.sleep(0.2)
        return Worker(name, process, self.home / "workers" / name / "disk", namespace(process.pid))

    def processes_of(self, worker: Worker) -> list[int]:
        """Return the pids of everything that runs on the worker's machine: all that sees its host name."""
        found = []
        for pid in self.processes():
            with suppress(OSError):  # it ended meanwhile
                if namespace(pid) == worker.namespace:
                    found.append(pid)
        return found

    def switch_off(self, worker: Worker) -> None:
        """Kill everything on the worker's machine, as a power cut or an evicted pod does."""
        while found := self.processes_of(worker):
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            worker.process.wait()

    @contextmanager
    def only_worker(self, name: str) -> Iterator[Worker]:
        """Let one worker alone serve the default queue for a while."""
        others = [f"celery@{other}" for other in self.workers if other != name]
        app = Celery(broker=self._environment["AIRFLOW__CELERY__BROKER_URL"])
        order: dict[str, Any] = {"destination": others, "reply": True, "timeout": READY_S}
        try:
            assert app.control.cancel_consumer("default", **order)
            try:
                yield self.workers[name]
            finally:
                assert app.control.add_consumer("default", **order)
        finally:
            app.close()

    @contextmanager
    def without_worker(self, name: str) -> Iterator[Worker]:
        """Hand out a worker to be ended, and start it again afterwards."""
        worker = self.workers[name]
        try:
            yield worker
        finally:
            self.switch_off(worker)  # what a failed test left would meet its successor
            self.workers[name] = self._ready(name, self._start_worker(name))


def namespace(pid: int) -> str:
    """Return what identifies the host-name namespace of a process, which is that of its machine."""
    return os.readlink(f"/proc/{pid}/ns/uts")
