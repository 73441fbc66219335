"""Name ranges: half-open intervals of object names in UTF-8 byte order.

Python compares strings by code point, which is the order of their UTF-8 bytes (unlike UTF-16), so names are compared
as plain `str` everywhere.

Guarantees: everything here is exact; the name just after `name` in the order of all strings is `name` + NUL, and
`after` says so. Names with CR or LF cannot exist in Cloud Storage, so no bound with either is ever made up here.
Assumption: strings hold no lone surrogates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)
_FORBIDDEN = frozenset({ord("\n"), ord("\r")})


@dataclass(frozen=True, slots=True, order=False)
class NameRange:
    """All names from `start` (inclusive) to `end` (exclusive); `end=None` is unbounded."""

    start: str = ""
    end: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no name can be in the range."""
        return self.end is not None and self.end <= self.start

    def __contains__(self, name: str) -> bool:
        return name >= self.start and (self.end is None or name < self.end)

    def covers(self, other: NameRange) -> bool:
        """Return whether every name of `other` is in this range."""
        return other.start >= self.start and ends_at_or_before(other.end, self.end)

    def overlap(self, other: NameRange) -> NameRange:
        """Return the names that are in both; the result may be empty."""
        return NameRange(
            max(self.start, other.start), self.end if ends_at_or_before(self.end, other.end) else other.end
        )

    def divided(self, points: Sequence[str]) -> list[NameRange]:
        """Return the contiguous ranges between `start`, the strictly increasing inner `points`, and `end`."""
        starts = [self.start, *points]
        ends: list[str | None] = [*points, self.end]
        return [NameRange(start, end) for start, end in zip(starts, ends, strict=True)]


def ends_at_or_before(end: str | None, other: str | None) -> bool:
    """Compare two exclusive ends, of which None is the last."""
    return other is None or (end is not None and end <= other)


def after(name: str) -> str:
    """Return the first string after `name`: as an inclusive start it leaves out `name` and nothing else."""
    return name + "\0"


def wire_start(start: str) -> str:
    """Return an inclusive start that is safe to send.

    The NUL of `after` is left off: whether Cloud Storage accepts one in `startOffset` is not documented, and the one
    more name that this lets through is dropped by whoever reads the page.
    """
    return start[:-1] if start.endswith("\0") else start


def successor(prefix: str) -> str | None:
    """Return the first usable bound after every name that begins with `prefix`; None if there is none."""
    for at in range(len(prefix) - 1, -1, -1):
        point = ord(prefix[at]) + 1
        while point in _FORBIDDEN or point in _SURROGATES:
            point += 1
        if point <= _LAST_CODE_POINT:
            return prefix[:at] + chr(point)
    return None


def prefix_range(prefix: str) -> NameRange:
    """Return the range of all names that begin with `prefix`."""
    return NameRange(prefix, successor(prefix))


def distinct_prefixes(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Return `prefixes` sorted, without those that another one covers."""
    kept: list[str] = []
    for prefix in sorted(set(prefixes)):
        # The ones that cover it sort before it, and nothing sorts between a prefix and what it covers but such names.
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


def directory_of(name: str) -> str:
    """Return the directory that `name` is in, with its slash; empty if it is in none."""
    return name[: name.rfind("/") + 1]


def common_prefix(one: str, other: str) -> str:
    """Return the longest string that both begin with."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return one[:length]
    low, high = 0, length
    while high - low > 1:
        middle = (low + high) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle
    return one[:low]
