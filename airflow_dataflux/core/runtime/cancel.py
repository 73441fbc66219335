"""One cancel token for one piece of work, and a pipe that wakes whoever waits on connections.

Guarantees: cancelling is idempotent, safe from any thread and from a signal handler, and the first reason given is
the one reported. Assumption: whoever waits does so on the token, registers a waker, or checks it between steps.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

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

    @contextlib.contextmanager
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


class WakeUp:
    """A pipe that wakes a wait on connections. `set` is safe in signal handlers and from any thread.

    `reader` goes into `multiprocessing.connection.wait`; `set` makes it readable, `clear` ends that.
    """

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)

    def set(self) -> None:
        """Wake whoever waits."""
        # Full: the wake-up is already there. Closed: nobody waits any more.
        with contextlib.suppress(OSError):
            os.write(self._writer, b"\0")

    def clear(self) -> None:
        """Forget wake-ups that were seen."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.reader, 4096):
                continue

    def __enter__(self) -> WakeUp:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.reader)
        os.close(self._writer)
