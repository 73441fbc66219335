"""What a deployment's calls make of answers that the API server gives when its database is busy."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_deployment import AirflowDeployment, DeploymentError, deployment

BUSY = (500, {"detail": {"reason": "Database error", "statement": "hidden"}})


class Api(ThreadingHTTPServer):
    """The edge of Airflow: answers what it is told to, one call after the other."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.calls: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = (201, {"access_token": "x"}) if self.path == "/auth/token" else self.server.answers.pop(0)
        self.server.calls.append(self.path)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_call_that_found_the_database_busy_is_made_again(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "_POLL_S", 0.01)
    api.answers = [BUSY, BUSY, (200, {"dag_run_id": "manual"})]
    airflow = AirflowDeployment(tmp_path / "home", tmp_path, port=api.server_port)
    assert airflow.request("POST", "/dags/one/dagRuns", {}) == {"dag_run_id": "manual"}
    assert api.calls == ["/auth/token", *["/api/v2/dags/one/dagRuns"] * 3]


@pytest.mark.parametrize(
    ("connection", "answer"),
    [
        ("sqlite:///x", (500, {"detail": "a bug"})),
        ("sqlite:///x", (409, {"detail": "exists"})),
        ("postgresql://x", BUSY),
    ],
    ids=["another failure", "a wrong call", "another database"],
)
def test_no_other_failure_is_tried_again(
    api: Api, tmp_path: Path, connection: str, answer: tuple[int, dict[str, Any]]
) -> None:
    api.answers = [answer]
    environment = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": connection}
    airflow = AirflowDeployment(tmp_path / "home", tmp_path, environment=environment, port=api.server_port)
    with pytest.raises(DeploymentError, match=str(answer[0])):
        airflow.request("POST", "/dags/one/dagRuns", {})


def test_a_database_that_stays_busy_is_an_error(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "_LOCK_S", 0)
    api.answers = [BUSY]
    airflow = AirflowDeployment(tmp_path / "home", tmp_path, port=api.server_port)
    with pytest.raises(DeploymentError, match="Database error"):
        airflow.request("POST", "/dags/one/dagRuns", {})
