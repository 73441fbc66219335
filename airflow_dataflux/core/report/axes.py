"""Where a value is drawn, and which values an axis names (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps `[low, high]` to `[start, end]` in pixels; what lies outside is drawn at the edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        if self.high <= self.low:
            return self.start
        part = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return self.start + part * (self.end - self.start)


def ticks(high: float, most: int, *, binary: bool = False) -> list[float]:
    """Return round values from 0 up to `high`, at most `most` of them besides 0.

    `binary` values are multiples of a power of two, as bytes are round, and whole.
    """
    if high <= 0 or not math.isfinite(high):
        return [0.0]
    step = (power_of_two if binary else nice)(high / max(1, most))
    return [step * number for number in range(int(high / step + 1e-9) + 1)]


def nice(value: float) -> float:
    """Return the least of 1, 2, 2.5, 5 and 10 times a power of ten that is not below a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= value * (1 - 1e-9))


def power_of_two(value: float) -> float:
    """Return the least power of two, 1 or more, that is not below a value."""
    return 2.0 ** max(0, math.ceil(math.log2(value) - 1e-9))
