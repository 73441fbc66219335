"""Sends requests: connections, access token, pacing, retries and counts, once for all operations.

Guarantees:
- thread-safe; connections are kept alive and reused (`http.py` has the pool);
- no access token goes over plain HTTP to another machine, and none at all while STORAGE_EMULATOR_HOST is set;
- whatever it waits for (back-off, pacing, an answer) ends at once when the work is cancelled, but for a connection
  that is being opened, which ends with its time-out;
- whatever goes wrong becomes an error of `core/errors.py`.

Assumptions: one transport belongs to one process; it must not be carried over a fork. Redirects are not followed, as
the JSON API sends none for these calls.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from urllib3 import Timeout
from urllib3.exceptions import ClosedPoolError, HTTPError

from airflow_dataflux._version import __version__
from airflow_dataflux.core.errors import AuthenticationError, InvalidRequestError, StoreError
from airflow_dataflux.core.gcs import operations
from airflow_dataflux.core.gcs.http import HttpConnections, InFlight, NotConnectedError, ProxyRefusedError, Response
from airflow_dataflux.core.gcs.http_errors import (
    connection_error,
    error_of,
    kind_of_failure,
    read_error,
    unreadable_error,
)
from airflow_dataflux.core.gcs.operations import BudgetName, Call, Operation
from airflow_dataflux.core.gcs.rate_limit import Budgets
from airflow_dataflux.core.gcs.retry import Attempts, FailureKind, RetryPolicy, StallLimit, retry_after_s
from airflow_dataflux.core.gcs.store import NotWantedError, Pace, RequestCounts
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import CachedTokens, Token, TokenSource

log = logging.getLogger(__name__)

T = TypeVar("T")

_CERTIFICATE_ADVICE = (
    "Nobody whom this machine trusts vouches for the certificate: name the authority's file in SSL_CERT_FILE or "
    "REQUESTS_CA_BUNDLE, or correct the endpoint."
)
_PROXY_ADVICE = (
    "Check HTTPS_PROXY (http://user:password@host:port) and what the proxy allows, or name hosts that need no proxy in "
    "NO_PROXY."
)

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What a transport needs beside connections.

    Attributes:
        endpoint: scheme and host, to which tokens go only if nobody else can read them there.
        user_agent: first part of the User-Agent header.
        user_project: who is billed, where it is not the project that the credentials name.
        tokens: who asks.
        cancel: ends every wait.
        cancel_composes: ends the waits between the attempts of a compose, too.
        policy: how requests are retried.
        budgets: how many may begin a second.
    """

    endpoint: str
    user_agent: str
    user_project: str | None
    tokens: TokenSource
    cancel: CancelToken
    cancel_composes: CancelToken | None
    policy: RetryPolicy
    budgets: Budgets


class Transport:
    """Sends calls to one endpoint, over the connections of `http`."""

    def __init__(self, access: Access, http: HttpConnections) -> None:
        self.http = http
        self.cancel = access.cancel
        self._cancel_composes = access.cancel_composes or access.cancel
        self.policy = access.policy
        self._budgets = access.budgets
        self._counter = _Counter()
        self._waits = threading.local()
        self._headers = _RequestHeaders(access)
        # The others take as long as what they are asked to do: `answer_s` at most.
        self._stalls = {
            "list objects": StallLimit(least_s=2.0, most_s=self.policy.answer_s),
            "read metadata": StallLimit(least_s=2.0, most_s=self.policy.answer_s),
            # The parts and indexes of manifests: an answer comes once half a MiB is there and stored.
            "upload": StallLimit(least_s=5.0, most_s=self.policy.answer_s),
            # A body that shares a full line with others pauses longer than a page does.
            "read": StallLimit(least_s=5.0, most_s=self.policy.answer_s),
        }
        self._in_flight = InFlight()
        self._waking = contextlib.ExitStack()
        self._waking.enter_context(self.cancel.waking(self._in_flight.abort))

    def send(self, call: Call, decode: Callable[[bytes], T]) -> T:
        """Send `call` until it is answered, and return its decoded body.

        `decode` raises ValueError for a body that it cannot read, which counts as an answer that was lost.
        """
        return self._repeat(
            call, lambda sent, attempt: self._whole_answer(sent, attempt, lambda body, _headers: decode(body))
        )

    def send_for_headers(self, call: Call, decode: Callable[[bytes, Mapping[str, str]], T]) -> T:
        """Do as `send`, for a body that cannot be read without its headers."""
        return self._repeat(call, lambda sent, attempt: self._whole_answer(sent, attempt, decode))

    def open(self, call: Call, check: Callable[[Mapping[str, str]], None]) -> Response:
        """Send `call` until it is answered, and return the answer with its body unread.

        `check` raises ValueError for headers that the answer cannot have, which counts as an answer that was lost. The
        caller must close the answer.
        """
        return self._repeat(call, lambda sent, attempt: self._checked_answer(sent, attempt, check))

    def counts(self) -> RequestCounts:
        """Return what was sent so far."""
        return self._counter.total()

    def pace(self, kind: BudgetName) -> Pace:
        """Return how requests of a budget are paced now."""
        return self._budgets.of(kind).pace()

    def waited_s(self) -> float:
        """Return how long calls of this thread have waited for their turn, and between attempts."""
        return getattr(self._waits, "seconds", 0.0)

    def most_writes_at_once(self) -> int | None:
        """Return how many writes should go out in one batch at most; None if there is no reason for a limit."""
        return self._budgets.write.most_at_once()

    def note_refused_part(self, *, sent_at: float, status: int) -> None:
        """Account for one part of a batch that is to be sent again; the batch itself was counted as accepted."""
        self._counter.retried(throttled=status == 429)
        self._budgets.write.accepted(-1)
        if status in (429, 503):
            self._budgets.write.throttled(sent_at, certain=status == 429)

    def close(self) -> None:
        """Close all idle connections."""
        self._waking.close()
        self.http.close()

    def _repeat(self, call: Call, attempt_once: Callable[[Call, int], T | _Failure]) -> T:
        attempts = Attempts(self.policy)
        cancel = self._cancel_of(call)
        token_renewed = False
        while True:
            cancel.raise_if_cancelled()
            outcome = attempt_once(call, attempts.count)
            if not isinstance(outcome, _Failure):
                return outcome
            if outcome.connection_lost and outcome.kind is FailureKind.UNCERTAIN and call.answer_lost is not None:
                call.answer_lost()
            if outcome.status == 401 and not token_renewed and self._headers.renew(outcome.token):
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
            began_at = time.monotonic()
            attempts.wait(delay_s, cancel)
            self._waited(time.monotonic() - began_at)
            if outcome.kind is not FailureKind.REFUSED:
                # It may have been carried out, so it must not be given up, also not while it waits for its next turn.
                call = msgspec.structs.replace(call, still_wanted=None)
            if call.still_wanted is not None and not call.still_wanted():
                raise NotWantedError(f"The {call.operation.name} of {call.resource} was given up after a refusal.")

    def _waited(self, seconds: float) -> None:
        self._waits.seconds = self.waited_s() + seconds

    def _whole_answer(self, call: Call, attempt: int, decode: Callable[[bytes, Mapping[str, str]], T]) -> T | _Failure:
        began_at = time.monotonic()
        answer = self._answer(call, attempt)
        if isinstance(answer, _Failure):
            return answer
        try:
            body = answer.whole(self.policy.body_s)
        except (OSError, HTTPError) as cause:
            return _lost(call, cause)
        finally:
            answer.close()
        self._answered(call, began_at)
        try:
            return decode(body, answer.headers)
        except (ValueError, RecursionError) as cause:  # JSON may be nested deeper than any decoder goes
            return _unreadable(call, cause)

    def _checked_answer(
        self, call: Call, attempt: int, check: Callable[[Mapping[str, str]], None]
    ) -> Response | _Failure:
        answer = self._answer(call, attempt)
        if not isinstance(answer, _Failure):
            try:
                check(answer.headers)
            except ValueError as cause:
                answer.close()
                return _unreadable(call, cause)
        return answer

    def _answer(self, call: Call, attempt: int) -> Response | _Failure:
        """Send once. Return the answer, its body unread, if it is a success."""
        operation = call.operation
        budget = self._budgets.of(operation.budget)
        headers, token = self._headers.of(call)
        stall = self._stalls.get(operation.name)
        asked_at = time.monotonic()
        sent_at = budget.acquire(call.weight, self._cancel_of(call), call.still_wanted)
        self._waited(sent_at - asked_at)
        self._counter.sent(operation, call.weight)
        try:
            answer = self.http.request(
                call.method,
                call.target,
                headers=headers,
                body=call.body,
                timeout=Timeout(
                    connect=self.policy.connect_s, read=stall.limit_s(attempt) if stall else self.policy.answer_s
                ),
                in_flight=self._in_flight if call.on_cancel == "cut off" else InFlight(),
            )
            if answer.status < 300 or answer.status in call.accepts:
                budget.accepted(call.weight)
                return answer
            try:
                body = answer.whole(self.policy.body_s)
            finally:
                answer.close()
        except (OSError, HTTPError) as cause:
            return _lost(call, cause)
        status, refused = (
            answer.status,
            read_error(
                answer.status,
                body,
                location=answer.headers.get("location"),
                retry_after_s=retry_after_s(answer.headers.get("retry-after")),
            ),
        )
        if status in (429, 503):
            budget.throttled(sent_at, certain=status == 429)
        return _Failure(
            kind=kind_of_failure(call, refused),
            error=lambda attempts, elapsed_s: error_of(
                call, refused, attempts=attempts, elapsed_s=elapsed_s, deadline_s=self.policy.deadline_s
            ),
            status=status,
            retry_after_s=refused.retry_after_s,
            token=token,
        )

    def _cancel_of(self, call: Call) -> CancelToken:
        if call.on_cancel == "send":
            return CancelToken()
        return self._cancel_composes if call.operation is operations.COMPOSE else self.cancel

    def _answered(self, call: Call, began_at: float) -> None:
        stall = self._stalls.get(call.operation.name)
        if stall is not None:
            stall.answered(time.monotonic() - began_at)


class _Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt that did not succeed."""

    kind: FailureKind
    error: Callable[[int, float], StoreError]
    status: int | None = None
    retry_after_s: float | None = None
    connection_lost: bool = False
    cause: Exception | None = None
    token: str | None = None


def _lost(call: Call, cause: Exception) -> _Failure:
    """Judge a call that got no whole answer."""
    final = ""
    if isinstance(cause, ssl.SSLCertVerificationError):
        kind, final = FailureKind.FINAL, _CERTIFICATE_ADVICE
    elif isinstance(cause, ProxyRefusedError):
        kind, final = FailureKind.FINAL, _PROXY_ADVICE
    elif isinstance(cause, ClosedPoolError):
        kind = FailureKind.FINAL
    elif isinstance(cause, NotConnectedError):
        kind = FailureKind.REFUSED
    else:
        kind = FailureKind.UNCERTAIN
    problem = f"{type(cause).__name__}: {cause}".rstrip(".")
    return _Failure(
        kind=kind,
        error=lambda attempts, elapsed_s: connection_error(
            call, problem, attempts=attempts, elapsed_s=elapsed_s, final=final
        ),
        connection_lost=True,
        cause=cause,
    )


def _unreadable(call: Call, cause: ValueError | RecursionError) -> _Failure:
    """Judge an answer of success that is not Cloud Storage's."""
    problem = str(cause)
    return _Failure(
        kind=FailureKind.UNCERTAIN,
        error=lambda attempts, elapsed_s: unreadable_error(call, problem, attempts=attempts, elapsed_s=elapsed_s),
        cause=cause,
    )


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


class _RequestHeaders:
    """Makes the headers of requests to one endpoint, among them the access token. Thread-safe."""

    def __init__(self, access: Access) -> None:
        address, tokens = urlsplit(access.endpoint), access.tokens
        agent = access.user_agent if "/" in access.user_agent else f"{access.user_agent}/{__version__}"
        self._common = {
            "User-Agent": agent,
            "Accept": "*/*",
            # Pages and metadata uncompressed: inside Google's network bytes cost less than the CPU to unpack them.
            "Accept-Encoding": "identity",
        }
        self._endpoint = access.endpoint
        self._user_project = access.user_project
        self._private = address.scheme == "https" or address.hostname in _LOOPBACK
        self._tokens: CachedTokens | None = None
        if not os.environ.get("STORAGE_EMULATOR_HOST"):
            self._tokens = tokens if isinstance(tokens, CachedTokens) else CachedTokens(tokens)

    def of(self, call: Call) -> tuple[dict[str, str], str | None]:
        """Return the headers of a request, and the token in them. Raises AuthenticationError if there is no token."""
        headers = {**self._common, **call.headers}
        if any("\n" in value or "\r" in value for value in call.headers.values()):
            raise InvalidRequestError(f"A header of the request for {call.resource} holds a line end.")
        token = self._token(call)
        if token is None:
            return headers, None
        headers["Authorization"] = f"Bearer {token.value}"
        if token.quota_project and self._user_project is None:
            headers["X-Goog-User-Project"] = token.quota_project
        return headers, token.value

    def renew(self, refused: str | None) -> bool:
        """Forget the token that was refused; return whether there can be another."""
        if self._tokens is None or refused is None:
            return False
        present = self._tokens.fetch()
        if present is not None and present.value != refused:
            return True  # another thread was refused, too, and has renewed it already
        self._tokens.discard()
        return True

    def _token(self, call: Call) -> Token | None:
        token = self._tokens.fetch() if self._tokens is not None else None
        if token is None:
            return None
        if not self._private:
            raise AuthenticationError(
                f"Refused to send an access token to {self._endpoint} over plain HTTP: use an https:// endpoint, "
                "or anonymous access for an emulator (set STORAGE_EMULATOR_HOST).",
                operation=call.operation.name,
                resource=call.resource,
                status=None,
                reason="plain HTTP",
            )
        return token
