"""Draw layers over time: how fast, and how many at once (pure)."""

from __future__ import annotations

from airflow_dataflux.core.report.axes import Scale
from airflow_dataflux.core.report.blocks import Areas
from airflow_dataflux.core.report.canvas import picture, time_axis, time_scale, value_axis
from airflow_dataflux.core.report.markup import Markup, join, number, tag

_TOP, _GROUND, _BELOW = 10.0, 190.0, 24.0


def draw_areas(block: Areas) -> Markup:
    """Draw an area chart. Layers are steps: a bucket's value holds for all of the bucket."""
    count = max((len(layer.values) for layer in block.layers), default=0)
    sums = [0.0] * count
    stacked: list[tuple[int, list[float], list[float]]] = []
    for layer in block.layers:
        below = list(sums)
        for at, value in enumerate(layer.values):
            sums[at] += max(0.0, value)
        stacked.append((layer.colour, below, list(sums)))
    scale = Scale(0.0, max(sums, default=0.0) * 1.05 or 1.0, _GROUND, _TOP)
    across = time_scale(block.seconds)
    areas = [
        tag("path", class_=f"area c{colour}", d=_steps(below, above, block, across, scale))
        for colour, below, above in stacked
        if any(high > low for low, high in zip(below, above, strict=True))
    ]
    return picture(
        block.title,
        _GROUND + _BELOW,
        value_axis(scale, block.unit),
        time_axis(block.seconds, _TOP, _GROUND),
        join(*areas),
    )


def _steps(below: list[float], above: list[float], block: Areas, across: Scale, scale: Scale) -> str:
    edges = [across(min(block.seconds, at * block.width_s)) for at in range(len(above) + 1)]
    there = "".join(_step(edges[at], edges[at + 1], scale(value)) for at, value in enumerate(above))
    back = "".join(_step(edges[at + 1], edges[at], scale(value)) for at, value in reversed(list(enumerate(below))))
    return f"M{there[1:]}{back}Z"


def _step(start: float, end: float, y: float) -> str:
    return f"L{number(start)} {number(y)}H{number(end)}"
