"""Sends requests: connections, access token, pacing, retries and counts, once for all operations.

Guarantees:
- thread-safe; connections are kept alive and reused (`connections.py` says how many);
- no access token goes over plain HTTP to another machine, and none at all while STORAGE_EMULATOR_HOST is set;
- every wait (back-off, pacing) ends at once when the work is cancelled; a request under way ends with its time-out;
- whatever goes wrong becomes an error of `core/errors.py`.

Assumptions: one transport belongs to one process; it must not be carried over a fork. Redirects are not followed, as
the JSON API sends none for these calls.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
from urllib3.exceptions import ClosedPoolError, HTTPError

from airflow_dataflux.core.config import StoreConfig
from airflow_dataflux.core.errors import StoreError
from airflow_dataflux.core.gcs.exchange import Answer, Exchanger, NotConnectedError
from airflow_dataflux.core.gcs.operations import Call, Operation
from airflow_dataflux.core.gcs.pacing import Budgets
from airflow_dataflux.core.gcs.refusals import connection_error, error_of, read_refusal, unreadable_error
from airflow_dataflux.core.gcs.requestheaders import RequestHeaders
from airflow_dataflux.core.gcs.retry import Attempts, FailureKind, RetryPolicy, retry_after_s
from airflow_dataflux.core.gcs.stall import StallLimit
from airflow_dataflux.core.gcs.store import RequestCounts
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import TokenSource

log = logging.getLogger(__name__)

T = TypeVar("T")

_CONNECT_TIMEOUT_S = 10.0
_SLOW_TIMEOUT_S = 60.0
"""For requests whose time depends on what they are asked to do (the official client's default)."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What a transport needs beside the store's address."""

    tokens: TokenSource
    cancel: CancelToken
    policy: RetryPolicy
    budgets: Budgets


class Transport:
    """Sends calls to one endpoint, over the connections of `exchanger`."""

    def __init__(self, config: StoreConfig, access: Access, exchanger: Exchanger) -> None:
        self.exchanger = exchanger
        self.cancel = access.cancel
        self.policy = access.policy
        self._budgets = access.budgets
        self._counter = _Counter()
        self._headers = RequestHeaders(config, access.tokens)
        self._stalls = {
            "list objects": StallLimit(least_s=2.0),
            "read metadata": StallLimit(least_s=2.0),
            # A body that shares a full line with others pauses longer than a page does.
            "read": StallLimit(least_s=5.0),
        }

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

    def open(self, call: Call) -> Answer:
        """Send `call` until it is answered, and return the answer with its body unread.

        The caller must close it.
        """
        return self._repeat(call, lambda attempt: self._answer(call, attempt))

    def counts(self) -> RequestCounts:
        """Return what was sent so far."""
        return self._counter.total()

    def found_reads_per_s(self) -> float | None:
        """Return the rate of reads that was found to be accepted; None while nothing was refused."""
        return self._budgets.read.found_rate()

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
        self.exchanger.close()

    def _repeat(self, call: Call, attempt_once: Callable[[int], T | _Failure]) -> T:
        attempts = Attempts(self.policy)
        token_renewed = False
        while True:
            self.cancel.raise_if_cancelled()
            outcome = attempt_once(attempts.count)
            if not isinstance(outcome, _Failure):
                return outcome
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
            attempts.wait(delay_s, self.cancel)

    def _whole_answer(self, call: Call, attempt: int, decode: Callable[[bytes, Mapping[str, str]], T]) -> T | _Failure:
        began_at = time.monotonic()
        answer = self._answer(call, attempt)
        if isinstance(answer, _Failure):
            return answer
        try:
            body = answer.whole()
        except (OSError, HTTPError) as cause:
            return _lost(call, cause)
        finally:
            answer.close()
        self._answered(call, began_at)
        try:
            return decode(body, answer.headers)
        except ValueError as cause:
            problem = str(cause)
            return _Failure(
                kind=FailureKind.UNCERTAIN,
                error=lambda attempts, _elapsed_s: unreadable_error(call, problem, attempts=attempts),
                cause=cause,
            )

    def _answer(self, call: Call, attempt: int) -> Answer | _Failure:
        """Send once. Return the answer, its body unread, if it is a success."""
        operation = call.operation
        budget = self._budgets.of(operation.budget)
        headers, token = self._headers.of(call)
        stall = self._stalls.get(operation.name)
        sent_at = budget.acquire(call.weight, self.cancel)
        self._counter.sent(operation, call.weight)
        try:
            answer = self.exchanger.exchange(
                call.method,
                call.target,
                headers=headers,
                body=call.body,
                connect_timeout_s=_CONNECT_TIMEOUT_S,
                read_timeout_s=stall.limit_s(attempt) if stall else _SLOW_TIMEOUT_S,
            )
            if answer.status < 300:
                budget.accepted(call.weight)
                return answer
            try:
                body = answer.whole()
            finally:
                answer.close()
        except (OSError, HTTPError) as cause:
            return _lost(call, cause)
        status, refusal = answer.status, read_refusal(answer.status, body)
        if status in (429, 503):
            budget.throttled(sent_at, certain=status == 429)
        return _Failure(
            kind=self.policy.kind_of_status(status, refusal.reason),
            error=lambda attempts, elapsed_s: error_of(call, refusal, attempts=attempts, elapsed_s=elapsed_s),
            status=status,
            retry_after_s=retry_after_s(answer.headers.get("retry-after")),
            token=token,
        )

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
    if isinstance(cause, ssl.SSLCertVerificationError | ClosedPoolError):
        kind = FailureKind.FINAL
    elif isinstance(cause, NotConnectedError):
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
