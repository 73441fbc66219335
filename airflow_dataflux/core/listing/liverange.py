"""A range while it is being listed: how far it is, what is asked of it, and how much of it is probably left."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from airflow_dataflux.core.listing.climb import Climb
from airflow_dataflux.core.listing.knowledge import Knowledge
from airflow_dataflux.core.listing.messages import PageListed
from airflow_dataflux.core.listing.scale import Scale
from airflow_dataflux.core.namerange import NameRange

PLAUSIBLE_PAGES = 200_000
"""An estimate above this many pages means that the structure of the names is not understood yet."""

RECENT_PAGES = 4
"""An estimate looks at the last four to eight pages of a range: with all of them, a range behind a gap that nobody
knew of seemed to be at its end, and one stream listed its last 12 pages while 63 waited (docs/decisions/0005)."""

HIDDEN_PAGES = 3
"""Pages of a range after which it is worth probes to learn whether its names have siblings that no page has shown."""


@dataclass(slots=True)
class Steal:
    """A steal in flight: asked, not yet answered."""

    steal_id: int
    points: tuple[str, ...]
    islands: bool  # the points are real names at which names of another kind begin


@dataclass(slots=True)
class LiveRange:
    """A range that a stream is listing."""

    range_id: int
    worker: int
    names: NameRange
    prefix: str
    fresh: bool  # nothing is known of its size: it is a root, not a piece
    first: str | None = None
    position: str | None = None
    pages: int = 0
    listed: int = 0
    steal: Steal | None = None
    unsplittable: bool = False  # until its next page
    ending: bool = False  # its last page is there
    climb: Climb = field(default_factory=Climb)
    _marks: tuple[tuple[int, str], ...] = ()  # (pages, position) some pages ago, and a few pages after that
    _scale: Scale | None = None
    _scale_pages: int = 0
    _estimate: float | None = None  # until the next page or the next change of the range

    @property
    def low(self) -> str:
        """The last name listed, or the range's start."""
        return self.names.start if self.position is None else self.position

    @property
    def can_be_asked(self) -> bool:
        """Whether it makes sense to divide or probe the range now."""
        return not (self.steal or self.unsplittable or self.ending or self.climb.under_way)

    def page_listed(self, page: PageListed) -> None:
        """Take note of a page."""
        self.pages += 1
        self.listed += page.listed
        self.unsplittable = False
        self.ending = not page.more
        self._estimate = None
        if page.first is None or page.last is None:
            return
        if self.first is None:
            self.first = page.first
            self._marks = ((0, page.first),)
        self.position = page.last
        if self.pages - self._marks[-1][0] >= RECENT_PAGES:
            self._marks = (self._marks[-1], (self.pages, page.last))

    def estimate_anew(self, *, scale: bool = True) -> None:
        """Forget the estimate, and the scale it was read on: something has changed."""
        self._estimate = None
        if scale:
            self._scale = None

    def remaining_pages(self, knowledge: Knowledge) -> float:
        """Return the pages that are probably left: 0 if it is too early to say, infinity if nobody knows."""
        if self.ending:
            return 0.0
        if self.pages == 0:
            return math.inf if self.fresh else 0.0
        if self._estimate is None:
            self._estimate = self._estimated(knowledge)
        return self._estimate

    def _estimated(self, knowledge: Knowledge) -> float:
        if self.position is None or self.first is None:
            return math.inf  # pages without names: the objects that match are far apart
        if self._scale is None or self.pages >= 2 * self._scale_pages:
            self._scale = knowledge.scale(self.names.start, self.names.end)
            self._scale_pages = self.pages
        pages_before, since = self._marks[0]
        done = knowledge.distance(self._scale, since, self.position)
        left = knowledge.distance(self._scale, self.position, self.names.end)
        if done == 0 or left == 0:
            return math.inf
        if (
            self.pages >= HIDDEN_PAGES
            and self.pages >= self.climb.again_at
            and self._scale.hides(self.first, self.position)
        ):
            return math.inf
        pages = (self.pages - pages_before) * left / done
        return math.inf if pages > PLAUSIBLE_PAGES else pages
