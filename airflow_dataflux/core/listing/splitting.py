"""What probably lies ahead in a range, and where to divide it. Pure.

An `Outlook` is a range, from the last listed name to its end, as a row of segments: the rest of the innermost
directory, then the directories beside it, then those beside its parent, and so on. How many pages a segment holds is
estimated from the pages listed so far: a directory is as large as its siblings were on average, and one that was not
left yet is expected to go on for as long as it has lasted. Where one answer did not name all directories of a level,
the names behind the last one are modelled as a counter is (`KnownNames.split`).

Points that divide a range evenly are read off that row: where it is known, they are real directories.
What this does not promise is evenness; stealing corrects it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from airflow_dataflux.core.listing.known_names import KnownNames, Level
from airflow_dataflux.core.namerange import NameRange, prefix_range

SMALLEST_PIECE_PAGES = 1.5
"""No steal makes pieces that are expected to be smaller: each costs half a request more than it saves in time."""

TAIL_PIECES = 16
"""Pieces that names beyond the known directories are divided into at once, at most."""

MOST_TAIL_PAGES = 1000.0
"""An estimate from directories is not believed beyond this many pages for what lies behind them."""


class Segment(msgspec.Struct, frozen=True):
    """A stretch of a range, and about how many pages it takes: at its directories it can be divided, in a tail too."""

    pages: float
    directories: Sequence[str] = ()
    tail: NameRange | None = None


class Outlook:
    """The segments of what a range has not listed yet, in order. All its points are behind `low`."""

    def __init__(self, low: str, segments: Sequence[Segment]) -> None:
        self._low = low
        self._segments = segments
        self.pages = sum(segment.pages for segment in segments)
        self.most_pieces = 1 + sum(
            TAIL_PIECES if segment.tail is not None else len(segment.directories) for segment in segments
        )

    @classmethod
    def of(
        cls, known: KnownNames, start: str, low: str, end: str | None, pages_since: Callable[[str], float]
    ) -> Outlook:
        """Return the outlook of the range from `start` to `end` that is listed up to `low`.

        `pages_since` tells how many of its pages came since it entered a directory.
        """
        innermost, *around = known.levels_around(low, end)
        inner = pages_since(innermost.parent)
        segments = [Segment(inner)]
        for level in around:
            pages = pages_since(level.parent)
            segments += _segments_of(known, level, start, low, end, pages, inner)
            inner = pages
        return cls(low, segments)

    def points(self, count: int, known: KnownNames) -> list[str]:
        """Return up to `count` names that divide the range into parts of about as many pages, strictly increasing."""
        points: list[str] = []
        before = 0.0
        part = 1
        # What was entered already may be large: then it becomes a piece of its own.
        own_piece = self._segments[0].pages > self.pages / (count + 1) / 2
        for segment in self._segments:
            inside: list[float] = []
            while part <= count and self.pages * part / (count + 1) < before + segment.pages:
                inside.append((self.pages * part / (count + 1) - before) / segment.pages)
                part += 1
            before += segment.pages
            for point in self._points_in(segment, inside, known, from_first=own_piece and not points):
                if point > (points[-1] if points else self._low):
                    points.append(point)
        return points[:count]

    def _points_in(
        self, segment: Segment, inside: Sequence[float], known: KnownNames, *, from_first: bool
    ) -> list[str]:
        if segment.tail is not None:
            points = known.split(segment.tail.start, segment.tail.end, len(inside))
            return [segment.tail.start, *points] if segment.pages > 1 or from_first else points
        directories = segment.directories
        if not directories:
            return []
        points = [directories[min(round(share * len(directories)), len(directories) - 1)] for share in inside]
        return [directories[0], *points] if from_first else points


def _segments_of(
    known: KnownNames, level: Level, start: str, low: str, end: str | None, pages: float, inner: float
) -> list[Segment]:
    """Return the segments of one level: its known directories ahead, and what lies behind them.

    `pages` were listed since the range entered this level, `inner` of them in the directory of it that `low` is in.
    """
    ahead = level.between(low, end)
    if not ahead and not level.too_many:
        return []
    passed = len(level.between(start, low))
    each = (pages - inner + 0.5 + inner / (1 + passed)) / (passed + 0.5)
    segments = [Segment(each * len(ahead), ahead)] if ahead else []
    last = ahead[-1] if ahead else level.behind(low)
    tail = NameRange(last, end).overlap(prefix_range(level.parent))
    if level.too_many and not tail.is_empty and level.known_until(last, tail.end) != tail.end:
        model = known.model(start, tail.end)
        if ahead:
            done, done_pages = known.distance(model, low, last), each * len(ahead)
        else:
            done, done_pages = known.distance(model, start, last), max(pages, 0.5)
        left = known.distance(model, last, tail.end)
        segments.append(Segment(min(done_pages * left / done if done else pages, MOST_TAIL_PAGES), (), tail))
    return segments


def pieces_of(sizes: Mapping[int, float], most: Mapping[int, int], idle: int) -> dict[int, int]:
    """Divide `idle` streams among ranges so that the largest piece that will be left is as small as possible.

    Args:
        sizes: the ranges' expected pages.
        most: the ranges that may be divided, and into how many pieces at most.
        idle: streams that want a piece.

    Returns how many pieces each range of `most` is to have, at least 1.
    """
    pieces = dict.fromkeys(most, 1)
    open_to_more = {key for key in pieces if most[key] > 1}
    for _ in range(idle):
        best = max(open_to_more, key=lambda key: sizes[key] / pieces[key], default=None)
        if best is None or sizes[best] / (pieces[best] + 1) < SMALLEST_PIECE_PAGES:
            break
        pieces[best] += 1
        if pieces[best] == most[best]:
            open_to_more.remove(best)
    return pieces
