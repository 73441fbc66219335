"""Tokens of Google's credentials, without Google."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import google.auth
import google.auth.credentials
import google.auth.exceptions
import google.oauth2.credentials
import pytest
from google.auth.compute_engine import _metadata

from airflow_dataflux.core.errors import AuthenticationError, InvalidRequestError, UnavailableError
from airflow_dataflux.core.gcs.auth import (
    SCOPE,
    CredentialTokens,
    TokenRequests,
    default_store_config,
    default_tokens,
    emulator_endpoint,
    no_token,
)
from airflow_dataflux.core.gcs.http_store import StoreConfig, open_store
from airflow_dataflux.core.runtime.tokens import AnonymousTokens, CachedTokens


class FakeCredentials(google.auth.credentials.Credentials):
    """Credentials whose refresh is a counter."""

    def __init__(self, life_s: float | None = 3600, failing: bool = False) -> None:
        super().__init__()
        self.life_s = life_s
        self.failing = failing
        self.refreshed = 0

    def refresh(self, request) -> None:
        if self.failing:
            raise google.auth.exceptions.RefreshError("no way")
        self.refreshed += 1
        self.token = f"token-{self.refreshed}"
        if self.life_s is not None:
            self.expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=self.life_s)


class ScopedCredentials(FakeCredentials, google.auth.credentials.Scoped):
    requires_scopes = True

    def with_scopes(self, scopes, default_scopes=None):
        scoped = FakeCredentials()
        scoped.given = scopes
        return scoped


@pytest.fixture(autouse=True)
def real_cloud(monkeypatch):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)


def test_a_token_is_fetched_once_and_its_life_is_told():
    credentials = FakeCredentials(life_s=3600)
    tokens = CredentialTokens(credentials)
    first, second = tokens.fetch(), tokens.fetch()
    assert first.value == second.value == "token-1"
    assert 3500 < first.valid_for_s <= 3600
    assert credentials.refreshed == 1


def test_a_token_near_its_end_is_replaced():
    credentials = FakeCredentials(life_s=5)
    tokens = CredentialTokens(credentials)
    assert [tokens.fetch().value, tokens.fetch().value] == ["token-1", "token-2"]


def test_a_discarded_token_is_replaced():
    credentials = FakeCredentials()
    tokens = CredentialTokens(credentials)
    tokens.fetch()
    tokens.discard()
    assert [tokens.fetch().value, tokens.fetch().value] == ["token-2", "token-2"]


def test_credentials_without_an_end_say_so():
    assert CredentialTokens(FakeCredentials(life_s=None)).fetch().valid_for_s is None


def test_a_living_token_outlasts_a_failed_refresh_and_a_dead_one_does_not():
    credentials = FakeCredentials(life_s=100)  # google-auth wants a new one from 225 s before the end
    tokens = CredentialTokens(credentials)
    tokens.fetch()
    credentials.failing = True
    assert tokens.fetch().value == "token-1"
    credentials.expiry = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)
    with pytest.raises(AuthenticationError, match="no way"):
        tokens.fetch()


def test_a_refused_token_does_not_outlast_a_failed_refresh():
    credentials = FakeCredentials()
    tokens = CredentialTokens(credentials)
    tokens.fetch()
    tokens.discard()
    credentials.failing = True
    with pytest.raises(AuthenticationError):
        tokens.fetch()


def test_credentials_that_need_a_scope_get_the_least():
    tokens = CredentialTokens(ScopedCredentials())
    assert tokens.fetch().value == "token-1"
    assert tokens._credentials.given == [SCOPE]


def test_anonymous_credentials_have_no_token():
    assert CredentialTokens(google.auth.credentials.AnonymousCredentials()).fetch() is None


def test_many_threads_cause_one_refresh():
    credentials = FakeCredentials()
    tokens = CredentialTokens(credentials)
    barrier = threading.Barrier(8)

    def fetch() -> None:
        barrier.wait()
        tokens.fetch()

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert credentials.refreshed == 1


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("https://emulator.example", "https://emulator.example"),
        ("", None),
        ("  ", None),
    ],
)
def test_the_emulators_address_may_lack_a_scheme(monkeypatch, host, endpoint):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
    assert emulator_endpoint() == endpoint
    assert default_store_config("payer").endpoint == (endpoint or "https://storage.googleapis.com")
    assert default_store_config("payer").user_project == "payer"


def test_with_an_emulator_no_credentials_are_looked_for_nor_used(monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:9000")
    monkeypatch.setattr(google.auth, "default", lambda **_: pytest.fail("looked for credentials"))
    assert isinstance(default_tokens(), AnonymousTokens)
    credentials = FakeCredentials()
    assert CredentialTokens(credentials).fetch() is None
    assert credentials.refreshed == 0


def test_missing_default_credentials_are_an_error_that_says_what_to_do(monkeypatch):
    def none(**_):
        raise google.auth.exceptions.DefaultCredentialsError("none found")

    monkeypatch.setattr(google.auth, "default", none)
    with pytest.raises(AuthenticationError, match="gcloud auth application-default login"):
        default_tokens()


@pytest.mark.parametrize("content", [None, "[]", '"text"', '{"type": "service_account", "private_key": 5}', "\0"])
def test_a_key_file_that_is_none_is_an_error_that_says_what_to_do(monkeypatch, tmp_path, content):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    key = tmp_path / "key"
    key.mkdir() if content is None else key.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    with pytest.raises(AuthenticationError, match="application-default credentials"):
        default_tokens()


def test_default_credentials_become_tokens(monkeypatch):
    monkeypatch.setattr(google.auth, "default", lambda scopes, request: (FakeCredentials(), "project"))
    assert default_tokens().fetch().value == "token-1"


def test_another_endpoint_is_asked_with_the_usual_tokens(monkeypatch):
    monkeypatch.delenv("API_ENDPOINT_OVERRIDE", raising=False)
    assert default_store_config().endpoint == "https://storage.googleapis.com"
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", "https://storage.europe-west3.rep.googleapis.com/")
    assert default_store_config().endpoint == "https://storage.europe-west3.rep.googleapis.com"
    assert emulator_endpoint() is None
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:9000")
    assert default_store_config().endpoint == "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    "address", ["http://storage.example", "storage.example", "ftp://127.0.0.1", "http://127.0.0.1.evil.example"]
)
def test_a_token_is_never_sent_in_the_clear(monkeypatch, address):
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", address)
    with pytest.raises(InvalidRequestError, match="https only"):
        default_store_config()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (google.auth.exceptions.TransportError("no route"), UnavailableError),
        (google.auth.exceptions.RefreshError("503", retryable=True), UnavailableError),
        (google.auth.exceptions.RefreshError("invalid_grant"), AuthenticationError),
        (google.auth.exceptions.DefaultCredentialsError("none"), AuthenticationError),
        (ValueError("no key"), AuthenticationError),
    ],
)
def test_only_what_can_get_better_is_worth_another_try(error, expected):
    found = no_token(error)
    assert type(found) is expected
    assert found.retryable == (expected is UnavailableError)
    assert str(error) in str(found)


class TokenServer:
    """Answers requests for tokens, and whatever else, by a list of answers; the last one stays."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes] | threading.Event] = []
        self.heard: list[tuple[str, str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.heard.append((f"{self.command} {self.path}", self.headers.get("X-Goog-User-Project", "")))
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                if isinstance(answer, threading.Event):
                    answer.wait(30)
                    return
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1])))
                self.send_header("Metadata-Flavor", "Google")
                self.end_headers()
                self.wfile.write(answer[1])

            do_POST = do_CONNECT = do_GET  # noqa: N815 - the names that the base class looks for

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(timeout=30)
        self._server.server_close()


@pytest.fixture
def token_server():
    server = TokenServer()
    yield server
    server.close()


def tokens_of(server: TokenServer, address: str | None = None) -> CredentialTokens:
    credentials = google.oauth2.credentials.Credentials(
        None, refresh_token="r", client_id="c", client_secret="s", token_uri=address or f"http://{server.host}/token"
    )
    return CredentialTokens(credentials, TokenRequests(answer_s=0.3, repeated_s=1.0))


GOOD = (200, json.dumps({"access_token": "good", "expires_in": 3600, "token_type": "Bearer"}).encode())
PASSING = {
    "429": (429, b"slow down"),
    "408": (408, b""),
    "500": (500, b"{}"),
    "503 as HTML": (503, b"<html>later</html>"),
    "a page in place of a token": (200, b"<html>log in</html>"),
    "499": (499, b""),
    "silence": threading.Event(),
}
FINAL = {
    "an invalid grant": (400, b'{"error": "invalid_grant", "error_description": "Token has been revoked."}'),
    "a wrong client": (401, b'{"error": "invalid_client"}'),
    "no right to impersonate": (403, b'{"error": {"status": "PERMISSION_DENIED"}}'),
    "no such service account": (404, b"not found"),
    "not offered": (501, b""),
}


@pytest.mark.parametrize("what", PASSING)
def test_a_token_endpoint_that_is_down_for_a_moment_is_asked_again(token_server, what):
    token_server.answers = [PASSING[what], GOOD]
    assert tokens_of(token_server).fetch().value == "good"
    assert len(token_server.heard) == 2


@pytest.mark.parametrize("what", [*PASSING, "JSON without a token"])
def test_a_token_endpoint_that_stays_down_is_worth_another_try_of_the_task(token_server, what):
    token_server.answers = [PASSING.get(what, (200, b'{"message": "maintenance"}'))]
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="access tokens"):
        tokens_of(token_server).fetch()
    assert time.monotonic() - began < 10  # a second, and what a busy machine adds: it does not hang


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"text"', b'{"access_tok', b"\xff"])
def test_an_answer_that_is_no_token_is_an_error_of_ours_and_worth_a_retry(token_server, body):
    token_server.answers = [(200, body)]
    with pytest.raises(UnavailableError, match="no token"):
        tokens_of(token_server).fetch()


@pytest.mark.parametrize("what", FINAL)
def test_what_a_token_endpoint_refuses_is_final_and_asked_for_once(token_server, what):
    token_server.answers = [FINAL[what]]
    with pytest.raises(AuthenticationError) as caught:
        tokens_of(token_server).fetch()
    assert not caught.value.retryable
    assert len(token_server.heard) == 1


def test_tokens_are_asked_for_through_the_proxy_that_the_store_uses(token_server, monkeypatch):
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("https_proxy", f"http://me:secret@{token_server.host}")
    token_server.answers = [(407, b"")]
    with pytest.raises(AuthenticationError, match="407") as caught:
        tokens_of(token_server, "https://oauth2.example/token").fetch()
    assert token_server.heard == [("CONNECT oauth2.example:443", "")]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("where", ["elsewhere", "a machine of Google's", "a pod", "a pod with a key file"])
def test_a_metadata_server_that_is_not_there_yet_is_worth_a_retry_where_there_may_be_one(monkeypatch, tmp_path, where):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{reserved.getsockname()[1]}"
        product = "Google Compute Engine" if where == "a machine of Google's" else ""
        (tmp_path / "product").write_text(product, encoding="ascii")
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        if "pod" in where:
            monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        if "key file" in where:
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        monkeypatch.setattr(_metadata, "_GCE_PRODUCT_NAME_FILE", str(tmp_path / "product"))
        monkeypatch.setattr(_metadata, "_get_metadata_root", lambda *_, **__: f"http://{host}/computeMetadata/v1/")
        monkeypatch.setattr(_metadata, "_get_metadata_ip_root", lambda *_, **__: f"http://{host}")
        again = where in ("a machine of Google's", "a pod")
        with pytest.raises(UnavailableError if again else AuthenticationError) as caught:
            default_tokens().fetch()
        assert caught.value.retryable is again
        if where == "a pod":
            assert "after the pod has started: run it again" in str(caught.value)


def test_a_metadata_server_that_answers_with_errors_is_worth_a_retry(token_server):
    token_server.answers = [(503, b"starting")]
    credentials = google.oauth2.credentials.Credentials(None)
    credentials.refresh = lambda request: _metadata.get(request, "x", root=f"http://{token_server.host}/v1")
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="503"):
        CredentialTokens(credentials, TokenRequests(answer_s=0.3, repeated_s=0.4)).fetch()
    assert time.monotonic() - began < 10  # google-auth alone takes 15 s for it


def test_the_project_of_quotas_goes_with_each_request_unless_another_is_billed(token_server):
    credentials = FakeCredentials()
    credentials._quota_project_id = "quotas"
    tokens = CachedTokens(CredentialTokens(credentials))
    token_server.answers = [(200, b'{"kind": "storage#bucket", "name": "bkt"}')]
    for user_project in (None, "payer"):
        config = StoreConfig(endpoint=f"http://{token_server.host}", user_project=user_project)
        store = open_store(config, tokens, connections=1)
        assert store.bucket_info("bkt").name == "bkt"
        store.close()
    assert [project for _, project in token_server.heard] == ["quotas", ""]
    assert tokens.fetch().quota_project == "quotas"


def test_another_universe_has_another_endpoint_and_credentials_of_its_own(monkeypatch):
    credentials = FakeCredentials()
    credentials._universe_domain = "example.goog"
    with pytest.raises(AuthenticationError, match=r"GOOGLE_CLOUD_UNIVERSE_DOMAIN=example\.goog"):
        CredentialTokens(credentials).fetch()
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "example.goog")
    assert default_store_config().endpoint == "https://storage.example.goog"
    assert CredentialTokens(credentials).fetch().value == "token-1"
    with pytest.raises(AuthenticationError, match=r"googleapis\.com"):
        CredentialTokens(FakeCredentials()).fetch()
