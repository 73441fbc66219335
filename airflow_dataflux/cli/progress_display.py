"""How far a command is: a bar on a terminal, a line every few seconds elsewhere. All of it on the error output.

The bar is Rich's, which is imported when there is something to show: most commands have ended before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from airflow_dataflux.core.report.formatting import plural, roughly, size
from airflow_dataflux.core.runtime.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from airflow_dataflux.core.runtime.progress import RunEvent

_VERBS = {"listing": "Listing", "staging": "Staging", "packing": "Packing"}
"""Stages that take their time; what a run tells before and after them is in its report."""

_OBJECTS_A_PAGE = 1000
"""What a page of a listing holds; what filters drop is not counted in what is still to come."""


class ProgressDisplay:
    """An observer of a run. Use it in a `with` block, and print what was made of the run after that, or not at all.

    Args:
        stream: where it is shown.
        wanted: whether to show anything.
    """

    def __init__(self, stream: TextIO, *, wanted: bool) -> None:
        self._stream = stream
        self._wanted = wanted
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop()

    def __call__(self, event: RunEvent) -> None:
        """Show what a run tells; its end takes the bar away."""
        if not isinstance(event, Progress):
            self._stop()
        elif self._wanted and event.stage in _VERBS and event.figures:
            if self._stream.isatty():
                self._advance(event.stage, event.figures)
            else:
                self._stream.write(event.text + "\n")
                self._stream.flush()

    def _advance(self, stage: str, figures: Mapping[str, int | float]) -> None:
        done, total = extent(figures)
        if self._bars is None:
            self._bars = _bars(self._stream)
            self._task = self._bars.add_task(_VERBS[stage], total=total, figures="")
            try:
                self._bars.start()
            except RuntimeError:  # there is no thread to be had for it
                self._wanted = False
                self._stop()
                return
        assert self._task is not None
        self._bars.update(self._task, completed=done, total=total, figures=shown(figures), description=_VERBS[stage])

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = self._task = None


def extent(figures: Mapping[str, int | float]) -> tuple[float, float | None]:
    """Return how much is done and how much it is in all, in one unit; None where that is not known yet."""
    if figures.get("of_bytes"):
        return figures["bytes"], figures["of_bytes"]
    if "of_objects" in figures:
        return figures["objects"], figures["of_objects"]
    if "expected_objects" in figures:
        return figures["objects"], figures["expected_objects"]
    if "remaining_pages" in figures:
        return figures["objects"], figures["objects"] + _OBJECTS_A_PAGE * figures["remaining_pages"]
    return figures["objects"], None


def shown(figures: Mapping[str, int | float]) -> str:
    """Return what stands beside the bar."""
    words = [plural(int(figures["objects"]), "object")]
    for key, of in (("of_objects", "of"), ("expected_objects", "of about")):
        if key in figures:
            words = [f"{int(figures['objects']):,} {of} {int(figures[key]):,} objects"]
    if "bytes_per_s" in figures:
        words.append(f"{size(figures['bytes'])} at {size(figures['bytes_per_s'])}/s")
    elif "objects_per_s" in figures:
        words.append(f"{figures['objects_per_s']:,.0f} a second")
    if "eta_s" in figures:
        words.append(f"about {roughly(figures['eta_s'])} left")
    return ", ".join(words)


def _bars(stream: TextIO) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    return Bars(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        console=Console(file=stream),
        transient=True,
    )
