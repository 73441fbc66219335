"""What a running job tells about itself, every few seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """One line for a log, and the figures behind it.

    Attributes:
        stage: "preflight", "listing", "staging" or "summary".
        text: the line, without a time stamp.
        figures: every number in `text`, by name with its unit (`objects`, `bytes`, `eta_s`, ...).
    """

    stage: str
    text: str
    figures: Mapping[str, int | float] = field(default_factory=dict)


class Pulse:
    """Says when the next progress line is due. Not thread-safe: one owner."""

    def __init__(self, interval_s: float = 5.0) -> None:
        self._interval_s = interval_s
        self._next = time.monotonic() + interval_s

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
