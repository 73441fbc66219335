"""The one retry policy, as data, and how long an answer is waited for.

A failed attempt is `REFUSED` (surely not carried out), `UNCERTAIN` (perhaps carried out, the answer is lost or is an
error of the server), or `FINAL`. A refused attempt is repeated whatever it asked for; an uncertain one only if the
call is repeatable: idempotent, or bound to a precondition that a second execution would break. Which statuses are
worth another attempt: https://cloud.google.com/storage/docs/retry-strategy (408, 429, 5xx, connection errors).

Back-off is exponential with full jitter: a uniform draw between nothing and a bound that doubles. Full jitter spreads
the retries of many clients best (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). The
first lost connection is followed by a new one at once: a server may close an idle connection at any time, and waiting
would not make a stalled one come back.

A list request that a server or a network has lost would hold its stream for a fixed minute, while its answer, asked for
again on a new connection, takes a few hundredths of a second. So a silent connection is waited for as long as the
answers seen so far suggest (`StallLimit`).
"""

from __future__ import annotations

import enum
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from airflow_dataflux.core.runtime.cancel import CancelToken


class FailureKind(enum.Enum):
    """What is known about a failed attempt."""

    REFUSED = "refused"
    UNCERTAIN = "uncertain"
    FINAL = "final"


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often, how long and how patiently a call is repeated.

    Attributes:
        attempts: most times that one call is sent.
        deadline_s: no attempt begins later than this after the first (120 s is the official client's default).
        first_delay_s: bound of the first back-off; each further bound is twice the one before.
        max_delay_s: largest bound.
        connect_s: how long a connection may take.
        answer_s: how long an answer, or the next piece of one, may stay out.
        body_s: how long a whole answer may take to come, however steadily it comes; not for the bytes of objects.
    """

    attempts: int = 10
    deadline_s: float = 120.0
    first_delay_s: float = 0.25
    max_delay_s: float = 30.0
    connect_s: float = 8.0
    answer_s: float = 60.0
    body_s: float = 60.0


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


_FIRST_LIMIT_S = 20.0
"""Until enough was seen. Longer than any healthy page, shorter than the official client's 60 s."""

_SAMPLES = 256
_ENOUGH = 20
_REVISE_EVERY = 32
_TIMES_P95 = 8.0


class StallLimit:
    """Learns a time-out for one kind of request from how long answers really take. Thread-safe.

    It is a multiple of the 95th percentile of what was seen, bounded below, and doubles with every attempt of one call,
    so that a server that really became slow is not asked over and over.
    """

    def __init__(self, *, least_s: float, most_s: float = 60.0) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._lock = threading.Lock()
        self._samples: list[float] = []
        self._seen = 0
        self._limit_s = min(_FIRST_LIMIT_S, most_s)

    def answered(self, latency_s: float) -> None:
        """Note how long an answer took."""
        with self._lock:
            if len(self._samples) < _SAMPLES:
                self._samples.append(latency_s)
            else:
                self._samples[self._seen % _SAMPLES] = latency_s
            self._seen += 1
            if self._seen == _ENOUGH or (self._seen > _ENOUGH and self._seen % _REVISE_EVERY == 0):
                p95 = sorted(self._samples)[int(len(self._samples) * 0.95)]
                # Rounded up to tenths: a new value is rare, so that the connection pool can reuse its time-out object.
                self._limit_s = min(self._most_s, max(self._least_s, -(-_TIMES_P95 * p95 * 10 // 1) / 10))

    def limit_s(self, attempt: int) -> float:
        """Return the time-out for the `attempt`-th sending of one call."""
        return float(min(self._most_s, self._limit_s * 2 ** (attempt - 1)))
