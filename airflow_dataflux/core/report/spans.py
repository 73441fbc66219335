"""Who did what when: bars in lanes (pure).

A lane is one stream of a worker: whatever begins takes the first lane of its worker that is free, and leaves it at its
end, so a picture has as many lanes as there ever were streams at work at once.

Guarantees: at most `MOST_SPANS` bars are kept, however many there were. When there are more, neighbours in a lane that
are close together become one bar that says how many it holds; nothing that was counted is lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

MOST_SPANS = 1200
"""Bars of one log: about 250 KB of a page. A listing of 10 million objects by 64 streams stays below it."""

MOST_MARKS = 800
"""Moments of one log that are drawn; the rest is only counted."""


class SpanKind(Enum):
    """What a bar stands for, and how it ended."""

    LISTED = "listed"
    HANDED_OVER = "handed over"
    LOST = "lost"
    PROBE = "probe"


@dataclass(slots=True)
class Span:
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


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in a lane, such as a steal from the stream that was at work there."""

    worker: int
    lane: int
    at_s: float


@dataclass(slots=True)
class SpanLog:
    """Bars of one job. One thread; pickles once nothing is open.

    Attributes:
        spans: what has ended.
        marks: steals, at their victims.
        mark_count: how many there were, drawn or not.
        lanes: how many lanes each worker needed.
    """

    spans: list[Span] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    mark_count: int = 0
    lanes: dict[int, int] = field(default_factory=dict)
    _open: dict[int, Span] = field(default_factory=dict)
    _free: dict[int, list[int]] = field(default_factory=dict)

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
            self.marks.append(Mark(span.worker, span.lane, at_s))

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
