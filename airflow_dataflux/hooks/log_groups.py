"""The core's progress as lines of the task's log: what comes before the work in a group, all else in the open.

Airflow shows a group collapsed, so progress and the summary are never in one: they are what a person looks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_dataflux.core.runtime.progress import Progress

if TYPE_CHECKING:
    from airflow_dataflux.core.runtime.progress import RunEvent

_GROUPED = "preflight"
"""The stage whose lines are in a group of its name."""


class LogGroups:
    """Writes progress through a logger's `info`. Not thread-safe: the core calls back in the calling thread."""

    def __init__(self, info: Callable[..., object]) -> None:
        self._info = info
        self._open = False

    def observe(self, event: RunEvent) -> None:
        """Log a line of progress."""
        if not isinstance(event, Progress):
            return
        if event.stage != _GROUPED:
            self._close()
        elif not self._open:
            self._open = True
            self._info("::group::%s", _GROUPED)
        self._info("%s", event.text)

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._info("::endgroup::")

    @contextmanager
    def closed_at_the_end(self) -> Iterator[None]:
        """Close a group that is open, however the block ends: an error must not disappear in it."""
        try:
            yield
        finally:
            self._close()
