"""The streams of a listing, drawn: which listed what when, and how the names were covered (pure).

Both pictures use one scale of colours over the names, from the first to the last: in the map it runs from top to
bottom, and so explains the bars of the timeline.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from xml.etree.ElementTree import Element

import msgspec

from airflow_dataflux.core.report import formatting
from airflow_dataflux.core.report.activity import Span, SpanKind, StealMark
from airflow_dataflux.core.report.charts import (
    LEFT,
    RIGHT,
    WIDTH,
    AxisScale,
    add,
    add_text,
    add_time_axis,
    add_value_line,
    new_picture,
    number,
    svg,
    ticks,
    time_scale,
)

NAME_COLOURS = 12

_MOST_HEIGHT, _MOST_LANE, _LEAST_GROUP = 760.0, 9.0, 16.0
_MAP_HEIGHT = 330.0


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The lanes of one process in a timeline.

    Attributes:
        label: of the process.
        lanes: how many.
        spans: their `worker` is not looked at any more.
        marks: steals.
        lost_s: moments at which the process was lost.
    """

    label: str
    lanes: int
    spans: tuple[Span, ...]
    marks: tuple[StealMark, ...] = ()
    lost_s: tuple[float, ...] = ()


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Which stream listed which names when: bars in lanes, coloured by where in the names they lie."""

    title: str
    summary: str
    groups: tuple[Group, ...]
    seconds: float


class NameMap(msgspec.Struct, frozen=True, kw_only=True):
    """How the names were covered: time from left to right, all names from top to bottom.

    Attributes:
        spans: the bars of a timeline that listed objects.
    """

    title: str
    summary: str
    spans: tuple[Span, ...]
    seconds: float


class NameColours:
    """The colour of a bar by where its names are: as many objects for each colour."""

    def __init__(self, spans: Iterable[Span]) -> None:
        ordered = sorted((span for span in spans if span.kind is not SpanKind.PROBE), key=lambda span: span.low)
        whole = sum(span.objects for span in ordered)
        self._lows: list[str] = []
        self._colours: list[int] = []
        before = 0
        for span in ordered:
            self._lows.append(span.low)
            # The middle of what it listed, so that one bar of everything has the colour of the middle.
            self._colours.append(_part(before + span.objects / 2, whole))
            before += span.objects

    def of(self, low: str) -> int:
        """Return the colour of what begins at `low`."""
        at = bisect_right(self._lows, low) - 1
        return self._colours[max(0, at)] if self._colours else 0


def draw_timeline(chart: Timeline) -> str:
    """Draw bars in lanes, one group for each process."""
    spans = [span for group in chart.groups for span in group.spans]
    colours = NameColours(spans)
    hidden = formatting.common_front(span.low for span in spans if span.low)
    lanes = sum(group.lanes for group in chart.groups)
    height = min(_MOST_LANE, _MOST_HEIGHT / max(1, lanes))
    tops: list[float] = []
    y = 6.0
    for group in chart.groups:
        tops.append(y)
        y += max(_LEAST_GROUP, group.lanes * height) + 8
    bottom = y - 4
    picture = new_picture(chart.title, bottom + 24)
    add_time_axis(picture, chart.seconds, 2, bottom)
    horizontal = time_scale(chart.seconds)
    for group, top in zip(chart.groups, tops, strict=True):
        room = max(_LEAST_GROUP, group.lanes * height)
        width = WIDTH - LEFT - RIGHT
        add(picture, "rect", class_="ground", x=LEFT, y=top - 2, width=width, height=room + 4, rx=3)
        add_text(picture, LEFT - 8, top + room / 2 + 4, group.label, anchor="end")
        for span in group.spans:
            _add_span(picture, span, top + span.lane * height, height, horizontal, colours.of(span.low), hidden)
        _add_moments(picture, group, top, height, horizontal)
    return svg(picture)


def _add_span(
    picture: Element, span: Span, y: float, lane_height: float, horizontal: AxisScale, colour: int, hidden: int
) -> None:
    start, end, listed = horizontal(span.start_s), horizontal(span.end_s), horizontal(span.listed_s)
    classes = "probe" if span.kind is SpanKind.PROBE else f"n{colour}"
    if span.kind is SpanKind.LOST:
        classes += " lost"
    elif not span.objects and span.kind is not SpanKind.PROBE:
        classes += " empty"
    height = max(0.6, lane_height - (1.5 if lane_height > 4 else 0.3))
    bar = add(picture, "rect", class_=classes, x=start, y=y, width=max(0.8, end - start - 0.4), height=height)
    add(bar, "title", _description(span, hidden))
    if span.pages and end - listed > 3:
        # What is behind the last page is waiting for the disk, not for the bucket.
        add(picture, "rect", class_="durable", x=listed, y=y, width=end - listed - 0.4, height=height)


def _add_moments(picture: Element, group: Group, top: float, height: float, horizontal: AxisScale) -> None:
    """Draw the steals of a group, and the moments at which its process was lost."""
    strokes = "".join(
        f"M{number(horizontal(steal.at_s))} {number(top + steal.lane * height - 0.5)}v{number(height)}"
        for steal in group.marks
    )
    if strokes:
        add(picture, "path", class_="steal", d=strokes)
    bottom = top + max(_LEAST_GROUP, group.lanes * height)
    for moment in group.lost_s:
        at = horizontal(moment)
        add(picture, "line", class_="lostline", x1=at, x2=at, y1=top - 2, y2=bottom + 2)


def _description(span: Span, hidden: int) -> str:
    names = f"{_shown_name(span.low, hidden)} to {_shown_name(span.high, hidden)}"
    when = f"{span.start_s:.2f}-{span.end_s:.2f} s"
    if span.kind is SpanKind.PROBE:
        return f"{formatting.plural(span.count, 'probe')} between {names}, {when}"
    how = "" if span.kind is SpanKind.LISTED else f" ({span.kind.value})"
    many = f"{span.count} ranges, " if span.count > 1 else ""
    listed = f"{formatting.plural(span.objects, 'object')}, {formatting.plural(span.pages, 'page')}"
    return f"{many}{names}{how}: {listed}, {when}"


def _shown_name(name: str | None, hidden: int) -> str:
    # A name that lacks the common front is the start of everything, or the end of a prefix.
    return formatting.name(name, hidden=hidden if name is not None and len(name) > hidden else 0)


def draw_name_map(chart: NameMap) -> str:
    """Draw for each range a box from its start to its last page, and a line for how it went through its names."""
    ordered = sorted(
        (span for span in chart.spans if span.kind in (SpanKind.LISTED, SpanKind.HANDED_OVER) and span.objects),
        key=lambda span: span.low,
    )
    whole = sum(span.objects for span in ordered)
    vertical = AxisScale(0.0, float(whole or 1), 6.0, _MAP_HEIGHT)
    horizontal = time_scale(chart.seconds)
    boxes = [""] * NAME_COLOURS
    lines = [""] * NAME_COLOURS
    before = 0
    for span in ordered:
        colour = _part(before + span.objects / 2, whole)
        left, right = horizontal(span.start_s), horizontal(span.listed_s)
        top, bottom = vertical(before), vertical(before + span.objects)
        box = f"{number(right - left)}v{number(bottom - top)}H{number(left)}z"
        boxes[colour] += f"M{number(left)} {number(top)}h{box}"
        lines[colour] += f"M{number(left)} {number(top)}L{number(right)} {number(bottom)}"
        before += span.objects
    picture = new_picture(chart.title, _MAP_HEIGHT + 24)
    for count in ticks(float(whole), 5):
        label = "first name" if count == 0 else formatting.short_count(count)
        add_value_line(picture, vertical(count), label)
    add_time_axis(picture, chart.seconds, 6, _MAP_HEIGHT)
    for name, paths in (("box", boxes), ("line", lines)):
        for colour, path in enumerate(paths):
            if path:
                add(picture, "path", class_=f"{name} n{colour}", d=path)
    return svg(picture)


def _part(at: float, whole: float) -> int:
    return min(NAME_COLOURS - 1, int(NAME_COLOURS * at / whole)) if whole else 0
