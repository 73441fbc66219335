"""What a listing has learned about the names of its bucket: real names, directories, and where there is nothing. Pure.

It only guides where ranges are divided; nothing is ever left out of a listing because of it (a bucket can change).
Bounded: about `_MOST_EXAMPLES` names, `_MOST_EMPTY` ranges and `_MOST_DIRECTORIES` directories, whatever the size of
the bucket.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

import msgspec

from airflow_dataflux.core.listing.name_model import NameModel, merged
from airflow_dataflux.core.namerange import (
    NameRange,
    common_prefix,
    directory_of,
    ends_at_or_before,
    prefix_range,
    successor,
)

_MOST_EXAMPLES = 4096
_MOST_EMPTY = 1024
_MOST_DIRECTORIES = 1 << 17

_INSIDE = 48
_BESIDE = 24
_ANYWHERE = 64
"""Examples that a model is learned from: enough to see which positions vary, few enough to be quick."""

_FROM_A_DIRECTORY = 8
"""Directories that become examples where one answer does not name them all."""


class Level(msgspec.Struct):
    """The directories just below one directory, as far as they were asked for."""

    parent: str
    directories: list[str] = []
    asked: list[NameRange] = []
    bare: list[NameRange] = []  # of these, where no objects are beside the directories
    too_many: bool = False  # for one answer
    tail_asked: bool = False  # what is behind the known directories was asked for
    unhelpful: bool = False  # an answer named none although there may be some: files are in the way, or it is refused

    def between(self, low: str, high: str | None) -> list[str]:
        """Return the directories after `low` and before `high`."""
        first = bisect.bisect_right(self.directories, low)
        last = len(self.directories) if high is None else bisect.bisect_left(self.directories, high)
        return self.directories[first:last]

    def known_until(self, start: str, end: str | None) -> str | None:
        """Return how far from `start`, and up to `end`, all directories are known; `start` if none is."""
        for names in self.asked:
            if start in names:
                return end if ends_at_or_before(end, names.end) else names.end
        return start

    def behind(self, name: str) -> str:
        """Return where names begin that lie behind the directory of this level that `name` is in."""
        return successor(name[: name.index("/", len(self.parent)) + 1]) or ""

    def is_empty(self, names: NameRange) -> bool:
        """Return whether `names` is known to hold neither directories nor objects beside them."""
        return any(bare.covers(names) for bare in self.bare) and not self.between(names.start, names.end)


class KnownNames:
    """Examples, directories and empty ranges of one listing. Not thread-safe: one owner."""

    def __init__(self, levels: Iterable[Level] = ()) -> None:
        """Begin with what an earlier part of the listing has learned of directories."""
        self._examples: list[str] = []
        self._empty: list[NameRange] = []
        self._empty_starts: list[str] = []
        self._levels = {level.parent: level for level in levels}
        self._directories = sum(len(level.directories) for level in self._levels.values())
        self.answers = 0
        """How many answers about directories there were: what was concluded before the last one is out of date."""

    @property
    def examples(self) -> tuple[str, ...]:
        """The names known, sorted."""
        return tuple(self._examples)

    @property
    def empty_ranges(self) -> tuple[NameRange, ...]:
        """The ranges known to have been empty, sorted and disjoint."""
        return tuple(self._empty)

    @property
    def levels(self) -> tuple[Level, ...]:
        """What was asked for of directories."""
        return tuple(level for level in self._levels.values() if level.asked or level.too_many)

    def examples_in(self, low: str, high: str) -> tuple[str, ...]:
        """Return the names known in `[low, high)`."""
        return tuple(self._examples[bisect.bisect_left(self._examples, low) : bisect.bisect_left(self._examples, high)])

    # -- learning

    def saw(self, name: str) -> None:
        """Remember a real name."""
        at = bisect.bisect_left(self._examples, name)
        if at == len(self._examples) or self._examples[at] != name:
            self._examples.insert(at, name)
            if len(self._examples) > _MOST_EXAMPLES:
                del self._examples[1::2]

    def saw_nothing(self, start: str, end: str | None) -> None:
        """Remember that no object has a name in `[start, end)`."""
        if end is not None and end <= start:
            return
        first = bisect.bisect_left(self._empty_starts, start)
        before = self._empty[first - 1].end if first else ""
        if before is None or before >= start > "":
            first -= 1
            start = self._empty[first].start
        last = first
        while last < len(self._empty) and (end is None or self._empty[last].start <= end):
            if not ends_at_or_before(self._empty[last].end, end):
                end = self._empty[last].end
            last += 1
        if last == first and len(self._empty) >= _MOST_EMPTY:
            return
        self._empty[first:last] = [NameRange(start, end)]
        self._empty_starts[first:last] = [start]

    def saw_directories(
        self, parent: str, names: NameRange, found: Sequence[str], *, more: bool, alone: bool = False
    ) -> None:
        """Remember the directories of `parent` among `names`: all of them, or with `more` those up to the last.

        `alone` says that there are no objects beside and between them.
        """
        self.answers += 1
        level = self.level(parent)
        if more:
            level.too_many = True
            for name in found[:: max(1, len(found) // _FROM_A_DIRECTORY)]:
                self.saw(name)
            if not found:
                level.unhelpful = True
                return
            names = NameRange(names.start, found[-1])
        if self._directories + len(found) > _MOST_DIRECTORIES:
            self._levels.clear()
            self._directories = 0
            level = self.level(parent)
            level.too_many = more
        self._directories += len(found)
        level.asked.append(names)
        if alone:
            level.bare.append(names)
        if found:
            directories = level.directories
            at, until = bisect.bisect_left(directories, found[0]), bisect.bisect_right(directories, found[-1])
            directories[at:until] = found

    # -- directories

    def level(self, parent: str) -> Level:
        """Return what is known of the directories just below `parent`."""
        return self._levels.setdefault(parent, Level(parent))

    def levels_around(self, low: str, high: str | None) -> list[Level]:
        """Return the level of each directory that `low` is in, from the innermost to the one that `high` shares."""
        at = len(directory_of(common_prefix(low, high))) if high is not None else 0
        found = [self._levels.get(low[:at]) or Level(low[:at])]
        while (slash := low.find("/", at)) >= 0:
            at = slash + 1
            found.append(self._levels.get(low[:at]) or Level(low[:at]))
        return found[::-1]

    # -- names between directories

    def model(self, low: str, high: str | None) -> NameModel:
        """Return the model of the names in `[low, high)` as far as they are known now."""
        return NameModel(*self.bounds(low, high), self._near(low, high), self._alike())

    def split(self, low: str, high: str | None, count: int) -> list[str]:
        """Return up to `count` names that divide `(low, high)` evenly, as far as one can tell.

        They are strictly increasing, strictly inside, and valid UTF-8 without CR and LF. None is a normal answer.
        """
        if count < 1 or (high is not None and high <= low):
            return []
        low, high = self.bounds(low, high)
        if high is not None and high <= low:
            return []
        model = NameModel(low, high, self._near(low, high), self._alike())
        segments = self._occupied(model, low, high)
        total = sum(end - start for start, end in segments)
        step = total // (count + 1)
        points: list[str] = []
        for index in range(1, count + 1):
            point = model.name(_position_at(segments, total * index // (count + 1)), step)
            if point > (points[-1] if points else low) and (high is None or point < high):
                points.append(point)
        return points

    def distance(self, model: NameModel, low: str, high: str | None) -> int:
        """Return how far apart two names are in `model`, without what is known to be empty between them."""
        return sum(end - start for start, end in self._occupied(model, low, high))

    def bounds(self, low: str, high: str | None) -> tuple[str, str | None]:
        """Return `low` and `high` without what is known to be empty at either end; `low` moves to a real name then."""
        for empty in self._empty_in(low, high):
            if empty.start <= low and empty.end is not None and low < empty.end and (high is None or empty.end < high):
                low = empty.end
            if (high is None or empty.start < high) and ends_at_or_before(high, empty.end) and empty.start > low:
                high = empty.start
        return low, self._end_in_directory(low, high)

    def _end_in_directory(self, low: str, high: str | None) -> str | None:
        """Return the end of the directory that `low` is in, if nothing is between that and `high`; else `high`."""
        own = directory_of(low)
        for level in self.levels_around(low, high)[1:]:
            beside = NameRange(level.behind(low), high).overlap(prefix_range(level.parent))
            if not beside.is_empty and not level.is_empty(beside):
                return high
        end = successor(own)
        return end if own and end is not None and ends_at_or_before(end, high) else high

    def _occupied(self, model: NameModel, low: str, high: str | None) -> list[tuple[int, int]]:
        """Return the intervals of the model between two names that are not known to be empty."""
        bottom, top = model.position(low), model.position(high)
        holes = [(model.position(empty.start), model.position(empty.end)) for empty in self._empty_in(low, high)]
        segments: list[tuple[int, int]] = []
        for start, end in merged(holes):
            if start > bottom:
                segments.append((bottom, min(start, top)))
            bottom = max(bottom, end)
            if bottom >= top:
                break
        if bottom < top:
            segments.append((bottom, top))
        return [(start, end) for start, end in segments if end > start]

    def _near(self, low: str, high: str | None) -> list[str]:
        first = bisect.bisect_left(self._examples, low)
        last = len(self._examples) if high is None else bisect.bisect_left(self._examples, high)
        inside = self._examples[first:last]
        if len(inside) > _INSIDE:
            inside = [inside[index * len(inside) // _INSIDE] for index in range(_INSIDE)]
        return [*self._examples[max(0, first - _BESIDE) : first], *inside, *self._examples[last : last + 4]]

    def _alike(self) -> list[str]:
        step = max(1, len(self._examples) // _ANYWHERE)
        return self._examples[::step]

    def _empty_in(self, low: str, high: str | None) -> list[NameRange]:
        first = max(0, bisect.bisect_right(self._empty_starts, low) - 1)
        last = len(self._empty) if high is None else bisect.bisect_left(self._empty_starts, high)
        return self._empty[first:last]


def _position_at(segments: Sequence[tuple[int, int]], distance: int) -> int:
    for start, end in segments:
        if distance < end - start:
            return start + distance
        distance -= end - start
    return segments[-1][1] if segments else 0
