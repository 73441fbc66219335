"""Tokens of Google's credentials, without Google."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import google.auth
import google.auth.credentials
import google.auth.exceptions
import pytest

from airflow_dataflux.core.errors import AuthenticationError, InvalidRequestError, UnavailableError
from airflow_dataflux.core.gcs.auth import (
    SCOPE,
    CredentialTokens,
    default_store_config,
    default_tokens,
    emulator_endpoint,
    no_token,
)
from airflow_dataflux.core.runtime.tokens import AnonymousTokens


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


def test_default_credentials_become_tokens(monkeypatch):
    monkeypatch.setattr(google.auth, "default", lambda scopes: (FakeCredentials(), "project"))
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
