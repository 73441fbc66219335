"""Six styles of synthetic object names, computed from an index, in UTF-8 byte order of the index, many rows at once.

| style | looks like |
|---|---|
| flat | one counter behind a long common prefix |
| classes | about 1,000 objects in each of many class directories |
| deep | 95 % under one deep prefix, the rest beside it |
| uuid | evenly spread random identifiers |
| unicode | directories and counters in scripts of two, three and four bytes a character |
| timestamps | evenly spaced moments of one year, a directory a day |

A style is a sequence of segments: runs of indices whose names share one shape of fixed width in bytes, given as
the pieces below.

A row of text is a list of pieces: literals, and columns whose text differs from row to row but never in width. A
column's number is arithmetic on the row's index that works alike on a Python int (`render`) and on a numpy array
(`columns`). Rendering a thousand rows is then a copied template and a few table lookups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes2D = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
IntegerFunction = Callable[[Any], Any]


class RowTable:
    """Equally long byte strings by number, looked up many at a time."""

    __slots__ = ("_packed", "_width")

    def __init__(self, rows: Sequence[bytes]) -> None:
        self._width = len(rows[0])
        # One array element a row: numpy takes elements several times faster than rows.
        kind = f"u{self._width}" if self._width in (1, 2, 4, 8) else f"V{max(self._width, 1)}"
        self._packed = np.frombuffer(b"".join(rows) or b"\0", kind)

    def take(self, numbers: Indices) -> Bytes2D:
        """Return the rows of `numbers`."""
        rows: Bytes2D = self._packed.take(numbers).view(np.uint8).reshape(len(numbers), -1)
        return rows[:, : self._width]


@lru_cache(maxsize=32)
def _symbol_groups(symbols: tuple[bytes, ...], group: int) -> RowTable:
    """Return the renderings of all numbers of `group` digits."""
    rows = [b""]
    for _ in range(group):
        rows = [row + symbol for row in rows for symbol in symbols]
    return RowTable(rows)


DECIMAL = tuple(b"%d" % digit for digit in range(10))
HEXADECIMAL = tuple(b"%x" % digit for digit in range(16))


@dataclass(frozen=True, slots=True)
class Digits:
    """A number in `width` digits; `symbols` are the digits, all of the same length in bytes."""

    value: IntegerFunction
    width: int
    symbols: tuple[bytes, ...] = DECIMAL

    def render(self, index: int) -> bytes:
        """Return the digits for one index."""
        number, radix, digits = self.value(index), len(self.symbols), []
        if self.symbols is DECIMAL:
            return b"%0*d" % (self.width, number)
        for _ in range(self.width):
            number, digit = divmod(number, radix)
            digits.append(self.symbols[digit])
        return b"".join(reversed(digits))

    def columns(self, indices: Indices) -> Bytes2D:
        """Return the digits for many indices, one a row."""
        numbers, radix, left = self.value(indices), len(self.symbols), self.width
        symbol_bytes = len(self.symbols[0])
        result = np.empty((len(indices), self.width * symbol_bytes), np.uint8)
        while left:
            group = min(left, 4)
            if (numbers == numbers[0]).all():
                # The leading digits of a page of consecutive indices are mostly the same.
                group, digits = left, Digits(int, left, self.symbols).render(int(numbers[0]))
                result[:, : left * symbol_bytes] = np.frombuffer(digits, np.uint8)
            else:
                power = radix**group
                higher = numbers // power
                columns = slice((left - group) * symbol_bytes, left * symbol_bytes)
                result[:, columns] = _symbol_groups(self.symbols, group).take(numbers - higher * power)
                numbers = higher
            left -= group
        return result


class OneOfLiterals:
    """One of several literals of the same length, by number."""

    __slots__ = ("_table", "options", "value")

    def __init__(self, value: IntegerFunction, options: tuple[bytes, ...]) -> None:
        self.value = value
        self.options = options
        self._table = RowTable(options)

    def render(self, index: int) -> bytes:
        """Return the literal for one index."""
        return self.options[self.value(index)]

    def columns(self, indices: Indices) -> Bytes2D:
        """Return the literals for many indices, one a row."""
        return self._table.take(self.value(indices))


Piece = bytes | Digits | OneOfLiterals


class RowPlan:
    """A row of fixed width: a template, and the columns that differ from row to row."""

    def __init__(self, pieces: list[Any]) -> None:
        template = b""
        self._columns: list[tuple[int, int, Any]] = []
        for piece in pieces:
            if isinstance(piece, bytes):
                template += piece
            else:
                width = piece.columns(np.zeros(1, np.int64)).shape[1]
                self._columns.append((len(template), len(template) + width, piece))
                template += bytes(width)
        self._template = np.frombuffer(template, np.uint8)

    def rows(self, indices: Indices) -> bytes:
        """Return the rows of `indices`, one after the other."""
        block = np.empty((len(indices), len(self._template)), np.uint8)
        block[:] = self._template
        made: dict[int, Bytes2D] = {}
        for start, end, piece in self._columns:
            columns = made.get(id(piece))
            if columns is None:
                columns = made[id(piece)] = piece.columns(indices)
            block[:, start:end] = columns
        return block.tobytes()


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
                OneOfLiterals(lambda index: index * step_ms // 86_400_000, days),
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
