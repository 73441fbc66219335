"""One piece of work of the core inside an Airflow task, and every way in which the task may end it.

Guarantees: while the `with` block runs, `kill` (Airflow's SIGTERM handler calls it, which raises nothing in 3.x) and
the death of the process that started the task cancel the work. A kill that comes before the block is not lost.

The supervisor's death has to be looked for: a task whose supervisor was killed lives on, and its pipes stay open in
other processes, so only the changed parent tells.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.threads import join_started, start_threads

_LOOK_S = 1.0


class TaskWatch:
    """Cancels the work under way. One per hook; `kill` may be called from a signal handler and more than once."""

    def __init__(self) -> None:
        self._killed = ""
        self._running: CancelToken | None = None

    def kill(self, reason: str) -> None:
        """Cancel the work under way and all that would follow."""
        self._killed = reason
        if self._running is not None:
            self._running.cancel(reason)

    @contextmanager
    def working(self) -> Iterator[CancelToken]:
        """Yield the token of one piece of work."""
        token = CancelToken()
        # Before the look at `_killed`: (1) we look, (2) the signal comes and finds no token, (3) we would go on.
        self._running = token
        if self._killed:
            token.cancel(self._killed)
        over = threading.Event()
        parent = os.getppid()
        watch = threading.Thread(target=_look, args=(token, parent, over), name="dataflux-parent-watch", daemon=True)
        try:
            start_threads([watch])
            yield token
        finally:
            self._running = None
            over.set()
            join_started([watch])


def _look(token: CancelToken, parent: int, over: threading.Event) -> None:
    while not over.wait(_LOOK_S):
        if os.getppid() != parent:
            token.cancel(f"the process {parent} that supervised this task is gone")
            return
