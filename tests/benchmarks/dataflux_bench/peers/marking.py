"""How a measured program says when its work began and when it was done."""

from __future__ import annotations

import json
import os
import resource
import time
from typing import Any

from dataflux_bench.supervise import MARK_FD, MARK_SEEN, MARK_TIME


class Stopwatch:
    """Made when everything is imported, just before the call that is measured."""

    def __init__(self) -> None:
        self._fd = int(os.environ.pop(MARK_FD))
        os.set_inheritable(self._fd, False)
        self._started = float(os.environ.pop(MARK_TIME))
        self._began = time.monotonic()

    def done(self, **figures: Any) -> None:
        """Send the mark: the result is in hand. Returns when the supervisor has looked at the tree."""
        now = time.monotonic()
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        self._write(
            call_s=now - self._began,
            start_s=self._began - self._started,
            cpu_s=sum(usage.ru_utime + usage.ru_stime for usage in used),
            **figures,
        )
        os.read(self._fd, len(MARK_SEEN))

    def report(self, **figures: Any) -> None:
        """Send what is found out about the result, once."""
        self._write(**figures)

    def _write(self, **figures: Any) -> None:
        line = json.dumps(figures).encode() + b"\n"
        while line:
            line = line[os.write(self._fd, line) :]


def digest_names(names: list[str]) -> dict[str, Any]:
    """Return the count and the digest that a right, sorted listing has (`Dataset.names_digest`)."""
    import hashlib

    digest = hashlib.sha256()
    for first in range(0, len(names), 100_000):
        digest.update("".join(name + "\n" for name in names[first : first + 100_000]).encode())
    return {"count": len(names), "digest": digest.hexdigest()}
