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
            self._stage = progress.stage
            self._info("::group::%s", progress.stage)
        self._info("%s", progress.text)

    def _close(self) -> None:
        if self._stage is not None:
            self._stage = None
            self._info("::endgroup::")

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Close the last group however the block ends: what follows must not disappear in it."""
        try:
            yield
        finally:
            self._close()
