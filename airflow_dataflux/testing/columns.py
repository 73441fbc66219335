"""Fixed-width text by the column: numbers of many rows rendered at once, as matrices of bytes.

A row of text is a list of pieces: literals, and columns whose text differs from row to row but never in width. A
column's number is arithmetic on the row's index that works alike on a Python int (`render`) and on a numpy array
(`columns`). Rendering a thousand rows is then a copied template and a few table lookups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


class Choice:
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


Piece = bytes | Digits | Choice


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
