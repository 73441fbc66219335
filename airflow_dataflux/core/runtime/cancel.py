"""One cancel token for one piece of work.

Guarantees: cancelling is idempotent, safe from any thread and from a signal handler, and the first reason given is
the one reported. Assumption: whoever waits does so on the token, registers a waker, or checks it between steps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_dataflux.core.errors import CancelledError


class CancelToken:
    """Tells cooperating threads to stop, once, with a reason."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._reason = ""
        self._wakers: list[Callable[[], None]] = []

    def cancel(self, reason: str) -> None:
        """Ask the work to stop. Later calls change nothing."""
        if self._event.is_set():
            return
        self._reason = reason
        self._event.set()
        for wake in tuple(self._wakers):
            wake()

    @property
    def cancelled(self) -> bool:
        """Whether the work was asked to stop."""
        return self._event.is_set()

    @property
    def reason(self) -> str:
        """Why the work was asked to stop; empty while it was not."""
        return self._reason

    def raise_if_cancelled(self) -> None:
        """Raise CancelledError if the work was asked to stop."""
        if self._event.is_set():
            raise CancelledError(f"Stopped before the end: {self._reason}.")

    def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` seconds for a cancel; return whether there was one. The sleep of every back-off."""
        return self._event.wait(timeout_s)

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake` at the moment of a cancel (at once if there was one), for whoever waits on something else.

        `wake` runs in the canceller's thread or signal handler: it may only do what is safe there, such as writing
        a byte to a pipe.
        """
        self._wakers.append(wake)
        try:
            # A cancel between the registration and this line wakes twice, which is harmless; never would not be.
            if self._event.is_set():
                wake()
            yield
        finally:
            self._wakers.remove(wake)
