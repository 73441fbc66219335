"""What happened when: amounts over time, and who worked on which names (pure).

A `Series` is an amount in each stretch of time. A `SpanLog` is bars in lanes: a lane is one stream of a worker. What
begins takes the first free lane of its worker and leaves it at its end, so a picture has as many lanes as there ever
were streams at work at once.

Guarantees: memory does not depend on how long a run is or how often something is added. Nothing that was counted is
lost; it is only told less finely. A run that outgrows its buckets gets buckets twice as wide; where there are more than
`MOST_SPANS` bars, neighbours in a lane that are close together become one bar that says how many it holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import Enum

import msgspec

BUCKETS = 240
"""About three pixels each in a picture of 760, which is as much as an eye can tell apart."""

FIRST_WIDTH_S = 1 / 64
"""A run of up to 3.75 s is told this finely. A power of two, so that widths stay exact."""

MOST_SPANS = 1200
"""Bars of one log: about 250 KB of a page. A listing of 10 million objects by 64 streams stays below it."""

MOST_MARKS = 800
"""Moments of one log that are drawn; the rest is only counted."""


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
        values, width_s = self._values, self.width_s
        if first == last:
            values[first] += amount
            return
        per_s = amount / (end_s - start_s)
        values[first] += per_s * ((first + 1) * width_s - start_s)
        for bucket in range(first + 1, last):
            values[bucket] += per_s * width_s
        values[last] += per_s * (end_s - last * width_s)

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


class SpanKind(Enum):
    """What a bar stands for, and how it ended."""

    LISTED = "listed"
    HANDED_OVER = "handed over"
    LOST = "lost"
    PROBE = "probe"


class Span(msgspec.Struct):
    """One bar.

    Attributes:
        worker, lane: where it is drawn; lanes count from 0 in each worker.
        start_s, end_s: since the run began.
        listed_s: when its last page was there; then its rows were made durable.
        kind: what it stands for.
        low, high: names from which and before which it listed; `high` is None without a bound.
        objects, pages: what it listed.
        count: how many ranges or probes it stands for.
    """

    worker: int
    lane: int
    start_s: float
    end_s: float
    kind: SpanKind
    low: str
    high: str | None
    objects: int = 0
    pages: int = 0
    count: int = 1
    listed_s: float = 0.0

    def absorb(self, following: Span) -> None:
        """Become one bar with a later one of the same lane and kind."""
        self.end_s = following.end_s
        self.listed_s = max(self.listed_s, following.listed_s)
        self.high = following.high
        self.objects += following.objects
        self.pages += following.pages
        self.count += following.count


class StealMark(msgspec.Struct, frozen=True):
    """The moment of a steal, in the lane of the stream that was stolen from."""

    worker: int
    lane: int
    at_s: float


class SpanLog(msgspec.Struct):
    """Bars of one job. One thread; pickles once nothing is open.

    Attributes:
        spans: what has ended.
        marks: steals, at their victims.
        mark_count: how many there were, drawn or not.
        lanes: how many lanes each worker needed.
    """

    spans: list[Span] = []
    marks: list[StealMark] = []
    mark_count: int = 0
    lanes: dict[int, int] = {}
    _open: dict[int, Span] = {}
    _free: dict[int, list[int]] = {}

    def begin(self, key: int, worker: int, at_s: float, *, low: str, high: str | None, probe: bool = False) -> None:
        """Begin a bar; `key` is its own among those that are open."""
        free = self._free.setdefault(worker, [])
        if free:
            lane = min(free)
            free.remove(lane)
        else:
            lane = self.lanes.get(worker, 0)
            self.lanes[worker] = lane + 1
        kind = SpanKind.PROBE if probe else SpanKind.LISTED
        self._open[key] = Span(worker, lane, at_s, at_s, kind, low, high)

    def high_of(self, key: int) -> str | None:
        """Return the end of an open bar's range; None without one."""
        span = self._open.get(key)
        return None if span is None else span.high

    def listed(self, key: int, at_s: float, objects: int) -> None:
        """Count a page of an open bar."""
        span = self._open.get(key)
        if span is not None:
            span.objects += objects
            span.pages += 1
            span.listed_s = at_s

    def shrunk(self, key: int, at_s: float, high: str | None) -> None:
        """Mark that others took the rest of an open bar's range."""
        span = self._open.get(key)
        if span is None:
            return
        span.high = high
        self.mark_count += 1
        if len(self.marks) < MOST_MARKS:
            self.marks.append(StealMark(span.worker, span.lane, at_s))

    def end(self, key: int, at_s: float, kind: SpanKind | None = None, *, high: str | None = None) -> None:
        """End a bar; with a kind that says how, and where in the names."""
        span = self._open.pop(key, None)
        if span is None:
            return
        span.end_s = at_s
        if kind is not None:
            span.kind, span.high = kind, high
        self._free[span.worker].append(span.lane)
        self.spans.append(span)
        if len(self.spans) > MOST_SPANS:
            self.spans = merged(self.spans, MOST_SPANS // 2)

    def lose(self, worker: int, at_s: float) -> None:
        """End all bars of a worker that is gone."""
        for key in [key for key, span in self._open.items() if span.worker == worker]:
            self.end(key, at_s, SpanKind.LOST, high=self._open[key].high)

    def close(self, at_s: float) -> None:
        """End what is still open."""
        for key in list(self._open):
            self.end(key, at_s)


def merged(spans: Iterable[Span], most: int) -> list[Span]:
    """Return at most `most` bars (or one for each lane and kind, if those are more), sorted by their start.

    Bars that are apart by less than a small part of the run become one first; the part doubles until it is enough.
    """
    lanes: dict[tuple[int, int, SpanKind], list[Span]] = defaultdict(list)
    for span in spans:
        lanes[span.worker, span.lane, span.kind].append(span)
    for lane in lanes.values():
        lane.sort(key=lambda span: span.start_s)
    whole_s = max((lane[-1].end_s for lane in lanes.values()), default=0.0)
    gap_s = whole_s / 1024
    while sum(map(len, lanes.values())) > max(most, len(lanes)):
        for key, lane in lanes.items():
            lanes[key] = _joined(lane, gap_s)
        gap_s *= 2
    return sorted((span for lane in lanes.values() for span in lane), key=lambda span: span.start_s)


def _joined(lane: list[Span], gap_s: float) -> list[Span]:
    """Join each second bar of a lane with the one before it, where the gap between them is small."""
    kept: list[Span] = []
    may_join = False
    for span in lane:
        if may_join and span.start_s - kept[-1].end_s <= gap_s:
            kept[-1].absorb(span)
            may_join = False
        else:
            kept.append(span)
            may_join = True
    return kept
