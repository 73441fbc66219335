"""An amount over time, in a fixed number of buckets (pure).

Guarantees: memory does not depend on how long a run is or how often something is added; what was added is never lost,
only told less finely: when a run outgrows its buckets, neighbours are added up and each bucket is twice as wide.
"""

from __future__ import annotations

from collections.abc import Sequence

BUCKETS = 240
"""About three pixels each in a picture of 760, which is as much as an eye can tell apart."""

FIRST_WIDTH_S = 1 / 64
"""A run of up to 3.75 s is told this finely. A power of two, so that widths stay exact."""


class Series:
    """What was added in each stretch of time since the run began. One thread; pickles."""

    def __init__(self, *, buckets: int = BUCKETS, width_s: float = FIRST_WIDTH_S) -> None:
        self.width_s = width_s
        self._values = [0.0] * buckets

    def add(self, at_s: float, amount: float) -> None:
        """Add an amount at a moment, in seconds since the run began; what was before it counts for its first moment."""
        bucket = self._bucket(at_s)  # first: it may replace the list
        self._values[bucket] += amount

    def spread(self, start_s: float, end_s: float, amount: float) -> None:
        """Add an amount evenly over a stretch of time."""
        start_s, end_s = max(0.0, start_s), max(0.0, end_s)
        if end_s - start_s <= self.width_s / 8:
            self.add(end_s, amount)
            return
        last = self._bucket(end_s)
        first = self._bucket(start_s)
        per_s = amount / (end_s - start_s)
        for bucket in range(first, last + 1):
            low, high = bucket * self.width_s, (bucket + 1) * self.width_s
            self._values[bucket] += per_s * (min(high, end_s) - max(low, start_s))

    def add_all(self, other: Series) -> None:
        """Add what another series of the same run holds."""
        for at, amount in enumerate(other._values):
            if amount:
                self.spread(at * other.width_s, (at + 1) * other.width_s, amount)

    @property
    def total(self) -> float:
        """All that was added."""
        return sum(self._values)

    def per_second(self, until_s: float) -> Sequence[float]:
        """Return the rate in each bucket that begins before `until_s`; the last is cut there."""
        count = min(len(self._values), int(until_s / self.width_s) + 1)
        rates = [amount / self.width_s for amount in self._values[:count]]
        last_s = until_s - (count - 1) * self.width_s
        if 0 < last_s < self.width_s:
            rates[-1] *= self.width_s / max(last_s, self.width_s / 4)
        return rates

    def _bucket(self, at_s: float) -> int:
        """Return the bucket of a moment, widening all until it is inside."""
        while (bucket := int(max(0.0, at_s) / self.width_s)) >= len(self._values):
            halves = self._values
            sums = [halves[at] + halves[at + 1] for at in range(0, len(halves), 2)]
            self._values = sums + [0.0] * (len(halves) - len(sums))
            self.width_s *= 2
        return bucket
