"""Draw the streams of a listing: who listed what when, and how the names were covered (pure).

Both pictures use one scale of colours over the names, from the first to the last: in the map it runs from top to
bottom, and so explains the bars of the timeline.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from airflow_dataflux.core.report import wording
from airflow_dataflux.core.report.axes import Scale, ticks
from airflow_dataflux.core.report.blocks import Group, NameMap, Timeline
from airflow_dataflux.core.report.canvas import LEFT, RIGHT, WIDTH, picture, time_axis, time_scale, words
from airflow_dataflux.core.report.markup import Markup, join, number, tag
from airflow_dataflux.core.report.spans import Span, SpanKind

NAME_COLOURS = 12

_MOST_HEIGHT, _MOST_LANE, _LEAST_GROUP = 760.0, 9.0, 16.0
_MAP_HEIGHT = 330.0


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


def draw_timeline(block: Timeline) -> Markup:
    """Draw bars in lanes, one group for each process."""
    spans = [span for group in block.groups for span in group.spans]
    colours = NameColours(spans)
    dropped = wording.common_front(span.low for span in spans if span.low)
    lanes = sum(group.lanes for group in block.groups)
    height = min(_MOST_LANE, _MOST_HEIGHT / max(1, lanes))
    tops: list[float] = []
    y = 6.0
    for group in block.groups:
        tops.append(y)
        y += max(_LEAST_GROUP, group.lanes * height) + 8
    ground = y - 4
    parts = [time_axis(block.seconds, 2, ground)]
    for group, top in zip(block.groups, tops, strict=True):
        parts.append(_group(group, top, height, block.seconds, colours, dropped))
    return picture(block.title, ground + 24, *parts)


def _group(group: Group, top: float, height: float, seconds: float, colours: NameColours, dropped: int) -> Markup:
    across = time_scale(seconds)
    room = max(_LEAST_GROUP, group.lanes * height)
    parts = [
        tag("rect", class_="ground", x=LEFT, y=top - 2, width=WIDTH - LEFT - RIGHT, height=room + 4, rx=3),
        words(LEFT - 8, top + room / 2 + 4, group.label, anchor="end"),
    ]
    for span in group.spans:
        start, end = across(span.start_s), across(span.end_s)
        classes = "probe" if span.kind is SpanKind.PROBE else f"n{colours.of(span.low)}"
        if span.kind is SpanKind.LOST:
            classes += " lost"
        elif not span.objects and span.kind is not SpanKind.PROBE:
            classes += " empty"
        bar_height = max(0.6, height - (1.5 if height > 4 else 0.3))
        y = top + span.lane * height
        told = tag("title", _told(span, dropped))
        parts.append(
            tag("rect", told, class_=classes, x=start, y=y, width=max(0.8, end - start - 0.4), height=bar_height)
        )
        listed = across(span.listed_s)
        if span.pages and end - listed > 3:
            # What is behind the last page is waiting for the disk, not for the bucket.
            parts.append(tag("rect", class_="durable", x=listed, y=y, width=end - listed - 0.4, height=bar_height))
    strokes = "".join(
        f"M{number(across(mark.at_s))} {number(top + mark.lane * height - 0.5)}v{number(height)}"
        for mark in group.marks
    )
    if strokes:
        parts.append(tag("path", class_="steal", d=strokes))
    for moment in group.lost_s:
        at = across(moment)
        parts.append(tag("line", class_="lostline", x1=at, x2=at, y1=top - 2, y2=top + room + 2))
    return join(*parts)


def _told(span: Span, dropped: int) -> str:
    names = f"{_shown(span.low, dropped)} to {_shown(span.high, dropped)}"
    when = f"{span.start_s:.2f}-{span.end_s:.2f} s"
    if span.kind is SpanKind.PROBE:
        return f"{wording.plural(span.count, 'probe')} between {names}, {when}"
    how = "" if span.kind is SpanKind.LISTED else f" ({span.kind.value})"
    many = f"{span.count} ranges, " if span.count > 1 else ""
    return f"{many}{names}{how}: {wording.plural(span.objects, 'object')}, {wording.plural(span.pages, 'page')}, {when}"


def _shown(name: str | None, dropped: int) -> str:
    # A name that lacks the common front is the start of everything, or the end of a prefix.
    return wording.name(name, dropped=dropped if name is not None and len(name) > dropped else 0)


def draw_name_map(block: NameMap) -> Markup:
    """Draw for each range a box from its start to its last page, and a line for how it went through its names."""
    ordered = sorted(
        (span for span in block.spans if span.kind in (SpanKind.LISTED, SpanKind.HANDED_OVER) and span.objects),
        key=lambda span: span.low,
    )
    whole = sum(span.objects for span in ordered)
    down = Scale(0.0, float(whole or 1), 6.0, _MAP_HEIGHT)
    across = time_scale(block.seconds)
    boxes = [""] * NAME_COLOURS
    lines = [""] * NAME_COLOURS
    before = 0
    for span in ordered:
        colour = _part(before + span.objects / 2, whole)
        left, right = across(span.start_s), across(span.listed_s)
        top, bottom = down(before), down(before + span.objects)
        box = f"{number(right - left)}v{number(bottom - top)}H{number(left)}z"
        boxes[colour] += f"M{number(left)} {number(top)}h{box}"
        lines[colour] += f"M{number(left)} {number(top)}L{number(right)} {number(bottom)}"
        before += span.objects
    return picture(
        block.title,
        _MAP_HEIGHT + 24,
        _count_axis(down, whole),
        time_axis(block.seconds, 6, _MAP_HEIGHT),
        *(tag("path", class_=f"box n{at}", d=box) for at, box in enumerate(boxes) if box),
        *(tag("path", class_=f"line n{at}", d=line) for at, line in enumerate(lines) if line),
    )


def _count_axis(down: Scale, whole: int) -> Markup:
    marks: Sequence[float] = ticks(float(whole), 5)
    return join(
        *(
            join(
                tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=down(mark), y2=down(mark)),
                words(LEFT - 8, down(mark) + 4, "first name" if mark == 0 else wording.short_count(mark), anchor="end"),
            )
            for mark in marks
        )
    )


def _part(at: float, whole: float) -> int:
    return min(NAME_COLOURS - 1, int(NAME_COLOURS * at / whole)) if whole else 0
