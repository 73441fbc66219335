"""What to ask the service about its names, so that ranges are divided where names really are. Pure.

Two kinds of requests tell how names go on, whatever they look like:

- With `delimiter`, one request names up to 1,000 directories that follow in a directory. `directory_questions` asks it
  for each directory that the last listed name is in: together the answers are the tree that lies ahead.
- With a page of one row, a request names the next object after any bound. Where many files lie in one directory,
  `BranchSearch` looks for the first character at which their names differ: it asks what follows all names that share so
  much, or so much, of the last one. `tail_questions` does so for directories that are too many for one answer.

Answers only guide where ranges are divided (`KnownNames`): a bucket may change, and nothing is left out for them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence

import msgspec

from airflow_dataflux.core.listing.known_names import KnownNames
from airflow_dataflux.core.listing.name_model import digits_of, usable
from airflow_dataflux.core.namerange import NameRange, common_prefix, directory_of, prefix_range, successor, wire_start

MOST_DIRECTORIES = 8
"""Directories that are asked about at once, the widest first. Few trees are deeper below what a range shares."""

PROBES_A_ROUND = 7
"""Requests of one row in one round of a search; two rounds settle most structures."""

PROBES_AT_FIRST = 12
"""The same where a range has listed a page at most: nearly all streams are idle then, and nothing is known yet."""

ROUNDS = 2

MOST_DOUBLINGS = 16
"""Bounds above a character, each twice as far as the one before: the last is 32,768 characters away, which is farther
than from any script of the basic plane to most others."""

AGAIN_AFTER_PAGES = 4
"""A range that a search did not explain is searched again when it has twice the pages, and at least so many."""

_RUNS = re.compile(r"[^\W_]+|[\W_]+")
"""Runs of letters and digits, and what is between them."""

_HEX_RUN = re.compile(r"(?<![^\W_])(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]+(?![^\W_])")
"""A run of hexadecimal digits with both kinds of them."""


class Question(msgspec.Struct, frozen=True):
    """Which directories of `parent` hold `names`; or what the first of `names` is, in `parent` or anywhere."""

    names: NameRange
    parent: str | None = None
    directories: bool = False


def directory_questions(low: str, end: str | None, prefix: str, *, unlisted: bool) -> Iterator[Question]:
    """Yield a question for each directory that `low` is in, of what follows the part of it that `low` is in.

    Args:
        low: the last name listed, or where the range starts.
        end: the range's end.
        prefix: what all names of the range begin with.
        unlisted: ask what is in the innermost directory, too: nothing of it was listed.
    """
    shared = directory_of(prefix if end is None else max(prefix, common_prefix(low, end), key=len))
    at = len(shared)
    for _ in range(MOST_DIRECTORIES):
        parent = low[:at]
        slash = low.find("/", at)
        start = (low if unlisted else None) if slash < 0 else successor(low[: slash + 1])
        if start is not None:
            names = NameRange(start, end).overlap(prefix_range(parent))
            if not names.is_empty:
                yield Question(names, parent, directories=True)
        if slash < 0:
            return
        at = slash + 1


class BranchSearch(msgspec.Struct):
    """The search of one range for the position at which its names branch. It never asks twice for the same.

    It goes along one real name. The first round spreads over the lengths that others may share with it, the second
    looks between the two that matter, and above the characters at the position where names differ.
    """

    rounds: int = 0
    again_at: int = 0  # pages
    under_way: int = 0  # questions not yet answered
    name: str = ""
    asked: dict[str, int] = {}  # bound -> how much of that name it shares
    answers: dict[int, str | None] = {}  # shared length -> the name found behind the bound

    def begin_round(self, known: KnownNames, low: str, end: str | None, pages: int, most: int) -> list[Question]:
        """Return what to ask now; empty if there is nothing to ask, or it is too early to ask again.

        Args:
            known: what the listing knows.
            low: the last name listed, or the range's start.
            end: the range's end.
            pages: pages of the range so far.
            most: requests that may be sent, at least 1.
        """
        if self.rounds >= ROUNDS:
            if pages < self.again_at:
                return []
            self.rounds = 0
        bounds = self._bounds(known, low, end, pages, most)
        self.rounds += 1
        self.under_way = len(bounds)
        if not bounds:
            self.rounds = ROUNDS
            self._rest(pages)
        return [Question(NameRange(bound, end)) for bound in bounds]

    def answered(self, start: str, name: str | None) -> None:
        """Take the answer to the question that began at `start`."""
        length = self.asked.pop(start, None)
        if length is not None:
            self.answers[length] = name

    def ended(self, pages: int) -> bool:
        """Note that one question is over, whatever came of it; return whether it was the last of its round."""
        self.under_way -= 1
        if self.under_way == 0 and self.rounds >= ROUNDS:
            self._rest(pages)
        return self.under_way == 0

    def _rest(self, pages: int) -> None:
        self.again_at = max(AGAIN_AFTER_PAGES, 2 * pages)

    def _bounds(self, known: KnownNames, low: str, end: str | None, pages: int, most: int) -> list[str]:
        low, high = known.bounds(low, end)
        count = min(PROBES_A_ROUND if pages > 1 else PROBES_AT_FIRST, most)
        if self.rounds == 0:
            self.name = wire_start(low)
            self.answers.clear()
            self.asked = bounds_behind(self.name, high, count)
            return list(self.asked)
        shared = len(common_prefix(self.name, high)) if high is not None else 0
        # An answer from beyond the range's end says that there is nothing in the range; the end may have moved since.
        found = {length for length, name in self.answers.items() if name is not None and (high is None or name < high)}
        above = max((shared, *(self.answers.keys() - found)))
        below = min((length for length in found if length > above), default=None)
        self.asked = bounds_behind(self.name, high, count, above=above, below=below)
        return [*self.asked, *bounds_above(self.name, above, high)][:most]


def branch_lengths(name: str) -> list[int]:
    """Return the lengths of the beginnings of `name` after which other names are plausible, ascending.

    That is after each run of separators, and after each character of a run with digits. A word varies as a whole.
    """
    lengths: list[int] = []
    for run in _RUNS.finditer(name):
        text = run.group()
        if text[0].isalnum():
            if any(map(str.isdecimal, text)):
                lengths.extend(range(run.start() + 1, run.end() + 1))
        elif run.start() > 0:
            lengths.append(run.end())
    return lengths


def bounds_behind(
    name: str, high: str | None, count: int, *, above: int = 0, below: int | None = None
) -> dict[str, int]:
    """Return up to `count` bounds, each just behind all names that share so much of `name`, and how much that is.

    What lies at or after such a bound shows at which position the names of `(name, high)` first differ: nothing there
    means that they all share that much of `name`.

    Args:
        name: a real name.
        high: exclusive end of the range.
        count: how many bounds are wanted; they are spread evenly over the lengths that are plausible.
        above: only names that share more of `name` than this,
        below: and less than this.
    """
    shared = max(above, len(common_prefix(name, high)) if high is not None else 0)
    lengths = [length for length in branch_lengths(name) if length > shared and (below is None or length < below)]
    if len(lengths) > count:
        lengths = sorted({lengths[(2 * index + 1) * len(lengths) // (2 * count)] for index in range(count)})
    bounds: dict[str, int] = {}
    for length in lengths:
        bound = successor(name[:length])
        if bound is not None and bound > name and (high is None or bound < high):
            bounds.setdefault(bound, length)
    return bounds


def bounds_above(name: str, length: int, high: str | None) -> list[str]:
    """Return bounds above the kinds of character that may follow `name[:length]`: digits, capitals, small letters.

    Beyond ASCII only digits have a known end. For all else, see `bounds_doubling`.
    """
    character = name[length : length + 1]
    if not character:
        return []
    digits = digits_of(character)
    if character > "\x7f":
        if not digits:
            return bounds_doubling(name, length, high)
        tops = chr(ord(digits[-1]) + 1)
    else:
        tops = "{" if character >= "a" else "[{" if character >= "A" else ":ag" if _HEX_RUN.search(name) else ":"
    bounds = [name[:length] + top for top in tops if top > character]
    return [bound for bound in bounds if high is None or bound < high]


def bounds_doubling(name: str, length: int, high: str | None) -> list[str]:
    """Return bounds at the next character that may follow `name[:length]`, the second next, the fourth next, ...

    Their answers show how far the characters at this position reach, in any script, and real names between.
    """
    character = name[length : length + 1]
    if not character:
        return []
    most = 0x7F if character <= "\x7f" else sys.maxunicode
    doubled = (ord(character) + (1 << doublings) for doublings in range(MOST_DOUBLINGS))
    bounds = [name[:length] + top for top in (chr(above) for above in doubled if above <= most) if usable(top)]
    return [bound for bound in bounds if high is None or bound < high]


def tail_questions(parent: str, directories: Sequence[str], end: str | None) -> list[Question]:
    """Return questions that show what is behind the known directories of one that has too many for an answer.

    Args:
        parent: what they are in.
        directories: the known ones, sorted, not empty.
        end: where the range that is to be divided ends.
    """
    last = directories[-1]
    names = NameRange(last, end).overlap(prefix_range(parent))
    branch = len(common_prefix(directories[0], last))
    bounds = {
        *bounds_behind(last, names.end, PROBES_A_ROUND, above=len(parent), below=branch + 1),
        *bounds_doubling(last, len(parent), names.end),
        *bounds_doubling(last, branch, names.end),
    }
    return [Question(NameRange(bound, names.end), parent) for bound in sorted(bounds)]
