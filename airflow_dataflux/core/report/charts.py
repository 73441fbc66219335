"""Charts as data, and the functions that draw them as SVG (pure).

Every chart carries `summary`, the sentence that says what it shows to those who do not see it; the page prints it below
the picture, for everybody. Colours are classes of the page's style: `c0` to `c7`.

Guarantees: a picture is well-formed XML whatever its labels hold: `xml.etree` escapes them, and what XML cannot hold is
replaced; the same chart gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import msgspec

from airflow_dataflux.core.report import formatting

WIDTH = 920.0
"""Of all pictures, in their own pixels; the page scales them to its width."""

LEFT, RIGHT = 76.0, 14.0
"""Margins: on the left for the labels of an axis."""

_TOP, _BASELINE, _BELOW = 10.0, 190.0, 24.0
_BAR_TOP = 18.0
_ROW = 24.0
_LABEL = 250.0
"""Room for the label in front of a row."""


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of an area chart: its colour, 0 to 7, and a value for each bucket of time."""

    label: str
    colour: int
    values: Sequence[float]


class Areas(msgspec.Struct, frozen=True, kw_only=True):
    """Layers on top of one another over time.

    Attributes:
        title, summary: in words.
        layers: from the bottom up; with buckets of `width_s` each.
        width_s: seconds of a bucket; layers may have widths of their own only by being separate charts.
        seconds: where the time axis ends.
        unit: of the values: "bytes" are written as sizes, all others as numbers.
    """

    title: str
    summary: str
    layers: tuple[Layer, ...]
    width_s: float
    seconds: float
    unit: str


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A bar: what it stands for, how long it is, and its value in words."""

    label: str
    value: float
    shown: str


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Bars beside one another, in the order of their labels."""

    title: str
    summary: str
    bars: tuple[Bar, ...]


class Proportions(msgspec.Struct, frozen=True, kw_only=True):
    """Parts of a whole, one row each."""

    title: str
    summary: str
    bars: tuple[Bar, ...]


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a run that took from here to there."""

    label: str
    start_s: float
    end_s: float
    colour: int = 0


class Phases(msgspec.Struct, frozen=True, kw_only=True):
    """Parts of a run, one row each, over time."""

    title: str
    summary: str
    phases: tuple[Phase, ...]
    seconds: float


def draw_areas(chart: Areas) -> str:
    """Draw an area chart. Layers are steps: a bucket's value holds for all of the bucket."""
    count = max((len(layer.values) for layer in chart.layers), default=0)
    sums = [0.0] * count
    stacked: list[tuple[int, list[float], list[float]]] = []
    for layer in chart.layers:
        below = list(sums)
        for at, value in enumerate(layer.values):
            sums[at] += max(0.0, value)
        stacked.append((layer.colour, below, list(sums)))
    vertical = AxisScale(0.0, max(sums, default=0.0) * 1.05 or 1.0, _BASELINE, _TOP)
    horizontal = time_scale(chart.seconds)
    picture = new_picture(chart.title, _BASELINE + _BELOW)
    _add_value_axis(picture, vertical, chart.unit)
    add_time_axis(picture, chart.seconds, _TOP, _BASELINE)
    edges = [horizontal(min(chart.seconds, at * chart.width_s)) for at in range(count + 1)]
    for colour, below, above in stacked:
        if any(high > low for low, high in zip(below, above, strict=True)):
            upper, lower = [vertical(value) for value in above], [vertical(value) for value in below]
            add(picture, "path", class_=f"area c{colour}", d=_steps(edges, lower, upper))
    return svg(picture)


def _steps(edges: list[float], lower: list[float], upper: list[float]) -> str:
    """Return the outline of a layer: along its upper steps, and back along its lower ones."""
    forth = [(edges[at], edges[at + 1], y) for at, y in enumerate(upper)]
    back = [(edges[at + 1], edges[at], y) for at, y in reversed(list(enumerate(lower)))]
    steps = "".join(f"L{number(start)} {number(y)}H{number(end)}" for start, end, y in (*forth, *back))
    return f"M{steps[1:]}Z"


def draw_histogram(chart: Histogram) -> str:
    """Draw bars beside one another."""
    most = max((bar.value for bar in chart.bars), default=0.0)
    vertical = AxisScale(0.0, most * 1.05 or 1.0, _BASELINE, _BAR_TOP)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(chart.bars))
    width = min(step * 0.86, 64.0)
    bars_per_label = -(-len(chart.bars) // 16)  # so that labels do not meet
    picture = new_picture(chart.title, _BASELINE + _BELOW)
    _add_value_axis(picture, vertical, "")
    for at, bar in enumerate(chart.bars):
        middle = LEFT + (at + 0.5) * step
        top = min(vertical(bar.value), _BASELINE - 1.5) if bar.value else _BASELINE
        drawn = add(picture, "rect", class_="c0", x=middle - width / 2, y=top, width=width, height=_BASELINE - top)
        add(drawn, "title", f"{bar.label}: {bar.shown}")
        if at % bars_per_label == 0:
            add_text(picture, middle, _BASELINE + 15, bar.label, anchor="middle", class_="small")
    return svg(picture)


def draw_proportions(chart: Proportions) -> str:
    """Draw one row for each part of a whole."""
    most = max((bar.value for bar in chart.bars), default=0.0)
    horizontal = AxisScale(0.0, most or 1.0, 0.0, WIDTH - _LABEL - 210)
    picture = new_picture(chart.title, len(chart.bars) * _ROW + 8)
    for row, bar in enumerate(chart.bars):
        y = row * _ROW + 4
        width = max(horizontal(bar.value), 1.5 if bar.value else 0.0)
        add_text(picture, _LABEL - 10, y + 13, bar.label, anchor="end")
        add(picture, "rect", class_=f"c{row % 8}", x=_LABEL, y=y, width=width, height=_ROW - 7, rx=2)
        add_text(picture, _LABEL + width + 8, y + 13, bar.shown)
    return svg(picture)


def draw_phases(chart: Phases) -> str:
    """Draw one row for each part of a run."""
    horizontal = time_scale(chart.seconds)
    bottom = len(chart.phases) * _ROW + 6
    picture = new_picture(chart.title, bottom + _BELOW)
    add_time_axis(picture, chart.seconds, 2, bottom)
    for row, phase in enumerate(chart.phases):
        y = row * _ROW + 4
        start, end = horizontal(phase.start_s), horizontal(phase.end_s)
        width = max(1.5, end - start)
        duration = formatting.seconds(phase.end_s - phase.start_s)
        add_text(picture, LEFT - 8, y + 13, phase.label, anchor="end")
        add(picture, "rect", class_=f"c{phase.colour}", x=start, y=y, width=width, height=_ROW - 7, rx=2)
        if end + 70 < WIDTH - RIGHT:  # behind the bar, else on it, else in front of it
            add_text(picture, end + 6, y + 13, duration)
        elif end - start > 80:
            add_text(picture, end - 6, y + 13, duration, anchor="end", class_="onbar")
        else:
            add_text(picture, start - 6, y + 13, duration, anchor="end")
    return svg(picture)


class AxisScale(msgspec.Struct, frozen=True):
    """Maps `[low, high]` to `[start, end]` in pixels; what lies outside is drawn at the edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        if self.high <= self.low:
            return self.start
        part = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return self.start + part * (self.end - self.start)


def time_scale(seconds: float) -> AxisScale:
    """Return the scale from the begin of a run to its end."""
    return AxisScale(0.0, max(seconds, 1e-3), LEFT, WIDTH - RIGHT)


def ticks(high: float, most: int, *, binary: bool = False) -> list[float]:
    """Return round values from 0 up to `high`, at most `most` of them besides 0.

    `binary` values are multiples of a power of two, as bytes are round, and whole.
    """
    if high <= 0 or not math.isfinite(high):
        return [0.0]
    step = (power_of_two if binary else nice)(high / max(1, most))
    return [step * at for at in range(int(high / step + 1e-9) + 1)]


def nice(value: float) -> float:
    """Return the least of 1, 2, 2.5, 5 and 10 times a power of ten that is not below a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= value * (1 - 1e-9))


def power_of_two(value: float) -> float:
    """Return the least power of two, 1 or more, that is not below a value."""
    return 2.0 ** max(0, math.ceil(math.log2(value) - 1e-9))


def new_picture(title: str, height: float) -> Element:
    """Begin a picture. What it says in words stands beside it, so it is one image to a screen reader."""
    picture = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH:.0f} {height:.0f}",
            "role": "img",
            "aria-label": formatting.writable(title),
        },
    )
    add(picture, "title", title)
    return picture


def svg(picture: Element) -> str:
    """Return the finished picture as text."""
    return ElementTree.tostring(picture, encoding="unicode", short_empty_elements=False)


def add(parent: Element, name: str, text: str = "", /, **attributes: str | float) -> Element:
    """Add an element and return it. `class_` stands for class, an underscore for a hyphen."""
    written = {
        key.rstrip("_").replace("_", "-"): value if isinstance(value, str) else number(value)
        for key, value in attributes.items()
    }
    element = SubElement(parent, name, written)
    element.text = formatting.writable(text)
    return element


def add_text(picture: Element, at: float, y: float, text: str, *, anchor: str = "start", class_: str = "") -> None:
    """Write a few words, with their baseline at `y`."""
    optional = {"text_anchor": anchor} if anchor != "start" else {}
    if class_:
        optional["class_"] = class_
    add(picture, "text", text, x=at, y=y, **optional)


def add_time_axis(picture: Element, seconds: float, top: float, bottom: float) -> None:
    """Draw lines at round moments from `top` to `bottom`, and the moments below."""
    horizontal = time_scale(seconds)
    for moment in ticks(horizontal.high, 8):
        at = horizontal(moment)
        add(picture, "line", class_="grid", x1=at, x2=at, y1=top, y2=bottom)
        label = f"{moment:g} s" if seconds < 600 else f"{moment / 60:g} min"
        add_text(picture, at, bottom + 14, label, anchor="middle")


def _add_value_axis(picture: Element, vertical: AxisScale, unit: str) -> None:
    """Draw lines at round values, and the values on the left: bytes as sizes, at steps of 16 MiB and the like."""
    are_bytes = unit.startswith("bytes")
    for value in ticks(vertical.high, 4, binary=are_bytes):
        label = formatting.size(value) if are_bytes else formatting.short_count(value)
        add_value_line(picture, vertical(value), label)


def add_value_line(picture: Element, y: float, label: str) -> None:
    """Draw one line of an axis of values, with its label on the left."""
    add(picture, "line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)
    add_text(picture, LEFT - 8, y + 4, label, anchor="end")


def number(value: float) -> str:
    """Return a number as briefly as it can be written with two decimals, which are a fiftieth of a pixel."""
    written = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if written in ("-0", "") else written
