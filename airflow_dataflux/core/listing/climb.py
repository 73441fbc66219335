"""Finding out where names differ: the probes of a range whose structure is not understood yet.

Names often share a long beginning, and one page shows one subtree of one of its directories. A *ladder* leads along one
real name; each rung is the bound just behind a subtree that the name is in, and what lies there tells how much of
the name its siblings share. A climb has two rounds: the first spreads over the rungs, the second looks between the two
that matter, and above the characters at the position where names differ. It is taken up again when the range has
doubled and is still not understood.

What a climb costs is a few requests of one row; what it finds goes into `Knowledge`. It never asks twice for the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_dataflux.core.listing.knowledge import Knowledge
from airflow_dataflux.core.listing.split import caps, ladder
from airflow_dataflux.core.namerange import NameRange, common_prefix, wire_start

PROBES_A_ROUND = 4
"""Probes in one round; two rounds settle most structures."""

ROUNDS = 2
"""Rounds of one climb."""

AGAIN_AFTER_PAGES = 4
"""A range that a climb did not explain is climbed again when it has twice the pages, and at least so many."""


@dataclass(slots=True)
class Climb:
    """The climb of one range."""

    rounds: int = 0
    again_at: int = 0  # pages
    under_way: int = 0  # probes not yet answered
    name: str = ""  # the ladder leads along it
    asked: dict[str, int] = field(default_factory=dict)  # bound -> how much of that name it shares
    answers: dict[int, str | None] = field(default_factory=dict)  # shared length -> the name found behind the bound

    def begin_round(self, knowledge: Knowledge, low: str, end: str | None, pages: int, most: int) -> list[NameRange]:
        """Return what to probe now; empty if there is nothing to ask, or it is too early to ask again.

        Args:
            knowledge: what the listing knows.
            low: the last name listed, or the range's start.
            end: the range's end.
            pages: pages of the range so far.
            most: probes that may be sent, at least 1.
        """
        if self.rounds >= ROUNDS:
            if pages < self.again_at:
                return []
            self.rounds = 0
        bounds = self._bounds(knowledge, low, end, most)
        self.rounds += 1
        self.under_way = len(bounds)
        if not bounds:
            self.rounds = ROUNDS
            self._rest(pages)
        return [NameRange(bound, end) for bound in bounds]

    def answered(self, start: str, name: str | None) -> None:
        """Take the answer to the probe that began at `start`."""
        length = self.asked.pop(start, None)
        if length is not None:
            self.answers[length] = name

    def ended(self, pages: int) -> bool:
        """Note that one probe is over, whatever came of it; return whether it was the last of its round."""
        self.under_way -= 1
        if self.under_way == 0 and self.rounds >= ROUNDS:
            self._rest(pages)
        return self.under_way == 0

    def _rest(self, pages: int) -> None:
        self.again_at = max(AGAIN_AFTER_PAGES, 2 * pages)

    def _bounds(self, knowledge: Knowledge, low: str, end: str | None, most: int) -> list[str]:
        low, high = knowledge.bounds(low, end)
        count = min(PROBES_A_ROUND, most)
        if self.rounds == 0:
            self.name = wire_start(low)
            self.answers.clear()
            self.asked = ladder(self.name, high, count)
            return list(self.asked)
        shared = len(common_prefix(self.name, high)) if high is not None else 0
        # An answer from beyond the range's end says that there is nothing in the range; the end may have moved since.
        found = {length for length, name in self.answers.items() if name is not None and (high is None or name < high)}
        above = max((shared, *(self.answers.keys() - found)))
        below = min((length for length in found if length > above), default=None)
        self.asked = ladder(self.name, high, count, above=above, below=below)
        return [*self.asked, *caps(self.name, above, high)][:most]
