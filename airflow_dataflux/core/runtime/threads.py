"""Start threads and wait for them, also where the system permits no more of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from airflow_dataflux.core.errors import EngineError


def start_threads(threads: Iterable[threading.Thread]) -> None:
    """Start them one after the other.

    Raises EngineError if the system permits no more: those before run then, and the caller must end them.
    """
    for thread in threads:
        try:
            thread.start()
        except RuntimeError as error:  # what Python makes of a pthread_create that failed
            raise not_started(f"The thread {thread.name}", error) from error


def not_started(what: str, error: Exception) -> EngineError:
    """Return the error of a thread or process that the system refused to start."""
    return EngineError(
        f"{what} could not be started ({error}): a limit of processes, of open files or of memory is reached. Raise it "
        "(`ulimit -u`, `-n`, `-v`, the container's pids.max), or give the task fewer workers, streams or max_in_flight."
    )


def join_started(threads: Iterable[threading.Thread]) -> None:
    """Wait for the end of those that were started."""
    for thread in threads:
        if thread.ident is not None:
            thread.join()
