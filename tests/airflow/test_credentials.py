"""Any Google connection of Airflow reaches the engine and its workers as short-lived tokens, and as nothing else.

A real connection, Google's own library, and a token endpoint on 127.0.0.1 whose tokens live for seconds, so that every
run outlives several of them. The storage server accepts only tokens that were issued and have not ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import google.auth.external_account
import google.auth.iam
import pytest
import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dag_runs import AIRFLOW_3_0, run_dag
from process_table import descendants, engines_among

from airflow_dataflux.testing import GCSServer

pytestmark = pytest.mark.usefixtures("airflow_database")

TOKEN_LIFE_S = 3.0
SUBJECT_TOKEN = "subject-token-of-a-workload"
ROBOT = "robot@project.iam.gserviceaccount.com"


@dataclass
class TokenEndpoint:
    """Issues the server's tokens in the three ways that Google does: OAuth, token exchange, impersonation."""

    server: GCSServer
    url: str = ""
    issued: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def issue(self, path: str, body: bytes) -> dict[str, Any]:
        with urllib3.PoolManager() as http:
            minted = http.request("POST", f"{self.server.endpoint}/token").json()
        token = minted["access_token"]
        self.issued.append(token)
        if path.endswith(":generateAccessToken"):
            self.asked.append("impersonation")
            end = datetime.now(UTC) + timedelta(seconds=TOKEN_LIFE_S)
            return {"accessToken": token, "expireTime": end.strftime("%Y-%m-%dT%H:%M:%SZ")}
        self.asked.append(urllib.parse.parse_qs(body.decode())["grant_type"][0].rpartition(":")[2])
        return {**minted, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}


@pytest.fixture
def guarded() -> Iterator[GCSServer]:
    """A server that wants tokens, and is no emulator for anybody: no variable names it."""
    with GCSServer(token_life_s=TOKEN_LIFE_S) as server:
        yield server


@pytest.fixture
def endpoint(guarded: GCSServer) -> Iterator[TokenEndpoint]:
    issuing = TokenEndpoint(guarded)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Google's library asks which project an external account belongs to; this package has no use for it.
            self.answer({"projectId": "project"})

        def do_POST(self) -> None:
            self.answer(issuing.issue(self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0))))

        def answer(self, value: dict[str, Any]) -> None:
            answer = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        issuing.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield issuing
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def secrets_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where users of this test keep their own files of credentials; what we write must be elsewhere."""
    return tmp_path_factory.mktemp("users-own-secrets")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where temporary files can go, here and in child processes."""
    scratch = tmp_path / "temporary"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    return scratch


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """One kind of connection: its extras, and what the run needs beside it."""

    extra: dict[str, Any]
    conf: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    asked: tuple[str, ...]


def service_account(endpoint: TokenEndpoint, private_key: str) -> dict[str, str]:
    return {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "key-1",
        "private_key": private_key,
        "client_email": ROBOT,
        "token_uri": f"{endpoint.url}/token",
    }


def external_account(endpoint: TokenEndpoint, directory: Path) -> dict[str, Any]:
    (directory / "subject-token").write_text(SUBJECT_TOKEN)
    return {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{endpoint.url}/sts",
        "credential_source": {"file": str(directory / "subject-token")},
    }


def key_in_the_connection(endpoint: TokenEndpoint, key: str, directory: Path) -> Credentials:
    return Credentials(extra={"keyfile_dict": service_account(endpoint, key)}, asked=("jwt-bearer",))


def application_default(endpoint: TokenEndpoint, key: str, directory: Path) -> Credentials:
    (directory / "adc.json").write_text(json.dumps(service_account(endpoint, key)))
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(directory / "adc.json")}
    return Credentials(extra={}, environment=environment, asked=("jwt-bearer",))


def impersonation_chain(endpoint: TokenEndpoint, key: str, directory: Path) -> Credentials:
    return Credentials(
        extra={"keyfile_dict": service_account(endpoint, key)},
        conf={"impersonation_chain": ["middle@project.iam.gserviceaccount.com", "end@project.iam.gserviceaccount.com"]},
        asked=("impersonation", "jwt-bearer"),
    )


def workload_identity(endpoint: TokenEndpoint, key: str, directory: Path) -> Credentials:
    (directory / "workload.json").write_text(json.dumps(external_account(endpoint, directory)))
    return Credentials(extra={"credential_config_file": str(directory / "workload.json")}, asked=("token-exchange",))


def workload_identity_with_impersonation(endpoint: TokenEndpoint, key: str, directory: Path) -> Credentials:
    config = external_account(endpoint, directory)
    config["service_account_impersonation_url"] = f"{endpoint.url}/v1/projects/-/serviceAccounts/x:generateAccessToken"
    (directory / "workload.json").write_text(json.dumps(config))
    return Credentials(
        extra={"credential_config_file": str(directory / "workload.json")}, asked=("impersonation", "token-exchange")
    )


KINDS = [
    key_in_the_connection,
    application_default,
    impersonation_chain,
    workload_identity,
    workload_identity_with_impersonation,
]


@dataclass
class Watched:
    """What anybody on the machine can see of the engine and its workers: command lines and environments."""

    processes: dict[int, bytes] = field(default_factory=dict)

    def look(self) -> None:
        for pid in engines_among(descendants(os.getpid())):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                at = Path("/proc", str(pid))
                self.processes[pid] = (at / "cmdline").read_bytes() + (at / "environ").read_bytes()


@pytest.fixture
def watched() -> Iterator[Watched]:
    seen, over = Watched(), threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            seen.look()

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    over.set()
    thread.join()


def files_with(secrets: list[bytes], *roots: Path) -> list[str]:
    """Return every file below `roots` that holds a secret."""
    found = []
    for root in roots:
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                found += [f"{path}: {secret[:20]!r}" for secret in secrets if secret in data]
    return found


@dataclass
class Site:
    """A connection of some kind, and all the places where its secrets must not be found afterwards."""

    conf: dict[str, Any]
    asked: tuple[str, ...]
    secrets: list[bytes]
    endpoint: TokenEndpoint
    places: tuple[Path, ...]
    watched: Watched
    log: Callable[[], list[str]]

    def found(self) -> list[str]:
        secrets = [*self.secrets, *(token.encode() for token in self.endpoint.issued)]
        seen = [f"process {pid}" for pid, text in self.watched.processes.items() for one in secrets if one in text]
        logged = "\n".join(self.log()).encode()
        return seen + [f"log: {one[:20]!r}" for one in secrets if one in logged] + files_with(secrets, *self.places)


@pytest.fixture
def connect(
    guarded: GCSServer,
    endpoint: TokenEndpoint,
    private_key: str,
    secrets_directory: Path,
    scratch: Path,
    tmp_path: Path,
    airflow_home: Path,
    watched: Watched,
    airflow_log: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Site]:
    """Return a function that makes the connection `guarded` of one kind."""

    def make(kind: Callable[[TokenEndpoint, str, Path], Credentials]) -> Site:
        credentials = kind(endpoint, private_key, secrets_directory)
        connection = {"conn_type": "google_cloud_platform", "extra": credentials.extra}
        monkeypatch.setenv("AIRFLOW_CONN_GUARDED", json.dumps(connection))
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.setenv("API_ENDPOINT_OVERRIDE", guarded.endpoint)
        for name, value in credentials.environment.items():
            monkeypatch.setenv(name, value)
        # Two addresses are constants of Google's library.
        monkeypatch.setattr(google.auth.external_account, "_CLOUD_RESOURCE_MANAGER", endpoint.url + "/v1/projects/")
        monkeypatch.setattr(google.auth.iam, "_IAM_ENDPOINT", endpoint.url + "/v1/{}:generateAccessToken")
        line = private_key.splitlines()[5].encode()
        return Site(
            conf={"gcp_conn_id": "guarded", **credentials.conf},
            asked=credentials.asked,
            secrets=[line, SUBJECT_TOKEN.encode()],
            endpoint=endpoint,
            places=(tmp_path, airflow_home),
            watched=watched,
            log=airflow_log,
        )

    return make


@pytest.mark.slow
@pytest.mark.usefixtures("early_hand_over")
@pytest.mark.parametrize("kind", KINDS)
def test_a_listing_outlives_its_tokens_and_its_workers_see_nothing_else(
    connect: Callable[..., Site], guarded: GCSServer, tmp_path: Path, kind: Any
) -> None:
    site = connect(kind)
    guarded.configure(page_cap=50, latency_s={"list": 0.2})
    guarded.create_bucket("guarded")
    guarded.synthesize("guarded", count=20_000)
    conf = {**site.conf, "bucket": "guarded", "streams": "8", "workers": "2"}
    run = run_dag("list_only", {**conf, "manifest_uri": (tmp_path / "manifest").as_uri()})
    assert run.state == "success", "\n".join(site.log())
    assert run.xcom("list")["object_count"] == 20_000
    assert len(site.watched.processes) >= 3, "an engine and two workers were at work"
    assert len(set(site.endpoint.issued)) >= 3, "the run outlived its first tokens"
    assert tuple(sorted(set(site.endpoint.asked))) == site.asked
    assert site.found() == []


@pytest.mark.slow
def test_a_staging_outlives_its_tokens_and_leaves_no_composite(
    connect: Callable[..., Site], guarded: GCSServer, tmp_path: Path
) -> None:
    site = connect(key_in_the_connection)
    guarded.create_bucket("guarded")
    guarded.synthesize("guarded", count=4_000, size=2_000)
    conf = {**site.conf, "bucket": "guarded", "manifest_uri": (tmp_path / "manifest").as_uri()}
    reference = run_dag("list_only", conf).xcom("list")
    guarded.configure(latency_s={"read": 0.5, "compose": 0.5})
    staging = {"manifest": reference, "destination": str(tmp_path / "staged"), "strategy": "compose"}
    run = run_dag("stage_only", {**site.conf, **staging, "max_in_flight": "4", "workers": "2"})
    assert run.state == "success", "\n".join(site.log())
    summary = run.xcom("stage")
    assert (summary["downloaded"], summary["leftovers"]) == (4_000, [])
    assert len(set(site.endpoint.issued)) >= 4, "listing and staging outlived their first tokens"
    assert guarded.names("guarded", "dataflux-composed-objects/") == []
    assert site.found() == []


def test_a_refused_connection_fails_the_first_try_and_tells_no_secret(
    connect: Callable[..., Site], guarded: GCSServer, endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = connect(key_in_the_connection)
    guarded.create_bucket("guarded")
    guarded.configure(tokens={}, token_life_s=None)  # it hands out none any more, and accepts none
    monkeypatch.setattr(TokenEndpoint, "issue", lambda *_: {"error": "invalid_grant"})
    run = run_dag("list_only", {**site.conf, "bucket": "guarded"})
    assert (str(run.task("list").state), run.task("list").try_number) == ("failed", 1)
    assert "AuthenticationError" in "\n".join(site.log())
    if AIRFLOW_3_0:
        return  # where dag.test() prints the local variables of a traceback, which the logs of a worker do not have
    assert site.found() == []
