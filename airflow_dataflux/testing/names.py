"""Six styles of synthetic object names, computed from an index, in UTF-8 byte order of the index.

| style | looks like |
|---|---|
| flat | one counter behind a long common prefix |
| classes | about 1,000 objects in each of many class directories |
| deep | 95 % under one deep prefix, the rest beside it |
| uuid | evenly spread random identifiers |
| unicode | directories and counters in scripts of two, three and four bytes a character |
| timestamps | evenly spaced moments of one year, a directory a day |

A style is a sequence of segments: runs of indices whose names share one shape of fixed width in bytes, given as
the pieces of `columns.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_dataflux.testing.columns import DECIMAL, HEXADECIMAL, Choice, Digits, Piece


@dataclass(frozen=True, slots=True)
class Segment:
    """Indices `[first, first + count)`, and the shape of their names."""

    first: int
    count: int
    pieces: tuple[Piece, ...]

    def name(self, index: int) -> bytes:
        """Return the name of one index of this segment."""
        return b"".join(piece if isinstance(piece, bytes) else piece.render(index) for piece in self.pieces)


def segments_of(style: str, count: int, seed: int) -> tuple[Segment, ...]:
    """Return the segments of a style, in order; empty ones are left out."""
    segments = _STYLES[style](count, seed)
    return tuple(segment for segment in segments if segment.count > 0)


def _flat(count: int, seed: int) -> list[Segment]:
    shape = (b"datasets/images/v3/train/full-resolution/part-of-a-long-common-prefix/sample-", _counter(), b".jpg")
    return [Segment(0, count, shape)]


def _classes(count: int, seed: int) -> list[Segment]:
    directory = Digits(lambda index: index // 1000, 7)
    return [Segment(0, count, (b"train/class-", directory, b"/image-", Digits(lambda index: index % 1000, 6), b".jpg"))]


def _deep(count: int, seed: int) -> list[Segment]:
    beside = count // 40  # 2.5 % on either side
    deep = b"archive/2023/europe/camera-07/raw/frames/run-000042/frame-"
    return [
        Segment(0, beside, (b"annotations/", _counter(), b".json")),
        Segment(beside, count - 2 * beside, (deep, _counter(), b".png")),
        Segment(count - beside, beside, (b"metadata/", _counter(), b".json")),
    ]


def _uuid(count: int, seed: int) -> list[Segment]:
    step = (1 << 32) // max(count, 1)

    def spread(index: Any) -> Any:
        return index * step + mixed(index, seed) % step

    return [
        Segment(
            0,
            count,
            (
                Digits(spread, 8, HEXADECIMAL),
                b"-",
                Digits(lambda index: mixed(index, seed + 1) & 0xFFFF, 4, HEXADECIMAL),
                b"-4",
                Digits(lambda index: mixed(index, seed + 2) & 0xFFF, 3, HEXADECIMAL),
                b"-a",
                Digits(lambda index: mixed(index, seed + 3) & 0xFFF, 3, HEXADECIMAL),
                b"-",
                Digits(lambda index: mixed(index, seed + 4), 8, HEXADECIMAL),
                Digits(lambda index: mixed(index, seed + 5) & 0xFFFF, 4, HEXADECIMAL),
            ),
        )
    ]


_SCRIPTS = (
    # directory, first digit of ten; in UTF-8 byte order of the directory
    ("données/", 0x0660),  # Arabic-Indic digits, two bytes
    ("Данные/изображение-", 0x06F0),
    ("データ/画像-", 0xFF10),  # full-width digits, three bytes
    ("\uff21\uff22/", 0xFF10),  # behind the surrogates in UTF-8, but before the next ones in UTF-16 order
    ("\U0001d49f\U0001d4b6/", 0x1D7CE),  # mathematical script and bold digits, four bytes
    ("🎈/", 0x1D7CE),
)


def _unicode(count: int, seed: int) -> list[Segment]:
    segments, first = [], 0
    for position, (directory, zero) in enumerate(_SCRIPTS):
        share = count * (position + 1) // len(_SCRIPTS) - first
        symbols = tuple(chr(zero + digit).encode() for digit in range(10))
        segments.append(Segment(first, share, (directory.encode(), _counter(symbols), b".txt")))
        first += share
    return segments


def _timestamps(count: int, seed: int) -> list[Segment]:
    year_ms = 366 * 86_400_000
    step_ms = max(1, year_ms // max(count, 1))
    start = datetime(2024, 1, 1, tzinfo=UTC)
    last_day = (max(count, 1) - 1) * step_ms // 86_400_000
    days = tuple(f"{start + timedelta(days=day):%Y/%m/%d}".encode() for day in range(last_day + 1))
    return [
        Segment(
            0,
            count,
            (
                b"events/",
                Choice(lambda index: index * step_ms // 86_400_000, days),
                b"/",
                Digits(lambda index: index * step_ms // 3_600_000 % 24, 2),
                b"-",
                Digits(lambda index: index * step_ms // 60_000 % 60, 2),
                b"-",
                Digits(lambda index: index * step_ms // 1000 % 60, 2),
                b".",
                Digits(lambda index: index * step_ms % 1000, 3),
                b"Z.json",
            ),
        )
    ]


def _counter(symbols: tuple[bytes, ...] = DECIMAL) -> Digits:
    return Digits(lambda index: index, 10, symbols)


def mixed(index: Any, seed: int) -> Any:
    """Return 32 well-mixed bits of `index`; an int or an int64 array, below 2^31, without overflow."""
    value = index ^ ((seed * 0x9E3779B1) & 0x7FFFFFFF)
    for factor in (0x45D9F3B, 0x2C1B3C6D):
        value = (((value >> 15) ^ value) * factor) & 0xFFFFFFFF
    return (value >> 16) ^ value


_STYLES: dict[str, Callable[[int, int], list[Segment]]] = {
    "flat": _flat,
    "classes": _classes,
    "deep": _deep,
    "uuid": _uuid,
    "unicode": _unicode,
    "timestamps": _timestamps,
}
