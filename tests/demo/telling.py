"""What the demo prints: lines with the time, a line that moves, a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

QUIET_S = 5.0
"""Seconds between two progress lines where they cannot overwrite each other."""


class DemoError(Exception):
    """Something that the demo shows did not hold. The message says what to do next."""


def say(text: str) -> None:
    """Print one line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Clock:
    """Prints steps with the seconds since the start."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started_at

    def step(self, text: str) -> None:
        """Print one step."""
        say(f"[{self.elapsed_s:4.0f} s] {text}")


class ProgressLine:
    """One line that is overwritten on a terminal, and printed every few seconds elsewhere. A context manager."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._overwrites = sys.stdout.isatty()
        self._shown_at = 0.0
        self._width = 0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._overwrites and self._width:
            say("")

    def show(self, text: str) -> None:
        """Show where the work is."""
        line = f"[{self._clock.elapsed_s:4.0f} s]   {text}"
        if self._overwrites:
            sys.stdout.write("\r" + line.ljust(self._width))
            sys.stdout.flush()
            self._width = len(line)
        elif time.monotonic() - self._shown_at >= QUIET_S:
            self._shown_at = time.monotonic()
            say(line)


def megabytes(size_bytes: float) -> str:
    """Return a size for people."""
    return f"{size_bytes / 1e6:,.1f} MB"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table: the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        return "  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))])

    rule = "-" * len(line(head))
    return "\n".join([rule, line(head), rule, *map(line, rows), rule])
