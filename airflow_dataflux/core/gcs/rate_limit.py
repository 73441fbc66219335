"""Request rates that a bucket can bear, found by asking.

A budget starts at the rate that Cloud Storage gives every bucket and grows so that it doubles in 20 minutes
(https://cloud.google.com/storage/docs/request-rate). When requests are throttled, it falls to a fraction of *the rate
that was really being accepted*, which finds a low limit in one step instead of by halving down to it. From there it
grows along a cubic: quickly back to the rate that was accepted, slowly around it, quickly again once that has proven
too low (the shape of RFC 9438). So a steady limit is overshot by little and seldom.

Guarantees: thread-safe; requests are spaced evenly, in bursts of at most `_BURST_S` seconds' worth; waiting is on the
cancel token, never busy. A request that was sent before the last reduction cannot cause another one: it tells about
the old rate.

A budget belongs to one process. Several processes that share a bucket's rate each take a `share` of the first rates,
and of what an earlier process has found.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from airflow_dataflux.core.gcs.operations import BudgetName
from airflow_dataflux.core.gcs.store import NotWantedError, Pace
from airflow_dataflux.core.runtime.cancel import CancelToken

FIRST_READS_PER_S = 5000.0
FIRST_WRITES_PER_S = 1000.0
"""What a bucket bears at first (https://cloud.google.com/storage/docs/request-rate)."""

_DOUBLES_IN_S = 1200.0
"""Cloud Storage asks not to ramp up faster than this (the same page)."""

_REDUCTION = 0.15
"""How far below the accepted rate a throttled budget falls. Less wastes less, but follows a shrinking limit slower."""

_RECOVERY_S = 3.0
_LEAST_RECOVERY_S = 0.5
"""Time from a reduction back to the rate that was accepted: as long as the budget has been used, within these bounds.
One overshoot in three seconds costs few requests. A reduction in the first moments rests on few answers and can be far
too deep; after four times its recovery time the rate is five times as high."""

_LEAST_KEPT = 0.5
"""What one reduction leaves at least: the next one comes soon enough if that is too much, and a guess from a few
answers must not all but stop the work."""

_GROWTH = 2.0
"""Once it was reduced, no rate is more than so many times what really begins: only that much has been tried out."""

_PAUSE_S = 0.1
"""Silence after a reduction: a bucket that refuses has nothing left, and what comes next must not find it so again."""

_BURST_S = 0.02
"""Requests this close together count as evenly spaced: sleeping for less costs more than it evens out."""

_BATCH_S = 0.1
"""Calls that go out in one batch, once a budget is known to be small: what a bucket gathers in this time it can surely
serve at once."""

_FLOOR = 0.002
"""No budget falls below this part of its first rate, so that the way back up is short."""

_UNAVAILABLE_PART = 0.05
_UNAVAILABLE_FEW = 3
"""503s below this part of the answers, or so few in a second, are single failures, above it they are throttling. Where
there are only 503s there is an outage, about which a lower rate does nothing and the back-off does enough."""

_WINDOW_S = 1.0
_LEAST_WINDOW_S = 0.25
"""A rate is what was counted in the last second, or since the requests began; over less time it would be a guess."""


class RequestBudget:
    """How many requests a second may begin."""

    def __init__(
        self, first_rate: float, *, found_rate: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin at `first_rate`, or, where it is known already what is accepted, as if just reduced to that."""
        self._clock = clock
        self._lock = threading.Lock()
        self._first_rate = first_rate
        self._began_at = clock()
        self._next_at = self._began_at
        self._reduced_at = None if found_rate is None else self._began_at
        self._recovery_s = _RECOVERY_S if found_rate is None else _LEAST_RECOVERY_S
        self._reductions = 0
        self._waiting = 0  # requests that wait for their turn
        self._accepted_rate = first_rate if found_rate is None else min(first_rate, found_rate)
        self._begun = _RecentRate()
        self._begun_since = 0
        self._refused_since = 0
        self._accepted = _RecentRate()
        self._refused = _RecentRate()

    def rate(self) -> float:
        """Return the requests a second that may begin now."""
        with self._lock:
            return self._rate(self._clock())

    def pace(self) -> Pace:
        """Return the rate that was found to be accepted and the one that is kept, if any, and how long the queue is."""
        with self._lock:
            now = self._clock()
            # A reduction takes back the slots of all that wait, and each finds that out when its slot would have come.
            rate = self._rate(now)
            turn_s = max(0.0, self._next_at - now, self._waiting / rate)
            if self._reduced_at is None:
                return Pace(turn_s=turn_s)
            return Pace(found_per_s=self._accepted_rate, kept_per_s=rate, turn_s=turn_s)

    def acquire(self, count: int, cancel: CancelToken, still_wanted: Callable[[], bool] | None = None) -> float:
        """Wait until `count` requests may begin; return the time, which `throttled` wants to know.

        Several arrive at once. Nobody needs to wait for that while all is accepted; once something was refused, they
        wait until each of them has had its turn, because the bucket cannot lend.

        Raises CancelledError if the work is cancelled first, NotWantedError if `still_wanted` says no: it is asked when
        a reduction has taken the turn back.
        """
        while True:
            with self._lock:
                now = self._clock()
                first_at, spacing_s = max(self._next_at, now - _BURST_S), 1 / self._rate(now)
                self._next_at = first_at + count * spacing_s
                begins_at = first_at if self._reduced_at is None else self._next_at - spacing_s
                reductions = self._reductions
                if begins_at <= now:
                    self._begins(count, now)
                    return now
                self._waiting += count
            cancel.wait(begins_at - now)
            with self._lock:
                self._waiting -= count
                cancel.raise_if_cancelled()
                if reductions == self._reductions:
                    now = self._clock()
                    self._begins(count, now)
                    return now
            # 1. This slot was given at the old rate. 2. The budget was reduced, which took back all slots not yet used.
            # 3. Going on with it would send a whole queue at the rate that was just refused. So: a new slot.
            if still_wanted is not None and not still_wanted():
                raise NotWantedError("The request was given up while it waited for its turn.")

    def most_at_once(self) -> int | None:
        """Return how many calls should go out in one batch at most; None while nothing was refused."""
        with self._lock:
            return None if self._reduced_at is None else max(1, int(self._rate(self._clock()) * _BATCH_S))

    def accepted(self, count: int) -> None:
        """Note that requests were carried out; a negative count takes back what turned out to be refused."""
        with self._lock:
            self._accepted.add(count, self._clock())

    def throttled(self, sent_at: float, *, certain: bool) -> None:
        """Note that a request sent at `sent_at` was refused for the rate: certainly (429), or perhaps (503)."""
        with self._lock:
            now = self._clock()
            self._refused.add(1, now)
            self._refused_since += 1
            accepted, refused = self._accepted.count(now), self._refused.count(now)
            few = max(_UNAVAILABLE_FEW, _UNAVAILABLE_PART * (accepted + refused))
            if not certain and (accepted <= 0 or refused <= few):
                return
            if self._reduced_at is not None and sent_at < self._reduced_at:
                return
            # Of what began since the last reduction, all is accepted that was not refused: refusals come at once,
            # results take their time. Where less began than could have, what was known before counts.
            rate, begun = self._rate(now), self._begun.per_second(now)
            tried = begun if self._reduced_at is None else max(begun, self._accepted_rate)
            kept = 1 - self._refused_since / max(1, self._begun_since)
            known = min(rate, tried) * max(_LEAST_KEPT, kept) if begun else rate / 2
            self._accepted_rate = max(1.0, _FLOOR * self._first_rate, known)
            self._recovery_s = min(_RECOVERY_S, max(_LEAST_RECOVERY_S, now - self._began_at))
            self._reduced_at = now
            self._reductions += 1
            self._begun_since = self._refused_since = 0
            self._next_at = now + max(_PAUSE_S, 1 / self._rate(now))

    def _begins(self, count: int, now: float) -> None:
        self._begun.add(count, now)
        self._begun_since += count

    def _rate(self, now: float) -> float:
        ceiling = self._first_rate * 2 ** ((now - self._began_at) / _DOUBLES_IN_S)
        if self._reduced_at is None:
            return ceiling
        most = max(self._accepted_rate, _GROWTH * self._begun.per_second(now))
        distance = (now - self._reduced_at - self._recovery_s) / self._recovery_s
        return min(ceiling, most, self._accepted_rate * (1 + _REDUCTION * distance**3))


class _RecentRate:
    """Counts events, and tells how many there were a second in the last one."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, count: int, now: float) -> None:
        self._events.append((now, count))
        self._sum += count
        self._forget(now)

    def count(self, now: float) -> int:
        """Return how many there were in the last second."""
        self._forget(now)
        return self._sum

    def per_second(self, now: float) -> float:
        self._forget(now)
        if not self._events:
            return 0.0
        return self._sum / max(_LEAST_WINDOW_S, now - self._events[0][0])

    def _forget(self, now: float) -> None:
        while self._events and self._events[0][0] < now - _WINDOW_S:
            self._sum -= self._events.popleft()[1]


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """The two budgets that the requests of one store count against."""

    read: RequestBudget
    write: RequestBudget

    @classmethod
    def first(cls, share: float = 1.0, *, found_reads_per_s: float | None = None) -> Budgets:
        """Return the budgets of a process that takes `share` (0-1] of a bucket's rates."""
        return cls(
            read=RequestBudget(
                FIRST_READS_PER_S * share,
                found_rate=None if found_reads_per_s is None else found_reads_per_s * share,
            ),
            write=RequestBudget(FIRST_WRITES_PER_S * share),
        )

    def of(self, name: BudgetName) -> RequestBudget:
        """Return the budget by its name."""
        return self.read if name == "read" else self.write
