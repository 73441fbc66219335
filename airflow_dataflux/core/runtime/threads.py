"""Start threads and wait for them, also where the system permits no more of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from airflow_dataflux.core.errors import EngineError

P = ParamSpec("P")
T = TypeVar("T")


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


class ThreadPool(ThreadPoolExecutor):
    """A pool of threads, each started when it is needed first. Use it in a `with` block."""

    def __init__(self, most_threads: int, name: str) -> None:
        super().__init__(most_threads, thread_name_prefix=name)
        self._name = name

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function called in a thread.

        Raises EngineError if the system permits no thread for it; one that is there already may call it all the same.
        """
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError as error:
            if "start new thread" not in str(error):
                raise  # submitted after the end
            raise not_started(f"A {self._name} thread", error) from error


def join_started(threads: Iterable[threading.Thread]) -> None:
    """Wait for the end of those that were started."""
    for thread in threads:
        if thread.ident is not None:
            thread.join()
