"""The one retry policy, as data.

A failed attempt is `REFUSED` (surely not carried out), `UNCERTAIN` (perhaps carried out, the answer is lost or is an
error of the server), or `FINAL`. A refused attempt is repeated whatever it asked for; an uncertain one only if the
call is repeatable: idempotent, or bound to a precondition that a second execution would break. Which statuses are
worth another attempt: https://cloud.google.com/storage/docs/retry-strategy (408, 429, 5xx, connection errors).

Back-off is exponential with full jitter: a uniform draw between nothing and a bound that doubles. Full jitter spreads
the retries of many clients best (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). The
first lost connection is followed by a new one at once: a server may close an idle connection at any time, and waiting
would not make a stalled one come back.
"""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from airflow_dataflux.core.runtime.cancel import CancelToken


class FailureKind(enum.Enum):
    """What is known about a failed attempt."""

    REFUSED = "refused"
    UNCERTAIN = "uncertain"
    FINAL = "final"


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often, how long and how patiently a call is repeated.

    Attributes:
        attempts: most times that one call is sent.
        deadline_s: no attempt begins later than this after the first (120 s is the official client's default).
        first_delay_s: bound of the first back-off; each further bound is twice the one before.
        max_delay_s: largest bound.
    """

    attempts: int = 10
    deadline_s: float = 120.0
    first_delay_s: float = 0.25
    max_delay_s: float = 30.0

    def kind_of_status(self, status: int, reason: str) -> FailureKind:
        """Judge an answer that is not a success."""
        if status == 429 or (status == 403 and reason in _RATE_REASONS):
            return FailureKind.REFUSED
        if status == 408 or (status >= 500 and status != 501):
            return FailureKind.UNCERTAIN
        return FailureKind.FINAL


_RATE_REASONS = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})
"""403s that are really about rates (https://cloud.google.com/storage/docs/json_api/v1/status-codes#403-forbidden)."""

DEFAULT_POLICY = RetryPolicy()


class Attempts:
    """The attempts of one call: counts them, and waits between them.

    Not thread-safe: one call belongs to one thread.
    """

    def __init__(self, policy: RetryPolicy, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._first_at = clock()
        self.count = 1

    def elapsed_s(self) -> float:
        """Return the seconds since the call was first sent."""
        return self._clock() - self._first_at

    def next_delay_s(
        self, kind: FailureKind, *, repeatable: bool, connection_lost: bool, retry_after_s: float | None
    ) -> float | None:
        """Return how long to wait before the next attempt; None if there must not be one."""
        if kind is FailureKind.FINAL or (kind is FailureKind.UNCERTAIN and not repeatable):
            return None
        if self.count >= self._policy.attempts:
            return None
        if connection_lost and self.count == 1:
            delay_s = 0.0
        else:
            bound_s = min(self._policy.max_delay_s, self._policy.first_delay_s * 2 ** (self.count - 1))
            delay_s = random.uniform(0, bound_s)  # noqa: S311 - jitter, not a secret
        if retry_after_s is not None:
            delay_s = max(delay_s, retry_after_s)
        return delay_s if self.elapsed_s() + delay_s <= self._policy.deadline_s else None

    def wait(self, delay_s: float, cancel: CancelToken) -> None:
        """Wait out the back-off and count the next attempt. Raises CancelledError as soon as there is a cancel."""
        if delay_s > 0:
            cancel.wait(delay_s)
        cancel.raise_if_cancelled()
        self.count += 1


def retry_after_s(header: str | None, *, now: datetime | None = None) -> float | None:
    """Return the seconds in a `Retry-After` header: a number or a date (RFC 9110 10.2.3). None if it has none."""
    if not header:
        return None
    text = header.strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None  # a malformed hint is no hint
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
