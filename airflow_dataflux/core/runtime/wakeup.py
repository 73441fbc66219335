"""A pipe that wakes a wait on connections. Writing to it is safe in signal handlers and from any thread."""

from __future__ import annotations

import contextlib
import os


class WakeUp:
    """`reader` goes into `multiprocessing.connection.wait`; `set` makes it readable, `clear` ends that."""

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
