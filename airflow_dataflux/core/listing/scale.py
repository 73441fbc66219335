"""A scale: the names of one range mapped to whole numbers, so that one can measure and divide between them.

A name is read as a number whose digits are its characters and whose radix differs per position: the number of
characters that examples show there, generalised where that is safe (a digit run in which one position varies is a
counter, characters `0-9a-f` are hexadecimal, ...). Positions where every example has the same character have
radix 1 and cost nothing, so long common parts inside names do not matter.

Guarantees: `position` never decreases from one name to a later one; `name` returns strings without CR, LF and
surrogates. It is a model only: how good it is decides how even a split is, never whether it is right.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence

from airflow_dataflux.core.namerange import common_prefix

_MOST_POSITIONS = 64
"""Characters after the common prefix that are looked at; positions of radix 1 are included."""

_ENOUGH = 1 << 96
"""Stop adding positions once the scale resolves this many steps: 10**28 is beyond any bucket."""

_ENOUGH_SEEN = 4
"""From so many different first characters on, what was seen is trusted to show what there is."""

_DIGITS = "0123456789"
_HEX = "0123456789abcdef"
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()

_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
_LANDMARKS = "".join(
    map(
        chr,
        (
            0xA1,
            0xC0,
            0x180,
            0x391,
            0x410,
            0x5D0,
            0x627,
            0x905,
            0xE01,
            0x1E00,
            0x3041,
            0x4E00,
            0xAC00,
            0xFF01,
            0x10000,
            0x1F300,
            0x20000,
        ),
    )
)
"""First letters of the blocks that names are written in, for where nothing is known yet."""

_SPAN_STEPS = 16
"""Code points that stand for the span between two known characters beyond ASCII."""


class Scale:
    """The scale of the names in `[low, high)`.

    Args:
        low: a name or bound at the beginning; need not exist.
        high: exclusive bound, None for unbounded.
        examples: real names from inside the range or from near it.
    """

    def __init__(self, low: str, high: str | None, examples: Iterable[str]) -> None:
        self._prefix = "" if high is None else common_prefix(low, high)
        at = len(self._prefix)
        near = [name for name in examples if name.startswith(self._prefix)]
        if low.startswith(self._prefix):
            near.append(low)
        self._alphabets: list[str] = []
        size = 1
        counting = False
        for offset in range(_MOST_POSITIONS):
            seen = {name[at + offset] for name in near if len(name) > at + offset}
            if offset == 0:
                alphabet = _first_alphabet(seen, low[at : at + 1], None if high is None else high[at : at + 1])
            else:
                alphabet = _later_alphabet(seen, counting=counting)
            if not alphabet:
                break
            counting = len(alphabet) > 1 and seen <= set(_DIGITS)
            self._alphabets.append(alphabet)
            size *= len(alphabet)
            if size >= _ENOUGH:
                break
        self._weights: list[int] = []
        weight = size
        for alphabet in self._alphabets:
            weight //= len(alphabet)
            self._weights.append(weight)
        self._size = size
        self._ranks = [{character: rank for rank, character in enumerate(alphabet)} for alphabet in self._alphabets]

    def position(self, name: str | None) -> int:
        """Return where `name` lies: 0 for everything before the scale, its size for everything after (and None)."""
        if name is None:
            return self._size
        prefix = self._prefix
        if not name.startswith(prefix):
            return 0 if name < prefix else self._size
        total = 0
        for offset, character in enumerate(name[len(prefix) : len(prefix) + len(self._alphabets)]):
            rank = self._ranks[offset].get(character)
            if rank is None:
                return total + bisect.bisect_left(self._alphabets[offset], character) * self._weights[offset]
            total += rank * self._weights[offset]
        return total

    def name(self, position: int, step: int) -> str:
        """Return a short string at or shortly before `position`, exact to a small part of `step`."""
        characters: list[str] = []
        for alphabet, weight in zip(self._alphabets, self._weights, strict=True):
            rank, position = divmod(position, weight)
            characters.append(alphabet[min(rank, len(alphabet) - 1)])
            if weight * 64 <= step or position == 0:
                break
        return self._prefix + "".join(characters)


def _first_alphabet(seen: set[str], low: str, high: str | None) -> str:
    """Return the characters from that of `low` to that of `high`: what was seen, and what may well be there."""
    top = high or None

    def within(characters: Iterable[str]) -> set[str]:
        return {c for c in characters if c >= low and (top is None or c <= top) and _usable(c)}

    known = within(seen)
    inside = within(_expanded(seen))
    if len(known) < _ENOUGH_SEEN:
        inside |= within(_PRINTABLE)
        if top is None:
            inside |= within(_LANDMARKS)
    marks = sorted(c for c in known | within({low, top or ""}) if c > "\x7f")
    if marks:
        marks = sorted({*marks, *(c for c in within(_LANDMARKS) if c > marks[0])})
        for one, other in itertools.pairwise(marks):
            inside.update(_span(one, other))
    inside |= within({low, top or ""}) - {""}
    return "".join(sorted(inside))


def _later_alphabet(seen: set[str], *, counting: bool) -> str:
    """Return the characters of a later position; `counting`: the position before it is part of a counter."""
    if counting and seen <= set(_DIGITS):
        return _DIGITS if seen else ""
    return _expanded(seen) if len(seen) > 1 else "".join(seen)


def _expanded(seen: set[str]) -> str:
    """Return what `seen` is most likely a part of."""
    characters = set(seen)
    if seen <= set(_HEX) and not seen <= set(_DIGITS) and len(seen) > 1:
        characters.update(_HEX)
    else:
        for family in (_DIGITS, _LOWER, _UPPER):
            found = len(seen & set(family))
            if found >= 3 or (found and family == _DIGITS):
                characters.update(family)
    beyond = sorted(c for c in seen if c > "\x7f")
    if len(beyond) >= 4:
        for one, other in itertools.pairwise(beyond):
            characters.update(_span(one, other, steps=max(1, 4 * _SPAN_STEPS // len(beyond))))
    return "".join(sorted(c for c in characters if _usable(c)))


def _span(one: str, other: str, steps: int = _SPAN_STEPS) -> list[str]:
    """Return at most `steps` usable characters strictly between two, evenly spaced."""
    distance = ord(other) - ord(one)
    if distance < 2:
        return []
    count = min(steps, distance - 1)
    found = (chr(ord(one) + distance * (index + 1) // (count + 1)) for index in range(count))
    return [character for character in found if character > one and _usable(character)]


def _usable(character: str) -> bool:
    return character not in "\0\r\n" and not 0xD800 <= ord(character) < 0xE000


def merged(segments: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return sorted half-open intervals with the overlapping ones joined and the empty ones dropped."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(segments):
        if end <= start:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined
