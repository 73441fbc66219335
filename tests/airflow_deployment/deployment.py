"""A real Airflow 3 deployment on one machine, for tests and demonstrations.

Scheduler with LocalExecutor, DAG processor and API server, each a process of its own, on a SQLite database in a
directory of its own and a free port of 127.0.0.1; driven over the public REST API, as any user would.

Guarantees: `stop` (and leaving the `with` block) ends every process that was started, however deep, also those
that a task started and left; if the caller is killed and cannot stop it, they end as well. Nothing is read from or
written to another Airflow on this machine; the deployment sends no usage data. The caller's `AIRFLOW__*` variables
are dropped, everything else of its environment is passed on.

Assumptions: Linux (processes are found below /proc by their session and AIRFLOW_HOME), Airflow 3.0 or later
behind `python`. This module imports no Airflow, so it can drive one that is installed elsewhere.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3

from airflow_dataflux.core.errors import DatafluxError
from airflow_dataflux.testing import isolated_environment
from airflow_deployment.reaper import Reaper, kill_all, processes_of

_USER = "admin"
_POLL_S = 0.5
_STOP_S = 10.0
"""How long the components may take to end on SIGTERM before they are killed."""
_RESTART_S = 120.0
_LOCK_S = 60
"""How long SQLite may wait for its one writer; its default of 5 s is too short for five busy processes."""
_CALLS = 3
"""How many calls of the API may wait for that lock in vain, one after the other."""
_API_TIMEOUT_S = 60
"""How long a task waits for an answer of the API server; its default of 5 s is too short where all share few cores."""
_ANSWER_S = 180
"""How long the API server may think about an answer while everything else on the machine wants its processors."""
_PARSE_TIMEOUT_S = 300
"""How long a DAG file may take; a file that took longer than the default of 30 s has no DAGs until it is read again."""
_PARSE_INTERVAL_S = 60
"""How often a DAG file is read that has not changed. One that has is read at the next look, every five seconds, but for
a change made while the file was being read, which Airflow does not notice. Reading a few files without a pause takes
all of two processors, and the one writer of the database."""
_FINISHED = frozenset({"success", "failed"})
_LOG_NOISE = frozenset(
    {"timestamp", "event", "level", "logger", "filename", "lineno", "ti_id", "dag_id", "run_id", "task_id"}
    | {"map_index", "try_number"}
)
"""Fields of a task's log events that whoever asked for this task's log knows already."""
_COMPONENTS: Mapping[str, tuple[str, ...]] = {
    # The API server reads the task logs from the same disk, so nobody needs the scheduler's log server.
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "api-server": ("api-server",),
}


class DeploymentError(DatafluxError):
    """The deployment did not start, or did not answer as asked. Details: `log`, the component's last lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Component:
    name: str
    process: subprocess.Popen[bytes]
    log: Path
    watched: bool
    """Whether its end is an error of the deployment."""


class AirflowDeployment:
    """One Airflow deployment; a context manager.

    Args:
        home: its AIRFLOW_HOME, created if needed. One deployment at a time may use it; its database is kept.
        dags_folder: where its DAG files are.
        environment: more environment variables, such as `STORAGE_EMULATOR_HOST` or `AIRFLOW__SECTION__KEY`.
        python: interpreter with Airflow installed.
        parallelism: tasks at a time; the executor starts that many processes at once.
        port: of the API server; None takes a free one.
    """

    def __init__(
        self,
        home: str | os.PathLike[str],
        dags_folder: str | os.PathLike[str],
        *,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
        parallelism: int = 4,
        port: int | None = None,
    ) -> None:
        self.home = Path(home).resolve()
        self.port = port or _free_port()
        self.python = python
        self.username = _USER
        self.password = secrets.token_urlsafe(12)
        self._environment = {
            **isolated_environment(self.home, dags_folder),
            **_component_environment(self.home, self.port, parallelism),
            **(environment or {}),
        }
        self._components: list[_Component] = []
        self._reaper: Reaper | None = None
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=_ANSWER_S, read=_ANSWER_S))
        self._token: str | None = None

    @property
    def url(self) -> str:
        """Address of the UI and of the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment that every component runs in."""
        return dict(self._environment)

    # -- life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, timeout_s: float = 180.0) -> None:
        """Make the database, start the components and wait until all report themselves healthy.

        Raises DeploymentError with the end of the component's log if one ends or the time is over; nothing is left
        running then.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "passwords.json").write_text(json.dumps({_USER: self.password}) + "\n")
        try:
            self._migrate(timeout_s)
            for name, arguments in _COMPONENTS.items():
                self._components.append(self._spawn(name, self._airflow(arguments)))
            self._until(self._healthy, timeout_s, "become healthy")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process of this deployment. Idempotent."""
        _end(self._components)
        # A killed supervisor leaves its tasks, and a killed task its children.
        kill_all(self.processes)
        self._components.clear()
        if self._reaper is not None:
            self._reaper.close()
            self._reaper = None

    def processes(self) -> list[int]:
        """Return the pids of every process that runs for this deployment, tasks and their children included."""
        return processes_of(self.home, {component.process.pid for component in self._components})

    def start_component(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Run one more process beside the deployment's own, such as a worker of another executor or its broker.

        `command` is a program and its arguments, `environment` goes over the deployment's own. It may have an
        AIRFLOW_HOME of its own below `home`. Call it before or after `start`. The caller sees to it that the process
        does what it should; `stop` ends it and all that it started, and `component_log` tells what it wrote.
        """
        component = self._spawn(name, command, environment=environment, watched=False)
        self._components.append(component)
        return component.process

    def component_log(self, name: str) -> str:
        """Return what "scheduler", "dag-processor", "api-server" or an added component wrote."""
        return (self.home / "components" / f"{name}.log").read_text(errors="replace")

    def command(
        self, *arguments: str, timeout_s: float = 120.0, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `airflow <arguments>` in this deployment and return how it ended; a failure is not raised."""
        return subprocess.run(
            self._airflow(arguments),
            env={**self._environment, **(environment or {})},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    # -- DAGs and runs

    def wait_for_dag(self, dag_id: str, timeout_s: float = 120.0) -> None:
        """Wait until the DAG processor has published the DAG. Raises DeploymentError, with import errors if any."""
        path = f"/dags/{dag_id}"
        try:
            self._until(lambda: self._call("GET", path)[0] == 200, timeout_s, f"know the DAG {dag_id!r}")
        except DeploymentError as error:
            broken = self.request("GET", "/importErrors")["import_errors"]
            raise DeploymentError(
                f"{error.message} Import errors: {json.dumps(broken)[:2000]}", **error.details
            ) from error

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run the DAG; with a schedule, its latest interval runs at once."""
        self.request("PATCH", f"/dags/{dag_id}?update_mask=is_paused", {"is_paused": False})

    def trigger(
        self,
        dag_id: str,
        conf: Mapping[str, Any] | None = None,
        *,
        logical_date: str | None = None,
        run_id: str | None = None,
    ) -> str:
        """Start a run by hand, as the UI's form does, and return its run id. The DAG is unpaused for it."""
        self.wait_for_dag(dag_id)
        self.unpause(dag_id)
        body: dict[str, Any] = {"logical_date": logical_date, "conf": dict(conf or {})}
        if run_id is not None:
            body["dag_run_id"] = run_id
        return str(self.request("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def backfill(self, dag_id: str, *, from_date: str, to_date: str, **options: str | int) -> None:
        """Create a backfill; `options` are those of the API and the command, `max_active_runs`, `reprocess_behavior`.

        The API does it, except on SQLite. SQLite has one writer: creating a backfill fails, half done, if another
        process writes at the same time. There the command does it while scheduler and DAG processor are stopped: no
        task may run.
        """
        self.wait_for_dag(dag_id)
        self.unpause(dag_id)
        if not self._on_sqlite:
            body = {"dag_id": dag_id, "from_date": from_date, "to_date": to_date, **options}
            self.request("POST", "/backfills", body)
            return
        more = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        words = ("backfill", "create", "--dag-id", dag_id, "--from-date", from_date, "--to-date", to_date, *more)
        with self._stopped("scheduler", "dag-processor"):
            done = self.command(*words)
        if done.returncode:
            raise DeploymentError(
                f"`airflow backfill create` ended with {done.returncode}: {_tail(done.stderr, 3)}",
                log=_tail(done.stderr),
            )

    def wait_for_backfills(self, dag_id: str, timeout_s: float = 600.0) -> None:
        """Wait until every backfill of the DAG is completed."""

        def completed() -> bool:
            found = self.request("GET", f"/backfills?dag_id={dag_id}&limit=100")["backfills"]
            return all(backfill["completed_at"] for backfill in found)

        self._until(completed, timeout_s, f"complete the backfills of {dag_id}")

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return the run as the API describes it."""
        return self.request("GET", f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}")

    def dag_runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return all runs of the DAG (at most 100)."""
        return list(self.request("GET", f"/dags/{dag_id}/dagRuns?limit=100")["dag_runs"])

    def wait(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout_s: float = 300.0,
        on_poll: Callable[[dict[str, Any]], None] | None = None,
    ) -> str:
        """Wait until the run is over and return "success" or "failed". `on_poll` gets the run at every look."""
        found: dict[str, Any] = {}

        def over() -> bool:
            found.update(self.dag_run(dag_id, run_id))
            if on_poll is not None:
                on_poll(found)
            return found["state"] in _FINISHED

        self._until(over, timeout_s, f"finish {dag_id} {run_id}")
        return str(found["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the run's task instances, mapped ones singly (at most 100)."""
        path = f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances?limit=100"
        return list(self.request("GET", path)["task_instances"])

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return one task instance."""
        return self.request("GET", self._task_path(dag_id, run_id, task_id, map_index))

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *,
        states: Sequence[str] = ("running",),
        map_index: int = -1,
        timeout_s: float = 120.0,
    ) -> dict[str, Any]:
        """Wait until a task instance is in one of `states` and return it."""
        found: dict[str, Any] = {}

        def reached() -> bool:
            status, answer = self._call("GET", self._task_path(dag_id, run_id, task_id, map_index))
            found.update(answer if status == 200 else {})  # a mapped instance does not exist from the start
            return found.get("state") in states

        self._until(reached, timeout_s, f"bring {task_id}[{map_index}] to {' or '.join(states)}")
        return found

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark a task instance, as the UI's "mark as" button does."""
        self.request("PATCH", self._task_path(dag_id, run_id, task_id, map_index), {"new_state": state})

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return the value that the task instance pushed under `key`. Raises DeploymentError if there is none."""
        path = f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.request("GET", f"{path}?map_index={map_index}&deserialize=true&stringify=false")["value"]

    def links(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, str | None]:
        """Return the task instance's extra links by name."""
        path = f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{task_id}/links?map_index={map_index}"
        return dict(self.request("GET", path)["extra_links"])

    def logs(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of one try, a line an event."""
        path = f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{task_id}/logs/{try_number}"
        content = self.request("GET", f"{path}?map_index={map_index}&full_content=true")["content"]
        return "\n".join(_log_lines(content))

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call `/api/v2<path>` and return the JSON answer. Raises DeploymentError on any answer of 400 and above."""
        status, answer = self._call(method, path, body)
        if status >= 400:
            raise DeploymentError(
                f"{method} {self.url}/api/v2{path} answered {status}: {json.dumps(answer)[:1000]}", status=status
            )
        return answer

    # -- inside

    @property
    def _on_sqlite(self) -> bool:
        return self._environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("sqlite")

    def _migrate(self, timeout_s: float) -> None:
        migrated = self.command("db", "migrate", timeout_s=timeout_s)
        if migrated.returncode:
            raise DeploymentError(
                f"`airflow db migrate` ended with {migrated.returncode}: {_tail(migrated.stderr, 3)}",
                log=_tail(migrated.stderr),
            )

    def _airflow(self, arguments: Sequence[str]) -> list[str]:
        return [self.python, "-m", "airflow", *arguments]

    def _spawn(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, watched: bool = True
    ) -> _Component:
        log = self.home / "components" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if self._reaper is None:
            self._reaper = Reaper(self.home)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env={**self._environment, **(environment or {})},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the caller's terminal is the caller's; it calls stop()
            )
        self._reaper.watch(process.pid)
        return _Component(name=name, process=process, log=log, watched=watched)

    @contextmanager
    def _stopped(self, *names: str) -> Iterator[None]:
        stopped = [component for component in self._components if component.name in names]
        _end(stopped)
        sessions = {component.process.pid for component in stopped}
        kill_all(lambda: processes_of(None, sessions))
        for component in stopped:
            self._components.remove(component)
        try:
            yield
        finally:
            self._components.extend(self._spawn(name, self._airflow(_COMPONENTS[name])) for name in names)
            self._until(self._healthy, _RESTART_S, "become healthy again")

    def _healthy(self) -> bool:
        try:
            status, answer = self._send("GET", "/api/v2/monitor/health", None, {})
            # The tasks' API builds its schemas for its first caller, which blocks the server for seconds.
            tasks_status, _ = self._send("GET", "/execution/health", None, {})
        except urllib3.exceptions.HTTPError:
            return False  # not listening yet
        parts = ("metadatabase", "scheduler", "dag_processor")
        return status == tasks_status == 200 and all(answer[part]["status"] == "healthy" for part in parts)

    def _until(self, reached: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not reached():
            for component in self._components:
                if component.watched and component.process.poll() is not None:
                    raise DeploymentError(
                        f"Airflow's {component.name} ended with {component.process.returncode} before it could {what}; "
                        f"its log is {component.log}.",
                        log=_tail(component.log.read_text(errors="replace")),
                    )
            if time.monotonic() > deadline:
                raise DeploymentError(
                    f"The deployment at {self.url} did not {what} within {timeout_s:.0f} s; its logs are in "
                    f"{self.home / 'components'}.",
                    log={c.name: _tail(c.log.read_text(errors="replace")) for c in self._components},
                )
            time.sleep(_POLL_S)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        # SQLite has one writer. A transaction that has read before another one wrote cannot wait for its turn, however
        # long it may wait for the lock (https://www.sqlite.org/isolation.html). It is rolled back: nothing was done.
        # One that may wait has used up its time for the lock when it fails: two requests of the API server can wait for
        # each other that long. So the limit is for several such calls.
        deadline = time.monotonic() + _CALLS * _LOCK_S
        while True:
            status, answer = self._authorized(method, path, body)
            if not (self._on_sqlite and _is_database_error(status, answer)) or time.monotonic() > deadline:
                return status, answer
            time.sleep(_POLL_S)

    def _authorized(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, dict[str, Any]]:
        for fresh in (False, True):
            if self._token is None or fresh:
                login = {"username": self.username, "password": self.password}
                status, answer = self._send("POST", "/auth/token", login, {})
                if status >= 400:
                    raise DeploymentError(f"No login at {self.url}: {status} {answer}", status=status)
                self._token = str(answer["access_token"])
            status, answer = self._send(method, f"/api/v2{path}", body, {"Authorization": f"Bearer {self._token}"})
            if status != 401:
                break
        return status, answer

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        response = self._http.request(
            method,
            self.url + path,
            body=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/json", "Content-Type": "application/json", **headers},
        )
        try:
            answer = json.loads(response.data or b"{}")
        except ValueError:
            answer = {"text": response.data.decode(errors="replace")}
        return response.status, answer if isinstance(answer, dict) else {"answer": answer}

    def _task_path(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
        path = f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{task_id}"
        return path if map_index < 0 else f"{path}/{map_index}"


def _is_database_error(status: int, answer: Mapping[str, Any]) -> bool:
    """Return whether Airflow's API says that its database failed it, not that the call was wrong."""
    detail = answer.get("detail")
    return status == 500 and isinstance(detail, dict) and detail.get("reason") == "Database error"


def _component_environment(home: Path, port: int, parallelism: int) -> dict[str, str]:
    settings = {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": str(parallelism),
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{_USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        "API__SECRET_KEY": secrets.token_urlsafe(32),
        "API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "WORKERS__EXECUTION_API_TIMEOUT": str(_API_TIMEOUT_S),
        "CORE__DAGBAG_IMPORT_TIMEOUT": str(_PARSE_TIMEOUT_S),
        "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": str(2 * _PARSE_TIMEOUT_S),
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": str(_PARSE_INTERVAL_S),
    }
    return {
        "NO_PROXY": "127.0.0.1,localhost",  # tasks reach the API server directly, whatever proxy the machine has
        "no_proxy": "127.0.0.1,localhost",
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
    }


def _end(components: Sequence[_Component]) -> None:
    for component in components:
        component.process.terminate()
    deadline = time.monotonic() + _STOP_S
    for component in components:
        try:
            component.process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            component.process.kill()
            component.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quoted(run_id: str) -> str:
    # Run ids hold a '+' (the time zone) and ':'; only the first means something else in a URL.
    return run_id.replace("%", "%25").replace("+", "%2B").replace("/", "%2F")


def _tail(text: str, lines: int = 40) -> str:
    return "\n".join(text.splitlines()[-lines:])


def _log_lines(content: Any) -> Iterator[str]:
    for event in content if isinstance(content, list) else [content]:
        if isinstance(event, dict):
            extras = {name: value for name, value in event.items() if name not in _LOG_NOISE}
            yield f"{event.get('level', '')}: {event.get('event', '')} {extras or ''}".rstrip()
        else:
            yield str(event)
