"""How long things take: modelled latency and bandwidth.

Latency is what a far server and its network would add; it is waited out by `asyncio.sleep`, so that any number of
requests wait at once for the price of a timer each. Jitter comes from a seeded generator.
"""

from __future__ import annotations

import random

from airflow_dataflux.testing.orders import Settings

_PIECE_S = 0.02
"""Long enough that a timer costs little beside it."""


class Timing:
    """Durations of one server, by its settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._random = random.Random(settings.seed)  # noqa: S311 - chance that can be repeated

    def latency_s(self, operation: str, *, rows: int = 0, sources: int = 0, calls: int = 0) -> float:
        """Return how long until the first byte of an answer."""
        settings = self._settings
        latency_s = (
            settings.latency_s.get(operation, settings.first_byte_s)
            + settings.list_per_1000_rows_s * rows / 1000
            + settings.compose_per_source_s * sources
            + settings.batch_per_call_s * calls
        )
        if latency_s and settings.jitter:
            latency_s *= 1 + settings.jitter * (2 * self._random.random() - 1)
        return latency_s

    def transfer_s(self, byte_count: int) -> float:
        """Return how long so many bytes take on one connection."""
        bytes_per_s = self._settings.bytes_per_s
        return byte_count / bytes_per_s if bytes_per_s else 0.0

    def piece_bytes(self, most: int) -> int:
        """Return in what pieces a body is sent: about `_PIECE_S` each, so that a slow body flows and does not jump."""
        bytes_per_s = self._settings.bytes_per_s
        return most if bytes_per_s is None else max(1, min(most, int(bytes_per_s * _PIECE_S)))
