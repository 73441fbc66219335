"""The core's progress as lines of the task's log, in collapsible groups, one a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_dataflux.core.runtime.progress import Progress


class Narrator:
    """Writes progress through a logger's `info`. Not thread-safe: the core calls back in the calling thread."""

    def __init__(self, info: Callable[..., object]) -> None:
        self._info = info
        self._stage: str | None = None

    def tell(self, progress: Progress) -> None:
        """Log one line, opening the group of its stage."""
        if progress.stage != self._stage:
            self._close()
            self._open(progress.stage)
        self._info("%s", progress.text)

    def _open(self, stage: str) -> None:
        self._stage = stage
        self._info("::group::%s", stage)

    def _close(self) -> None:
        if self._stage is not None:
            self._stage = None
            self._info("::endgroup::")

    @contextmanager
    def telling(self, stage: str) -> Iterator[None]:
        """Open the group of a first stage, and close the last one however the block ends.

        What follows, an error above all, must not disappear in a group.
        """
        self._open(stage)
        try:
            yield
        finally:
            self._close()
