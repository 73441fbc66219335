"""Where access tokens come from: Google's credentials, or none for an emulator.

With STORAGE_EMULATOR_HOST set, as the official client has it, everything goes to that host and no token is ever sent,
whatever credentials there are. With API_ENDPOINT_OVERRIDE set, which the official client honours, too, requests go to
that address with the usual tokens: for Private Service Connect and regional endpoints.

google-auth is imported on first use: it takes a quarter of a second, and listing workers, which are handed tokens,
never need it.
"""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_dataflux import __version__
from airflow_dataflux.core.config import StoreConfig
from airflow_dataflux.core.errors import AuthenticationError, InvalidRequestError, StoreError, UnavailableError
from airflow_dataflux.core.runtime.tokens import AnonymousTokens, Token, TokenSource

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.auth.transport.urllib3 import Request

EMULATOR_VARIABLE = "STORAGE_EMULATOR_HOST"
ENDPOINT_VARIABLE = "API_ENDPOINT_OVERRIDE"

_LOOPBACK = ("127.0.0.1", "::1", "localhost")

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
"""The least that lists, reads, composes and deletes (https://cloud.google.com/storage/docs/oauth-scopes)."""


def emulator_endpoint() -> str | None:
    """Return the address in STORAGE_EMULATOR_HOST, with or without a scheme there; None if it is not set."""
    host = os.environ.get(EMULATOR_VARIABLE, "").strip().rstrip("/")
    if not host:
        return None
    return host if host.startswith(("http://", "https://")) else f"http://{host}"


def default_store_config(user_project: str | None = None) -> StoreConfig:
    """Return the address of Cloud Storage, or the one in the environment. Raises InvalidRequestError."""
    endpoint = emulator_endpoint() or _endpoint_override() or "https://storage.googleapis.com"
    return StoreConfig(endpoint=endpoint, user_project=user_project, user_agent=f"airflow-dataflux/{__version__}")


def _endpoint_override() -> str | None:
    endpoint = os.environ.get(ENDPOINT_VARIABLE, "").strip().rstrip("/")
    if not endpoint:
        return None
    address = urlsplit(endpoint)
    if not (address.scheme == "https" or (address.scheme == "http" and address.hostname in _LOOPBACK)):
        raise InvalidRequestError(
            f"{ENDPOINT_VARIABLE} is {endpoint!r}, but access tokens are sent over https only: give https://host."
        )
    return endpoint


def default_tokens() -> TokenSource:
    """Return tokens of the application-default credentials; anonymous ones with STORAGE_EMULATOR_HOST set.

    Raises AuthenticationError if there are no such credentials, UnavailableError if a service that gives them is down.
    """
    if emulator_endpoint():
        return AnonymousTokens()
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        credentials, _project = google.auth.default(scopes=[SCOPE])
    except GoogleAuthError as error:
        raise no_token(error) from error
    return CredentialTokens(credentials)


class CredentialTokens:
    """Tokens of any google-auth credentials. Thread-safe; one refresh at a time.

    Credentials without a scope are given one. With STORAGE_EMULATOR_HOST set it hands out nothing. A token whose
    refresh fails is handed out as long as it lives.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._scoped = False
        self._lock = threading.Lock()
        self._request: Request | None = None
        self._discarded = False

    def fetch(self) -> Token | None:
        """Return a valid token; None for anonymous credentials. Raises AuthenticationError, UnavailableError."""
        if emulator_endpoint():
            return None
        with self._lock:
            self._scope_once()
            if self._discarded or not self._credentials.valid:
                self._refresh()
                self._discarded = False
            if self._credentials.token is None:
                return None
            return Token(value=self._credentials.token, valid_for_s=self._life_s())

    def discard(self) -> None:
        """Do not hand out the present token again: Cloud Storage did not accept it."""
        with self._lock:
            self._discarded = True

    def _scope_once(self) -> None:
        if not self._scoped:
            from google.auth.credentials import with_scopes_if_required

            self._credentials = with_scopes_if_required(self._credentials, [SCOPE])  # type: ignore[no-untyped-call]
            self._scoped = True

    def _refresh(self) -> None:
        from google.auth.exceptions import GoogleAuthError

        try:
            self._credentials.refresh(self._transport())  # type: ignore[no-untyped-call]
        except GoogleAuthError as error:
            life_s = self._life_s()
            if self._credentials.token and not self._discarded and life_s is not None and life_s > 0:
                return
            raise no_token(error) from error

    def _transport(self) -> Request:
        if self._request is None:
            import urllib3
            from google.auth.transport.urllib3 import Request

            # Its own connections: those of the store are closed with the store, and tokens are needed after that.
            self._request = Request(urllib3.PoolManager())  # type: ignore[no-untyped-call]
        return self._request

    def _life_s(self) -> float | None:
        expiry: datetime | None = self._credentials.expiry
        if expiry is None:
            return None
        # google-auth's times are UTC without a time zone.
        return (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()


def no_token(error: Exception) -> StoreError:
    """Return what an error of google-auth means: a service that is down now, or credentials that never will do."""
    from google.auth.exceptions import GoogleAuthError, TransportError

    details = {"operation": "get an access token", "resource": "", "status": None, "reason": str(error)}
    # google-auth marks what it would try again itself (a 5xx of the token's endpoint), but no broken connection.
    lost = isinstance(error, TransportError | ConnectionError | TimeoutError)
    if lost or (isinstance(error, GoogleAuthError) and error.retryable):
        return UnavailableError(f"Could not reach who hands out access tokens for Cloud Storage: {error}.", **details)
    return AuthenticationError(
        f"Could not get an access token for Cloud Storage: {error}. Give the Airflow connection a key or an "
        "impersonation chain, or set up application-default credentials (gcloud auth application-default login).",
        **details,
    )
