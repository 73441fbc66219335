"""Draw amounts as bars: beside one another, one per row, or over time (pure)."""

from __future__ import annotations

from airflow_dataflux.core.report import wording
from airflow_dataflux.core.report.axes import Scale
from airflow_dataflux.core.report.blocks import Histogram, Phases, Shares
from airflow_dataflux.core.report.canvas import LEFT, RIGHT, WIDTH, picture, time_axis, time_scale, value_axis, words
from airflow_dataflux.core.report.markup import Markup, tag

_TOP, _GROUND = 18.0, 190.0
_ROW = 24.0
_LABEL = 250.0
"""Room for the words in front of a row."""


def draw_histogram(block: Histogram) -> Markup:
    """Draw bars beside one another."""
    scale = Scale(0.0, max((bar.value for bar in block.bars), default=0.0) * 1.05 or 1.0, _GROUND, _TOP)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(block.bars))
    width = min(step * 0.86, 64.0)
    each_word = -(-len(block.bars) // 16)  # so that words do not meet
    parts = [value_axis(scale, "")]
    for at, bar in enumerate(block.bars):
        middle = LEFT + (at + 0.5) * step
        top = min(scale(bar.value), _GROUND - 1.5) if bar.value else _GROUND
        parts.append(
            tag(
                "rect",
                tag("title", f"{bar.label}: {bar.shown}"),
                class_="c0",
                x=middle - width / 2,
                y=top,
                width=width,
                height=_GROUND - top,
            )
        )
        if at % each_word == 0:
            parts.append(words(middle, _GROUND + 15, bar.label, anchor="middle", class_="small"))
    return picture(block.title, _GROUND + 24, *parts)


def draw_shares(block: Shares) -> Markup:
    """Draw one row for each part of a whole."""
    whole = max((bar.value for bar in block.bars), default=0.0)
    scale = Scale(0.0, whole or 1.0, 0.0, WIDTH - _LABEL - 210)
    parts: list[Markup] = []
    for row, bar in enumerate(block.bars):
        y = row * _ROW + 4
        width = max(scale(bar.value), 1.5 if bar.value else 0.0)
        parts += [
            words(_LABEL - 10, y + 13, bar.label, anchor="end"),
            tag("rect", class_=f"c{row % 8}", x=_LABEL, y=y, width=width, height=_ROW - 7, rx=2),
            words(_LABEL + width + 8, y + 13, bar.shown),
        ]
    return picture(block.title, len(block.bars) * _ROW + 8, *parts)


def draw_phases(block: Phases) -> Markup:
    """Draw one row for each part of a run."""
    across = time_scale(block.seconds)
    ground = len(block.phases) * _ROW + 6
    parts = [time_axis(block.seconds, 2, ground)]
    for row, phase in enumerate(block.phases):
        y = row * _ROW + 4
        start, end = across(phase.start_s), across(phase.end_s)
        shown = wording.seconds(phase.end_s - phase.start_s)
        behind = end + 70 < WIDTH - RIGHT
        parts += [
            words(LEFT - 8, y + 13, phase.label, anchor="end"),
            tag("rect", class_=f"c{phase.colour}", x=start, y=y, width=max(1.5, end - start), height=_ROW - 7, rx=2),
            words(end + 6, y + 13, shown)
            if behind
            else words(end - 6, y + 13, shown, anchor="end", class_="onbar")
            if end - start > 80
            else words(start - 6, y + 13, shown, anchor="end"),
        ]
    return picture(block.title, ground + 24, *parts)
