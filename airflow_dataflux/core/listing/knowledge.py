"""What a listing has learned about the names of its bucket: real names, and where there are none. Pure.

It only guides where ranges are divided; nothing is ever left out of a listing because of it (a bucket can change).
Bounded: about `_MOST_EXAMPLES` names and `_MOST_VOIDS` ranges, whatever the size of the bucket.
"""

from __future__ import annotations

import bisect

from airflow_dataflux.core.listing.scale import Scale
from airflow_dataflux.core.listing.split import islands, occupied, split_points, tightened
from airflow_dataflux.core.namerange import NameRange, ends_at_or_before

_MOST_EXAMPLES = 4096
_MOST_VOIDS = 1024

_INSIDE = 48
_BESIDE = 24
_ANYWHERE = 64
"""Examples that a scale is learned from: enough to see which positions vary, few enough to be quick."""


class Knowledge:
    """Examples and voids of one listing. Not thread-safe: one owner."""

    def __init__(self) -> None:
        self._examples: list[str] = []
        self._voids: list[NameRange] = []
        self._void_starts: list[str] = []

    @property
    def examples(self) -> tuple[str, ...]:
        """The names known, sorted."""
        return tuple(self._examples)

    @property
    def voids(self) -> tuple[NameRange, ...]:
        """The ranges known to have been empty, sorted and disjoint."""
        return tuple(self._voids)

    def saw(self, name: str) -> None:
        """Remember a real name."""
        at = bisect.bisect_left(self._examples, name)
        if at == len(self._examples) or self._examples[at] != name:
            self._examples.insert(at, name)
            if len(self._examples) > _MOST_EXAMPLES:
                del self._examples[1::2]

    def saw_nothing(self, start: str, end: str | None) -> None:
        """Remember that no object has a name in `[start, end)`."""
        if end is not None and end <= start:
            return
        first = bisect.bisect_left(self._void_starts, start)
        before = self._voids[first - 1].end if first else ""
        if before is None or before >= start > "":
            first -= 1
            start = self._voids[first].start
        last = first
        while last < len(self._voids) and (end is None or self._voids[last].start <= end):
            if not ends_at_or_before(self._voids[last].end, end):
                end = self._voids[last].end
            last += 1
        if last == first and len(self._voids) >= _MOST_VOIDS:
            return
        self._voids[first:last] = [NameRange(start, end)]
        self._void_starts[first:last] = [start]

    def scale(self, low: str, high: str | None) -> Scale:
        """Return the scale of `[low, high)` as far as it is known now."""
        return Scale(*self.bounds(low, high), self._near(low, high), self._alike())

    def split(self, low: str, high: str | None, count: int) -> list[str]:
        """Return up to `count` split points of `(low, high)`."""
        voids = self._voids_in(low, high)
        return split_points(low, high, count, examples=self._near(low, high), alike=self._alike(), voids=voids)

    def islands(self, low: str, high: str | None) -> list[str]:
        """Return the known names in `(low, high)` at which names of another kind begin."""
        return islands(low, high, self._voids_in(low, high))

    def distance(self, scale: Scale, low: str, high: str | None) -> int:
        """Return how far apart two names are on `scale`, without what is known to be empty between them."""
        return sum(end - start for start, end in occupied(scale, low, high, self._voids_in(low, high)))

    def bounds(self, low: str, high: str | None) -> tuple[str, str | None]:
        """Return `low` and `high` without what is known to be empty at either end."""
        return tightened(low, high, self._voids_in(low, high))

    def _near(self, low: str, high: str | None) -> list[str]:
        first = bisect.bisect_left(self._examples, low)
        last = len(self._examples) if high is None else bisect.bisect_left(self._examples, high)
        inside = self._examples[first:last]
        if len(inside) > _INSIDE:
            inside = [inside[index * len(inside) // _INSIDE] for index in range(_INSIDE)]
        return [*self._examples[max(0, first - _BESIDE) : first], *inside, *self._examples[last : last + 4]]

    def _alike(self) -> list[str]:
        step = max(1, len(self._examples) // _ANYWHERE)
        return self._examples[::step]

    def _voids_in(self, low: str, high: str | None) -> list[NameRange]:
        first = bisect.bisect_right(self._void_starts, low)
        first = max(0, first - 1)
        last = len(self._voids) if high is None else bisect.bisect_left(self._void_starts, high)
        return self._voids[first:last]
