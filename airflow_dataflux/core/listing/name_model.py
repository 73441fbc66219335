"""A model of names: those of one range mapped to whole numbers, so that one can measure and divide between them.

It is for files that lie side by side in one directory, and for directories of which one answer does not name all.

A name is read as a number whose digits are its characters and whose radix differs per position: the number of
characters that examples show there, generalised where that is safe (a digit run in which one position varies is a
counter, characters `0-9a-f` are hexadecimal, ...). Positions where every example has the same character have
radix 1 and cost nothing, so long common parts inside names do not matter.

Guarantees: `position` never decreases from one name to a later one; `name` returns strings without CR, LF and
surrogates. It is a model only: how good it is decides how even a split is, never whether it is right.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

from airflow_dataflux.core.namerange import common_prefix, successor, wire_start

_MOST_POSITIONS = 64
"""Characters after the common prefix that are looked at; positions of radix 1 are included."""

_ENOUGH = 1 << 96
"""Stop adding positions once the model resolves this many steps: 10**28 is beyond any bucket."""

_ENOUGH_SEEN = 4
"""From so many different first characters on, what was seen is trusted to show what there is."""

_ENOUGH_ALIKE = 24
"""From so many examples of one shape on, the digits that they have at a position are all that there are."""

_ASCII_SHAPE = re.compile("[0-9A-Za-z]")

_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdef")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_UPPER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")

_NEVER_IN_BOUNDS = frozenset("\0\r\n")

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

_MOST_LATER = 32
"""Code points between those seen at a later position, which matters less than the first."""

_MOST_COUNTED = 256
"""Code points of scripts without case that are counted one by one; of more, only every second or third, and so on."""


@functools.lru_cache(maxsize=8192)
def shape(name: str) -> str:
    """Return `name` with one sign for each kind of letter or digit: names of one shape are mostly made by one rule.

    Remembered, because every model asks for the same few names: that was half of what a scheduler spent.
    """
    if name.isascii():
        return _ASCII_SHAPE.sub("x", name)
    return "".join(
        [
            character
            if not character.isalnum()
            else "x"
            if character <= "\x7f"
            else digits_of(character)[:1] or ("y" if character <= "\uffff" else "z")
            for character in name
        ]
    )


@functools.lru_cache(maxsize=8192)
def digits_of(character: str) -> str:
    """Return the ten digits that a decimal digit of any script belongs to; empty for any other character."""
    value = unicodedata.decimal(character, -1)
    if value < 0:
        return ""
    zero = ord(character) - int(value)
    return "".join(map(chr, range(zero, zero + 10)))


class NameModel:
    """The model of the names in `[low, high)`.

    Args:
        low: a name or bound at the beginning; need not exist.
        high: exclusive bound, None for unbounded.
        examples: real names from inside the range or from near it.
        alike: real names from anywhere; those of the shape of `low` tell which characters a position can have.
    """

    def __init__(self, low: str, high: str | None, examples: Iterable[str], alike: Iterable[str] = ()) -> None:
        self._prefix = "" if high is None else common_prefix(low, high)
        at = len(self._prefix)
        examples = list(examples)
        if high is not None and at < len(low) and successor(low[: at + 1]) == high:
            # The range ends with all names that begin like this, such as those of a directory: the next character has
            # no upper bound. In ASCII it is mostly that of the names seen; in other scripts there are too many.
            beginning = low[: at + 1]
            if any(name[at + 1 : at + 2] > "\x7f" for name in (low, *examples) if name.startswith(beginning)):
                self._prefix, high, at = beginning, None, at + 1
        # A bound that was made up has a shape of its own; the real name nearest to it has that of its neighbours.
        own = shape(next((name for name in examples if name >= low), examples[-1] if examples else wire_start(low)))
        near = [name[at : at + _MOST_POSITIONS] for name in examples if name.startswith(self._prefix)]
        near.append(low[at : at + _MOST_POSITIONS])
        kin = [name for name in alike if shape(name) == own]
        far = [name[at : at + _MOST_POSITIONS] for name in kin]
        trusted = len(far) >= _ENOUGH_ALIKE
        # Up to here the examples agree, so the next position has not wrapped around yet: it may go on.
        leading = len(common_prefix(min(kin), max(kin))) - at if kin else 0
        self._alphabets: list[str] = []
        size = 1
        counting = False
        for offset, column in enumerate(itertools.zip_longest(*near, *far, fillvalue="")):
            everywhere = frozenset(column) - {""}
            if offset == 0:
                trusted_here = trusted and high is not None
                alphabet = _first_alphabet(
                    everywhere if trusted_here else frozenset(column[: len(near)]) - {""},
                    low[at : at + 1],
                    None if high is None else high[at : at + 1],
                    trusted=trusted_here,
                )
                if not alphabet:
                    break
            else:
                beyond = 0 if offset > leading else 1
                alphabet = _later_alphabet(everywhere, counting=counting, beyond=beyond if trusted else 9)
            counting = len(alphabet) > 1 and "".join(everywhere).isdecimal()
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
        self._ranks = [_ranks(alphabet) for alphabet in self._alphabets]

    def position(self, name: str | None) -> int:
        """Return where `name` lies: 0 for everything before the model, its size for everything after (and None)."""
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


@functools.lru_cache(maxsize=1024)
def _ranks(alphabet: str) -> Mapping[str, int]:
    """Return the rank of each character of an alphabet."""
    return {character: rank for rank, character in enumerate(alphabet)}


@functools.lru_cache(maxsize=256)
def _first_alphabet(seen: frozenset[str], low: str, high: str | None, *, trusted: bool) -> str:
    """Return the characters from that of `low` to that of `high`: what was seen, and what may well be there.

    With `trusted`, enough names of the same shape were seen to believe that there are only characters like theirs.
    """
    top = high or None

    def within(characters: Iterable[str]) -> set[str]:
        return {c for c in characters if c >= low and (top is None or c <= top) and usable(c)}

    known = within(seen)
    inside = within(_expanded(seen))
    if len(known) < _ENOUGH_SEEN and not trusted:
        inside |= within(_PRINTABLE)
        if top is None:
            inside |= within(_LANDMARKS)
    marks = sorted(c for c in known | within({low, top or ""}) if c > "\x7f" and not c.isdecimal())
    if marks:
        ends = within(map(_last_of_script, marks))
        inside.update(_between(sorted({*marks, *ends, *(c for c in within(_LANDMARKS) if c > marks[0])})))
    inside |= within({low, top or ""}) - {""}
    return "".join(sorted(inside))


@functools.lru_cache(maxsize=1024)
def _later_alphabet(seen: frozenset[str], *, counting: bool, beyond: int) -> str:
    """Return the characters of a later position.

    Args:
        seen: what examples have there, not empty.
        counting: the position before it is a digit that varies, so that this one most likely does, too.
        beyond: how many digits outside of those of the examples may be used: none where there are enough examples from
            all over (the tens of an hour go to 2, those of a day to 3), but one more at the leading digit of a counter,
            and all nine others where there are not.
    """
    digits = digits_of(min(seen))
    if digits and seen <= set(digits) and (counting or len(seen) > 1):
        return digits[max(0, digits.index(min(seen)) - beyond) : digits.index(max(seen)) + 1 + beyond]
    return _expanded(seen) if len(seen) > 1 else "".join(seen)


@functools.lru_cache(maxsize=1024)
def _expanded(seen: frozenset[str]) -> str:
    """Return what `seen` is most likely a part of.

    Remembered, as `_later_alphabet` is: models are made again and again of names whose positions hold the same
    characters, and that was a fifth of the scheduler's time.
    """
    characters = set(seen)
    if seen <= _HEX and seen & _DIGITS and not seen <= _DIGITS:
        characters |= _HEX
    else:
        characters.update(*map(digits_of, seen))
        for family in (_LOWER, _UPPER):
            if len(seen & family) >= 3:
                characters |= family
    beyond = sorted(c for c in seen if c > "\x7f" and not c.isdecimal()) if max(seen, default="") > "\x7f" else []
    if 4 <= len(beyond) <= _MOST_LATER:
        for one, other in itertools.pairwise(beyond):
            characters.update(_span(one, other, steps=_MOST_LATER // len(beyond)))
    return "".join(sorted(characters - _NEVER_IN_BOUNDS))


@functools.lru_cache(maxsize=8192)
def _script(character: str) -> str:
    """Return the script of a letter, as its Unicode name begins, or the category of another character."""
    category = unicodedata.category(character)
    return unicodedata.name(character, "").partition(" ")[0] if category.startswith("L") else category


@functools.lru_cache(maxsize=1024)
def _last_of_script(character: str) -> str:
    """Return the last character that goes on with the script of another, where there is no hole."""
    script, last, step = _script(character), ord(character), 1
    while step:
        if last + step <= sys.maxunicode and _script(chr(last + step)) == script:
            last, step = last + step, 2 * step
        else:
            step //= 2
    return chr(last)


def _between(marks: Sequence[str]) -> Iterator[str]:
    """Yield characters that stand for those between neighbours.

    In a script without case, such as Hangul or Han, a name may begin with any character: all are counted. Of a script
    with case few are used, and between scripts there may be nothing.
    """
    pairs = [
        (one, other, _script(one) == _script(other) and one.lower() == one.upper())
        for one, other in itertools.pairwise(marks)
    ]
    counted = sum(ord(other) - ord(one) for one, other, is_counted in pairs if is_counted)
    unit = max(1, counted // _MOST_COUNTED)
    for one, other, is_counted in pairs:
        yield from _span(one, other, steps=(ord(other) - ord(one)) // unit if is_counted else _SPAN_STEPS)


def _span(one: str, other: str, steps: int = _SPAN_STEPS) -> list[str]:
    """Return at most `steps` usable characters strictly between two, evenly spaced."""
    distance = ord(other) - ord(one)
    if distance < 2:
        return []
    first, parts = ord(one), min(steps, distance - 1) + 1
    found = [chr(first + distance * index // parts) for index in range(1, parts)]
    # Spans of Chinese or Korean characters are long: their characters need not be asked one by one.
    return found if one > "\r" and (other < "\ud800" or one > "\udfff") else list(filter(usable, found))


def usable(character: str) -> bool:
    """Return whether a character may be in a bound: no NUL, line end or half of a surrogate pair."""
    return character not in _NEVER_IN_BOUNDS and not "\ud800" <= character <= "\udfff"


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
