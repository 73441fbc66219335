"""Sends requests: connections, access token, pacing, retries and counts, once for all operations.

Guarantees:
- thread-safe; up to `connections` connections are kept alive and reused, more are opened when more threads ask;
- no access token goes over plain HTTP to another machine, and none at all while STORAGE_EMULATOR_HOST is set;
- every wait (back-off, pacing) ends at once when the work is cancelled; a request under way ends with its time-out;
- whatever goes wrong becomes an error of `core/errors.py`.

Assumptions: one transport belongs to one process; it must not be carried over a fork. Redirects are not followed, as
the JSON API sends none for these calls.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError
from urllib3.util import Timeout

from airflow_dataflux import __version__
from airflow_dataflux.core.config import StoreConfig
from airflow_dataflux.core.errors import AuthenticationError, InvalidRequestError, StoreError
from airflow_dataflux.core.gcs.operations import Call, Operation
from airflow_dataflux.core.gcs.pacing import Budgets
from airflow_dataflux.core.gcs.refusals import connection_error, error_of, read_refusal, unreadable_error
from airflow_dataflux.core.gcs.retry import Attempts, FailureKind, RetryPolicy, retry_after_s
from airflow_dataflux.core.gcs.stall import StallLimit
from airflow_dataflux.core.gcs.store import RequestCounts
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import CachedTokens, TokenSource

log = logging.getLogger(__name__)

T = TypeVar("T")

_CONNECT_TIMEOUT_S = 10.0
_SLOW_TIMEOUT_S = 60.0
"""For requests whose time depends on what they are asked to do (the official client's default)."""

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """What a transport needs beside the store's address."""

    tokens: TokenSource
    cancel: CancelToken
    policy: RetryPolicy
    budgets: Budgets


class Transport:
    """Sends calls to one endpoint."""

    def __init__(self, config: StoreConfig, access: Access, *, connections: int) -> None:
        self._pool = _connection_pool(config.endpoint, connections)
        self.cancel = access.cancel
        self.policy = access.policy
        self._budgets = access.budgets
        self._counter = _Counter()
        self._headers = _Headers(config, access.tokens)
        self._stalls = {
            "list objects": StallLimit(least_s=2.0),
            "read metadata": StallLimit(least_s=2.0),
            # A body that shares a full line with others pauses longer than a page does.
            "read": StallLimit(least_s=5.0),
        }
        self._timeouts: dict[float, Timeout] = {}

    def send(self, call: Call, decode: Callable[[bytes], T]) -> T:
        """Send `call` until it is answered, and return its decoded body.

        `decode` raises ValueError for a body that it cannot read, which counts as an answer that was lost.
        """
        return self._repeat(
            call, lambda attempt: self._whole_answer(call, attempt, lambda body, _headers: decode(body))
        )

    def send_for_headers(self, call: Call, decode: Callable[[bytes, Mapping[str, str]], T]) -> T:
        """Do as `send`, for a body that cannot be read without its headers."""
        return self._repeat(call, lambda attempt: self._whole_answer(call, attempt, decode))

    def open(self, call: Call) -> urllib3.BaseHTTPResponse:
        """Send `call` until it is answered, and return the response with its body unread.

        The caller must release or close the response.
        """
        return self._repeat(call, lambda attempt: self._response(call, attempt, preload=False))

    def counts(self) -> RequestCounts:
        """Return what was sent so far."""
        return self._counter.total()

    def note_refused_part(self, *, sent_at: float, status: int) -> None:
        """Account for one part of a batch that is to be sent again."""
        self._counter.retried(throttled=status == 429)
        if status in (429, 503):
            self._budgets.write.throttled(sent_at, certain=status == 429)

    def close(self) -> None:
        """Close all idle connections."""
        self._pool.close()

    def _repeat(self, call: Call, attempt_once: Callable[[int], T | _Failure]) -> T:
        attempts = Attempts(self.policy)
        token_renewed = False
        while True:
            self.cancel.raise_if_cancelled()
            outcome = attempt_once(attempts.count)
            if not isinstance(outcome, _Failure):
                return outcome
            if outcome.status == 401 and not token_renewed and self._headers.renew():
                token_renewed = True
                delay_s: float | None = 0.0
            else:
                delay_s = attempts.next_delay_s(
                    outcome.kind,
                    repeatable=call.repeatable,
                    connection_lost=outcome.connection_lost,
                    retry_after_s=outcome.retry_after_s,
                )
            if delay_s is None:
                raise outcome.error(attempts.count, attempts.elapsed_s()) from outcome.cause
            log.debug(
                "%s %s: attempt %d failed (%s), next in %.2f s",
                call.operation.name, call.resource, attempts.count, outcome.status or outcome.cause, delay_s,
            )  # fmt: skip
            self._counter.retried(throttled=outcome.status == 429)
            attempts.wait(delay_s, self.cancel)

    def _whole_answer(self, call: Call, attempt: int, decode: Callable[[bytes, Mapping[str, str]], T]) -> T | _Failure:
        response = self._response(call, attempt, preload=True)
        if isinstance(response, _Failure):
            return response
        try:
            return decode(response.data, response.headers)
        except ValueError as cause:
            problem = str(cause)
            return _Failure(
                kind=FailureKind.UNCERTAIN,
                error=lambda attempts, _elapsed_s: unreadable_error(call, problem, attempts=attempts),
                cause=cause,
            )

    def _response(self, call: Call, attempt: int, *, preload: bool) -> urllib3.BaseHTTPResponse | _Failure:
        """Send once. Return the response if it is a success."""
        operation = call.operation
        budget = self._budgets.of(operation.budget)
        headers = self._headers.of(call)
        sent_at = budget.acquire(call.weight, self.cancel)
        self._counter.sent(operation, call.weight)
        try:
            response = self._pool.urlopen(
                call.method,
                call.target,
                body=call.body or None,
                headers=headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=self._timeout(operation, attempt),
                preload_content=preload,
                decode_content=preload,  # a body that is streamed is wanted as stored
            )
            status = response.status
            refused = status >= 300
            if refused and not preload:
                body = response.read()
                response.release_conn()
            elif refused:
                body = response.data
        except (HTTPError, OSError) as cause:
            return _lost(call, cause)
        if not refused:
            stall = self._stalls.get(operation.name)
            if stall is not None:
                stall.answered(time.monotonic() - sent_at)
            budget.accepted(call.weight)
            return response
        refusal = read_refusal(status, body)
        if status in (429, 503):
            budget.throttled(sent_at, certain=status == 429)
        return _Failure(
            kind=self.policy.kind_of_status(status, refusal.reason),
            error=lambda attempts, elapsed_s: error_of(call, refusal, attempts=attempts, elapsed_s=elapsed_s),
            status=status,
            retry_after_s=retry_after_s(response.headers.get("retry-after")),
        )

    def _timeout(self, operation: Operation, attempt: int) -> Timeout:
        stall = self._stalls.get(operation.name)
        seconds = stall.limit_s(attempt) if stall else _SLOW_TIMEOUT_S
        timeout = self._timeouts.get(seconds)
        if timeout is None:
            timeout = self._timeouts[seconds] = Timeout(connect=_CONNECT_TIMEOUT_S, read=seconds)
        return timeout


@dataclass(frozen=True, kw_only=True, slots=True)
class _Failure:
    """One attempt that did not succeed."""

    kind: FailureKind
    error: Callable[[int, float], StoreError]
    status: int | None = None
    retry_after_s: float | None = None
    connection_lost: bool = False
    cause: Exception | None = None


def _lost(call: Call, cause: HTTPError | OSError) -> _Failure:
    """Judge a call that got no whole answer."""
    if isinstance(cause, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(cause):
        kind = FailureKind.FINAL
    elif isinstance(cause, NewConnectionError | ConnectTimeoutError):
        kind = FailureKind.REFUSED
    else:
        kind = FailureKind.UNCERTAIN
    problem = f"{type(cause).__name__}: {cause}".rstrip(".")
    return _Failure(
        kind=kind,
        error=lambda attempts, elapsed_s: connection_error(call, problem, attempts=attempts, elapsed_s=elapsed_s),
        connection_lost=True,
        cause=cause,
    )


class _Headers:
    """The headers of every request, among them the access token."""

    def __init__(self, config: StoreConfig, tokens: TokenSource) -> None:
        agent = config.user_agent if "/" in config.user_agent else f"{config.user_agent}/{__version__}"
        self._common = {
            "User-Agent": f"{agent} urllib3/{urllib3.__version__}",
            "Accept": "*/*",
            # Pages and metadata uncompressed: inside Google's network bytes cost less than the CPU to unpack them.
            "Accept-Encoding": "identity",
        }
        self._endpoint = config.endpoint
        self._secure = urlsplit(config.endpoint).scheme == "https"
        self._local = urlsplit(config.endpoint).hostname in _LOOPBACK
        self._source = tokens
        self._tokens: CachedTokens | None = None
        if not os.environ.get("STORAGE_EMULATOR_HOST"):
            self._tokens = tokens if isinstance(tokens, CachedTokens) else CachedTokens(tokens)

    def of(self, call: Call) -> dict[str, str]:
        headers = {**self._common, **call.headers}
        token = self._tokens.fetch() if self._tokens is not None else None
        if token is not None:
            if not (self._secure or self._local):
                raise AuthenticationError(
                    f"Refused to send an access token to {self._endpoint} over plain HTTP: use an https:// endpoint, "
                    "or anonymous access for an emulator (set STORAGE_EMULATOR_HOST).",
                    operation=call.operation.name, resource=call.resource, status=None, reason="plain HTTP",
                )  # fmt: skip
            headers["Authorization"] = f"Bearer {token.value}"
        return headers

    def renew(self) -> bool:
        """Forget the token; return whether there can be another."""
        if self._tokens is None or self._tokens.fetch() is None:
            return False
        self._tokens.discard()
        # A source that caches, too, would hand out the same token again.
        discard = getattr(self._source, "discard", None)
        if discard is not None:
            discard()
        return True


class _Counter:
    """Counts requests. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._figures = {"class_a": 0, "class_b": 0, "free": 0, "retries": 0, "throttled": 0}

    def sent(self, operation: Operation, weight: int) -> None:
        with self._lock:
            self._figures[operation.bills] += weight

    def retried(self, *, throttled: bool) -> None:
        with self._lock:
            self._figures["retries"] += 1
            self._figures["throttled"] += throttled

    def total(self) -> RequestCounts:
        with self._lock:
            return RequestCounts(**self._figures)


def _connection_pool(endpoint: str, connections: int) -> urllib3.HTTPConnectionPool:
    """Return a pool for `endpoint`, through the proxy that the environment names, if it names one."""
    address = urlsplit(endpoint)
    if address.scheme not in ("http", "https") or not address.hostname or address.path.strip("/"):
        raise InvalidRequestError(
            f"{endpoint!r} is not the address of Cloud Storage: give scheme and host, such as "
            "'https://storage.googleapis.com' or 'http://127.0.0.1:9000'."
        )
    if address.scheme == "http":
        return urllib3.HTTPConnectionPool(address.hostname, address.port, maxsize=connections, block=False)
    context = ssl.create_default_context()
    if not context.get_ca_certs():
        _trust_certifi(context)
    proxy = urllib.request.getproxies().get("https")
    if proxy and not urllib.request.proxy_bypass(address.hostname):
        proxies = urllib3.ProxyManager(proxy, maxsize=connections, block=False, ssl_context=context)
        return proxies.connection_from_url(endpoint)
    return urllib3.HTTPSConnectionPool(
        address.hostname, address.port, maxsize=connections, block=False, ssl_context=context
    )


def _trust_certifi(context: ssl.SSLContext) -> None:
    """Add certifi's authorities: slim container images come without the system's."""
    try:
        import certifi
    except ImportError:
        return
    context.load_verify_locations(cafile=certifi.where())
