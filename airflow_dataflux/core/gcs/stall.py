"""How long a silent connection is waited for, learned from how long answers really take.

A list request that a server or a network has lost would otherwise hold its stream for a fixed minute, while its
answer, asked for again on a new connection, takes a few hundredths of a second. The limit is a multiple of the 95th
percentile of what was seen, bounded below, and doubles with every attempt of one call, so that a server that really
became slow is not asked over and over.
"""

from __future__ import annotations

import threading

_FIRST_LIMIT_S = 20.0
"""Until enough was seen. Longer than any healthy page, shorter than the official client's 60 s."""

_SAMPLES = 256
_ENOUGH = 20
_REVISE_EVERY = 32
_TIMES_P95 = 8.0


class StallLimit:
    """Learns a time-out for one kind of request. Thread-safe."""

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
