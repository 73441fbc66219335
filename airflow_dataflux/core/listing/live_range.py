"""A range while it is being listed: how far it is, what is asked of it, and how much of it is probably left."""

from __future__ import annotations

import bisect
import math

import msgspec

from airflow_dataflux.core.listing.known_names import KnownNames
from airflow_dataflux.core.listing.messages import PageListed
from airflow_dataflux.core.listing.name_model import NameModel
from airflow_dataflux.core.listing.probing import BranchSearch
from airflow_dataflux.core.listing.splitting import Outlook
from airflow_dataflux.core.namerange import NameRange, directory_of

PLAUSIBLE_PAGES = 200_000
"""An estimate above this many pages means that the structure of the names is not understood yet."""

RECENT_PAGES = 4
"""An estimate by a model looks at the last four to eight pages of a range: with all of them, a range behind a gap that
nobody knew of seemed to be at its end, and one stream listed its last 12 pages alone (docs/decisions/0005)."""

MOST_MARKS = 1024
"""Names that a range remembers, about four a page; of more, every other one is forgotten."""

MARKS_A_PAGE = 4
"""Of a page, its last name and the examples between."""


class Steal(msgspec.Struct):
    """A steal in flight: asked, not yet answered."""

    steal_id: int
    points: tuple[str, ...]


class LiveRange(msgspec.Struct):
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
    in_one_directory: bool = False  # its last page was
    search: BranchSearch = msgspec.field(default_factory=BranchSearch)
    questions: int = 0  # about directories, not yet answered
    asked_at: int = -1  # pages, when directories were last asked for
    marks: list[str] = []  # listed names, evenly spaced, also of what lies before the range
    _marks_a_page: float = MARKS_A_PAGE
    _recent: tuple[tuple[int, str], ...] = ()  # (pages, position) some pages ago, and a few pages after that
    _model: NameModel | None = None
    _model_pages: int = 0
    _estimate: float | None = None  # until the next page or the next change of the range
    _outlook: Outlook | None = None
    _outlook_of: tuple[int, int, str | None] = (-1, -1, None)  # answers, pages and end that it was made from

    @property
    def low(self) -> str:
        """The last name listed, or the range's start."""
        return self.names.start if self.position is None else self.position

    @property
    def listed_from(self) -> str:
        """Where what is known to be listed up to `low` begins: the range's start, or a name before it."""
        return min(self.marks[0], self.names.start) if self.marks else self.names.start

    @property
    def can_be_asked(self) -> bool:
        """Whether it makes sense to divide or probe the range now."""
        return not (self.steal or self.unsplittable or self.ending or self.search.under_way or self.questions)

    def page_listed(self, page: PageListed) -> None:
        """Take note of a page."""
        self.pages += 1
        self.listed += page.listed
        self.unsplittable = False
        self.ending = not page.more
        self._estimate = None
        if page.first is None or page.last is None:
            return
        self.in_one_directory = directory_of(page.first) == directory_of(page.last)
        self.marks += [*page.examples, page.last]
        if len(self.marks) > MOST_MARKS:
            del self.marks[::2]
            self._marks_a_page /= 2
        if self.first is None:
            self.first = page.first
            self._recent = ((0, page.first),)
        self.position = page.last
        if self.pages - self._recent[-1][0] >= RECENT_PAGES:
            self._recent = (self._recent[-1], (self.pages, page.last))

    def estimate_anew(self, *, model: bool = True) -> None:
        """Forget the estimate, and the model it was read from: something has changed."""
        self._estimate = None
        if model:
            self._model = None

    def outlook(self, known: KnownNames) -> Outlook:
        """Return what lies ahead, by the directories that are known."""
        made_from = (known.answers, self.pages, self.names.end)
        if self._outlook is None or self._outlook_of != made_from:
            self._outlook = Outlook.of(known, self.listed_from, self.low, self.names.end, self.pages_since)
            self._outlook_of = made_from
        return self._outlook

    def points(self, count: int, known: KnownNames) -> list[str]:
        """Return up to `count` names that divide what is left: at known directories, else as names are modelled."""
        return self.outlook(known).points(count, known) or known.split(self.low, self.names.end, count)

    def forget_outlook(self) -> None:
        """Have the outlook made anew: more names are known."""
        self._outlook = None

    def pages_since(self, directory: str) -> float:
        """Return how many pages came since the listing entered `directory`."""
        count = len(self.marks) - bisect.bisect_left(self.marks, directory)
        return count / self._marks_a_page

    def remaining_pages(self, known: KnownNames) -> float:
        """Return the pages that are probably left: 0 if it is too early to say, infinity if nobody knows."""
        if self.ending:
            return 0.0
        if self.pages > 0 or self.marks:
            outlook = self.outlook(known)
            if outlook.most_pieces > 1:
                return outlook.pages
        if self.pages == 0:
            return math.inf if self.fresh else 1.0 if self.names.start.endswith("/") else 0.0
        if not self.in_one_directory:
            return float(self.pages)  # what has lasted is expected to last as long again
        if self._estimate is None:
            self._estimate = self._modelled(known)
        return self._estimate

    def _modelled(self, known: KnownNames) -> float:
        if self.position is None or self.first is None:
            return math.inf  # pages without names: the objects that match are far apart
        if self._model is None or self.pages >= 2 * self._model_pages:
            self._model = known.model(self.names.start, self.names.end)
            self._model_pages = self.pages
        pages_before, since = self._recent[0]
        done = known.distance(self._model, since, self.position)
        left = known.distance(self._model, self.position, self.names.end)
        if done == 0 or left == 0:
            return math.inf
        pages = (self.pages - pages_before) * left / done
        return math.inf if pages > PLAUSIBLE_PAGES else pages
