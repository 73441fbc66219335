"""Where access tokens come from: Google's credentials, or none for an emulator.

With STORAGE_EMULATOR_HOST set, as the official client has it, everything goes to that host and no token is ever sent,
whatever credentials there are. With API_ENDPOINT_OVERRIDE set, which the official client honours, too, requests go to
that address with the usual tokens: for Private Service Connect and regional endpoints. GOOGLE_CLOUD_UNIVERSE_DOMAIN
names another universe than googleapis.com.

Requests for tokens go over the connections of `http.py`, so the same proxy and the same authorities hold. They are
repeated a little, and given up after some ten seconds. What may pass by itself (no connection, 408, 429, 5xx, a page in
place of a token) is an UnavailableError, which is worth another try of the task; what cannot is an AuthenticationError.

google-auth is imported on first use: it takes a quarter of a second, and listing workers, which are handed tokens,
never need it.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from urllib3.exceptions import HTTPError

from airflow_dataflux._version import __version__
from airflow_dataflux.core.errors import AuthenticationError, InvalidRequestError, StoreError, UnavailableError
from airflow_dataflux.core.gcs.http import AnyHost, ProxyRefusedError
from airflow_dataflux.core.gcs.http_errors import without_passwords
from airflow_dataflux.core.runtime.tokens import AnonymousTokens, Token, TokenSource

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from airflow_dataflux.core.gcs.http_store import StoreConfig

EMULATOR_VARIABLE = "STORAGE_EMULATOR_HOST"
ENDPOINT_VARIABLE = "API_ENDPOINT_OVERRIDE"
UNIVERSE_VARIABLE = "GOOGLE_CLOUD_UNIVERSE_DOMAIN"

_UNREAD = (AttributeError, KeyError, TypeError, ValueError)
"""What google-auth raises for an answer that is no object of JSON, beside its own errors."""

_ANSWER_S = 6.0
_REPEATED_S = 4.0
_FIRST_PAUSE_S = 0.25
"""No attempt begins later than `_REPEATED_S` after the first, and none takes longer than `_ANSWER_S`: whoever cancels
waits for ten seconds at most, and a metadata server that starts with its pod has the time to."""

_IN_A_POD = "KUBERNETES_SERVICE_HOST"
"""Every pod has this variable (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
Not every pod can read the name of the machine's product, by which google-auth tells Google Cloud."""

_NOT_FOUND = "Your default credentials were not found"
"""How google-auth begins to say that no source had credentials, the metadata server being the last that it asks."""

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
    from airflow_dataflux.core.gcs.http_store import StoreConfig

    endpoint = emulator_endpoint() or _endpoint_override() or f"https://storage.{universe_domain()}"
    return StoreConfig(endpoint=endpoint, user_project=user_project, user_agent=f"airflow-dataflux/{__version__}")


def universe_domain() -> str:
    """Return the universe that requests go to: GOOGLE_CLOUD_UNIVERSE_DOMAIN, or the one that nearly everybody is in."""
    return os.environ.get(UNIVERSE_VARIABLE, "").strip() or "googleapis.com"


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
        requests = TokenRequests(detecting=True)
        requests.begin()
        credentials, _project = google.auth.default(scopes=[SCOPE], request=requests)  # type: ignore[arg-type]
    except (GoogleAuthError, OSError, *_UNREAD) as error:  # a key file that cannot be read, or is JSON of another kind
        raise no_token(error) from error
    return CredentialTokens(credentials)


class CredentialTokens:
    """Tokens of any google-auth credentials. Thread-safe; one refresh at a time.

    Credentials without a scope are given one. With STORAGE_EMULATOR_HOST set it hands out nothing. A token whose
    refresh fails is handed out as long as it lives.
    """

    def __init__(self, credentials: Credentials, requests: TokenRequests | None = None) -> None:
        self._credentials = credentials
        self._prepared = False
        self._lock = threading.Lock()
        self._requests = requests or TokenRequests()
        self._discarded = False

    def fetch(self) -> Token | None:
        """Return a valid token; None for anonymous credentials. Raises AuthenticationError, UnavailableError."""
        if emulator_endpoint():
            return None
        with self._lock:
            self._prepare_once()
            if self._discarded or not self._credentials.valid:
                self._refresh()
                self._discarded = False
            if self._credentials.token is None:
                return None
            quota_project = getattr(self._credentials, "quota_project_id", None)
            return Token(value=self._credentials.token, valid_for_s=self._life_s(), quota_project=quota_project)

    def discard(self) -> None:
        """Do not hand out the present token again: Cloud Storage did not accept it."""
        with self._lock:
            self._discarded = True

    def _prepare_once(self) -> None:
        if not self._prepared:
            from google.auth.credentials import with_scopes_if_required

            _check_universe(self._credentials)
            self._credentials = with_scopes_if_required(self._credentials, [SCOPE])  # type: ignore[no-untyped-call]
            self._prepared = True

    def _refresh(self) -> None:
        from google.auth.exceptions import GoogleAuthError

        self._requests.begin()
        try:
            self._credentials.refresh(self._requests)  # type: ignore[no-untyped-call]
        except (GoogleAuthError, StoreError, *_UNREAD) as error:
            life_s = self._life_s()
            if self._credentials.token and not self._discarded and life_s is not None and life_s > 0:
                return
            if isinstance(error, StoreError):
                raise
            if self._requests.last_status == 200 and not _names_a_refusal(error):
                raise _unavailable(f"the answer holds no token ({error})") from error
            raise _unusable(error) from error

    def _life_s(self) -> float | None:
        expiry: datetime | None = self._credentials.expiry
        if expiry is None:
            return None
        # google-auth's times are UTC without a time zone.
        return (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()


def _names_a_refusal(error: Exception) -> bool:
    """Return whether an answer without a token says why, as OAuth has it, whatever its status (RFC 6749 5.2)."""
    return any(isinstance(answer, dict) and "error" in answer for answer in error.args[1:])


class TokenRequests:
    """What google-auth calls to send a request: a `google.auth.transport.Request` over the connections of `http.py`.

    Raises UnavailableError, which google-auth lets through, for what may pass by itself and did not in some seconds.

    Args:
        detecting: a metadata server that is not there is google-auth's own error, by which it goes on.
        answer_s: how long an answer may take.
        repeated_s: for how long a request is repeated.
    """

    def __init__(
        self, *, detecting: bool = False, answer_s: float = _ANSWER_S, repeated_s: float = _REPEATED_S
    ) -> None:
        self._http = AnyHost()
        self._detecting = detecting
        self._answer_s = answer_s
        self._repeated_s = repeated_s
        self._until = 0.0
        self.last_status: int | None = None

    def begin(self) -> None:
        """Begin the time that one token may take."""
        self._until = time.monotonic() + self._repeated_s
        self.last_status = None

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_options: Any,
    ) -> _TokenResponse:
        """Send a request; again, after a pause, as long as that may help and there is time."""
        data = body.encode() if isinstance(body, str) else body
        timeout_s = min(timeout or self._answer_s, self._answer_s)
        pause_s = _FIRST_PAUSE_S
        while True:
            problem, cause = "", None
            try:
                status, answered, content = self._http.request(
                    method, url, headers=headers or {}, body=data, timeout_s=timeout_s
                )
            except ssl.SSLCertVerificationError as error:
                raise _unusable(f"{_host(url)}: {error}") from error
            except ProxyRefusedError as error:
                raise _unusable(f"{error}; check HTTPS_PROXY (http://user:password@host:port)") from error
            except (OSError, HTTPError) as error:
                if self._detecting and urlsplit(url).path in ("", "/"):
                    from google.auth.exceptions import TransportError

                    raise TransportError(error) from error  # type: ignore[no-untyped-call]
                problem, cause = f"{type(error).__name__}: {error}", error
            else:
                self.last_status = status
                if status in (408, 429, 499) or (status >= 500 and status not in (501, 505)):
                    problem = f"it answered {status}: {_begin_of(content)}"
                elif content.lstrip()[:1] == b"<":
                    problem = f"it answered {status} with a page: {_begin_of(content)}"
                else:
                    return _TokenResponse(status, answered, content)
            if time.monotonic() + pause_s > self._until:
                raise _unavailable(f"{_host(url)}: {without_passwords(problem)}") from cause
            time.sleep(pause_s)
            pause_s *= 2


class _TokenResponse(msgspec.Struct, frozen=True):
    """The answer that google-auth reads."""

    status: int
    headers: Mapping[str, str]
    data: bytes


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _begin_of(content: bytes) -> str:
    return " ".join(content[:100].decode("utf-8", "replace").split())


def _check_universe(credentials: Credentials) -> None:
    """Make sure that credentials are for the universe that requests go to. Raises AuthenticationError."""
    known = getattr(credentials, "_universe_domain", None)  # the public property may ask the metadata server
    if known and known != universe_domain() and not _endpoint_override():
        raise AuthenticationError(
            f"The credentials belong to the universe {known}, but requests would go to {universe_domain()}: set "
            f"{UNIVERSE_VARIABLE}={known}.",
            operation="get an access token",
            resource="",
            status=None,
            reason="another universe",
        )


def no_token(error: Exception) -> StoreError:
    """Return what an error of google-auth, met elsewhere, means: a service that is down now, or useless credentials."""
    cause: BaseException | None = error
    while cause is not None:
        if _may_pass(cause):
            return _unavailable(f"{error}")
        if os.environ.get(_IN_A_POD) and str(cause).startswith(_NOT_FOUND):
            return UnavailableError(
                "Could not get an access token for Cloud Storage: there are no default credentials, and the metadata "
                "server, which gives a pod its own, does not answer. It may take some seconds to be there after the "
                "pod has started: run it again. If it never is, give the pod a service account (Workload Identity), or "
                "the Airflow connection a key.",
                operation="get an access token",
                resource="",
                status=None,
                reason="no metadata server",
            )
        cause = cause.__cause__ or cause.__context__
    return _unusable(error)


def _may_pass(error: BaseException) -> bool:
    from google.auth.exceptions import GoogleAuthError, TransportError

    if isinstance(error, ssl.SSLCertVerificationError):
        return False
    # google-auth marks what it would try again itself (a 5xx of the token's endpoint), but no broken connection.
    lost = isinstance(error, TransportError | ConnectionError | TimeoutError | HTTPError)
    return lost or (isinstance(error, GoogleAuthError) and bool(error.retryable))


def _unavailable(problem: str) -> UnavailableError:
    problem = without_passwords(problem).rstrip(".")
    return UnavailableError(
        f"Could not reach the server that issues access tokens for Cloud Storage: {problem}. Check the network between "
        "this machine and that server, and run it again.",
        operation="get an access token",
        resource="",
        status=None,
        reason=problem,
    )


def _unusable(error: Exception | str) -> AuthenticationError:
    problem = without_passwords(str(error)).rstrip(".")
    return AuthenticationError(
        f"Could not get an access token for Cloud Storage: {problem}. Give the Airflow connection a key or an "
        "impersonation chain, or set up application-default credentials (gcloud auth application-default login).",
        operation="get an access token",
        resource="",
        status=None,
        reason=problem,
    )
