"""The ground of every picture: its frame, its time axis, its words (pure)."""

from __future__ import annotations

from airflow_dataflux.core.report import wording
from airflow_dataflux.core.report.axes import Scale, ticks
from airflow_dataflux.core.report.markup import Markup, join, tag

WIDTH = 920.0
"""Of all pictures, in their own pixels; the page scales them to its width."""

LEFT, RIGHT = 76.0, 14.0
"""Margins: on the left for the words of an axis."""


def time_scale(seconds: float) -> Scale:
    """Return the scale from the begin of a run to its end."""
    return Scale(0.0, max(seconds, 1e-3), LEFT, WIDTH - RIGHT)


def time_axis(seconds: float, top: float, bottom: float) -> Markup:
    """Draw lines at round moments from `top` to `bottom`, and the moments below."""
    scale = time_scale(seconds)
    parts: list[Markup] = []
    for moment in ticks(scale.high, 8):
        at = scale(moment)
        parts.append(tag("line", class_="grid", x1=at, x2=at, y1=top, y2=bottom))
        label = f"{moment:g} s" if seconds < 600 else f"{moment / 60:g} min"
        parts.append(words(at, bottom + 14, label, anchor="middle"))
    return join(*parts)


def words(at: float, y: float, label: str, *, anchor: str = "start", class_: str | None = None) -> Markup:
    """Write a few words, with their baseline at `y`."""
    return tag("text", label, x=at, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def value_axis(scale: Scale, unit: str) -> Markup:
    """Draw lines at round values, and the values on the left: bytes as sizes, at steps of 16 MiB and the like."""
    parts: list[Markup] = []
    are_bytes = unit.startswith("bytes")
    for value in ticks(scale.high, 4, binary=are_bytes):
        y = scale(value)
        parts.append(tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        shown = wording.size(value) if are_bytes else wording.short_count(value)
        parts.append(words(LEFT - 8, y + 4, shown, anchor="end"))
    return join(*parts)


def picture(title: str, height: float, *content: Markup) -> Markup:
    """Return the finished picture. What it says in words stands beside it, so it is one image to a screen reader."""
    return tag(
        "svg",
        tag("title", title),
        *content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        aria_label=title,
    )
