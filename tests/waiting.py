"""Waiting for what no event tells: the state of another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

HANGS_S = 900.0
"""A bound for a test that hangs, not a measure: on a busy machine a task alone may take a minute to start."""


def wait_until(reached: Callable[[], T], what: str, limit_s: float = HANGS_S) -> T:
    """Ask until the answer is true, and return it. Fails if `what` does not happen within the limit."""
    deadline = time.monotonic() + limit_s
    while not (value := reached()):
        assert time.monotonic() < deadline, f"{what} did not happen within {limit_s:.0f} s"
        time.sleep(0.1)
    return value
