"""What a run tells whoever watches it: progress every few seconds, its report, its statistics at the end.

An `Observer` is one function that is called with each `RunEvent`, in the thread that lists or stages. It ignores the
kinds that it does not know. What it raises ends the run. The run does not know who watches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from airflow_dataflux.core.report.report_info import ReportInfo


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One line for a log, and the figures behind it.

    Attributes:
        stage: "preflight", "listing", "staging", "packing" or "summary".
        text: the line, without a time stamp.
        figures: every number in `text`, by name with its unit (`objects`, `bytes`, `eta_s`, ...).
    """

    stage: str
    text: str
    figures: Mapping[str, int | float] = {}


class RunStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a run that is over, told last.

    Attributes:
        kind: "listing", "staging" or "packing".
        figures: the manifest's `stats`, or the summary of the receipt or of the pack.
    """

    kind: Literal["listing", "staging", "packing"]
    figures: Mapping[str, Any]


if TYPE_CHECKING:
    RunEvent = Progress | ReportInfo | RunStatistics
    Observer = Callable[[RunEvent], None]


class Pulse:
    """Says when the next progress line is due. Not thread-safe: one owner."""

    def __init__(self, interval_s: float = 5.0, *, due_at_once: bool = False) -> None:
        """The first line is due after `interval_s`, or at once."""
        self._interval_s = interval_s
        self._next = time.monotonic() + (0.0 if due_at_once else interval_s)

    def remaining_s(self) -> float:
        """Return the seconds until the next line is due, 0 if it is overdue."""
        return max(0.0, self._next - time.monotonic())

    def due(self) -> bool:
        """Return whether a line is due, and if so, count from now."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._interval_s
        return True
