"""Who lists what: a state machine without I/O. Events in, instructions out.

The protocol, once:

1. A worker joins with a number of streams, and may get more. Every range and every probe that is given to it takes
   one of them until its `RangeEnded` or `Probed` arrives.
2. `ListRange` starts a range. `PageListed` tells how far it came. `RangeEnded` ends it, and its rows are durable.
3. A steal: with streams idle, the range with the most left (the victim) is asked to `Shrink` to the first of some
   split points that is still ahead of it. As many idle streams as there are points are promised to the steal. The
   victim's worker answers at once, even with a request in flight, with the point it chose, and trims what arrives
   beyond it. **Only after that answer** are the ranges behind the point started: what a victim may still list and
   what a thief lists never overlap. The answer None ("past them all") changes nothing.
4. A worker answers in order: an accepting `ShrinkAnswered` always comes before the `RangeEnded` of its range. So if the
   range ends while a steal is in flight, the steal is over, and its answer, if any, is stale: known by its id, ignored.
5. A lost worker's unfinished ranges are given to others under new ids, each from its start to the end that was last
   agreed; a shrink that was accepted but not answered was never acted upon, so nothing is lost or doubled.
6. `halt` lets every range end after its page in flight; what is left is in `leftover`.
7. What a range did not list (its `RangeEnded.end` lies before its end) is listed by another one.

Stealing is an optimisation: with every steal refused the listing is as complete, and slower.

Invariants (`check`, run after every event in tests): finished, live and waiting ranges tile the request; no two
overlap; no worker has more to do than streams. Where to split follows from what is known of the names (`KnownNames`,
`splitting`, `probing`); whether the listing is complete is proven by the `Ledger`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from airflow_dataflux.core.listing.known_names import KnownNames, Level
from airflow_dataflux.core.listing.ledger import Ledger
from airflow_dataflux.core.listing.live_range import LiveRange, Steal
from airflow_dataflux.core.listing.messages import (
    Event,
    Halt,
    ListRange,
    Order,
    PageListed,
    Probe,
    Probed,
    RangeEnded,
    Shrink,
    ShrinkAnswered,
    StreamsAdded,
    WorkerJoined,
    WorkerLost,
)
from airflow_dataflux.core.listing.probing import Question, directory_questions, tail_questions
from airflow_dataflux.core.listing.splitting import SMALLEST_PIECE_PAGES, pieces_of
from airflow_dataflux.core.namerange import NameRange, after, directory_of, prefix_range

BLIND_PIECES = 4
"""Pieces of a range of unknown size: often half of them turn out to be empty, each for a request."""

ASK_FROM_PAGES = 1.0
"""Pages in a directory from which it is worth a request to learn what else it holds, where other points are known."""

COUNT_PASSED_UP_TO_PAGES = 2.0
"""A question begins where the listing entered a directory, if that is at most so many pages ago: one answer names 1,000
directories, so what was passed hardly fills it."""

EARLY_PIECES = 12
"""Pieces of a range of which one page is known."""

MOST_PIECES = 16
"""Pieces of one steal. What one page says of a large range is a guess: the first pages of the pieces show where the
objects are, and the right ones are divided further."""

FREE_WASTE = 192
FREE_WASTE_IN_ENGINE = 48
WASTE_PER_PAGE = 1 / 16
WASTE_PER_IDLE_PAGE = 1
"""Requests that may be wasted (probes, empty ranges): so many, plus this part of the pages, and one more for each page
that comes while most streams have nothing to do. 1,000,000 sensor files took one stream's time without that. An engine
lists what is large: nearly all its streams have something to do, and each request takes processor time from a page.
1,000,000 files of satellite images took a tenth more time and requests with as many free ones as at first."""


class Waiting(msgspec.Struct, frozen=True):
    """A range that no stream lists yet."""

    names: NameRange
    prefix: str
    fresh: bool
    rest_of: LiveRange | None = None  # that `halt` has stopped
    before: tuple[str, ...] = ()  # names that were listed up to it, evenly spaced


class Totals(msgspec.Struct, kw_only=True):
    """What happened so far."""

    pages: int = 0
    listed: int = 0
    probes: int = 0
    empty_ranges: int = 0
    ranges: int = 0
    steals: int = 0
    refused: int = 0
    lost_workers: int = 0

    @property
    def requests(self) -> int:
        """Pages that came, and probes that were sent."""
        return self.pages + self.probes

    @property
    def wasted_requests(self) -> int:
        """Requests that brought no rows: probes, and ranges without objects."""
        return self.probes + self.empty_ranges


class Scheduler:
    """The state machine. One owner, not thread-safe.

    Args:
        prefixes: the distinct prefixes that are listed.
        waiting: the ranges to list; None: everything below the prefixes.
        examples, empty_ranges, levels: names, empty ranges and directories known beforehand.
        first_range_id: the first id that is given; ids of one listing are never given twice.
        free_waste: requests that may be wasted, besides those for each page.
    """

    def __init__(
        self,
        prefixes: Sequence[str],
        *,
        waiting: Iterable[NameRange] | None = None,
        examples: Iterable[str] = (),
        empty_ranges: Iterable[NameRange] = (),
        levels: Iterable[Level] = (),
        first_range_id: int = 1,
        free_waste: int = FREE_WASTE,
    ) -> None:
        roots = [prefix_range(prefix) for prefix in prefixes]
        self._prefixes = dict(zip(roots, prefixes, strict=True))
        ranges = roots if waiting is None else [names for names in waiting if not names.is_empty]
        self._asked = tuple(sorted(ranges, key=lambda names: names.start))
        self.ledger = Ledger(self._asked)
        self.known = KnownNames(levels)
        for name in examples:
            self.known.saw(name)
        for empty in empty_ranges:
            self.known.saw_nothing(empty.start, empty.end)
        self.totals = Totals()
        self._waiting: deque[Waiting] = deque()
        ended: str | None = ""
        for names in self._asked:
            prefix = self._prefix_of(names)
            before = self.known.examples_in(max(ended or "", prefix), names.start)
            self._waiting.append(Waiting(names, prefix, fresh=len(ranges) <= len(roots), before=before))
            ended = names.end
        self._live: dict[int, LiveRange] = {}
        self._streams: dict[int, int] = {}  # worker -> streams
        self._busy: dict[int, int] = {}  # worker -> ranges and probes
        self._probes: dict[int, tuple[int, int, Question]] = {}  # probe -> (worker, range, question)
        self._questions: deque[tuple[int, Question]] = deque()  # that wait for a stream, and the range of each
        self._next_id = first_range_id
        self._free_waste = free_waste
        self._halting = False
        self._idle_pages = 0  # listed while most streams had nothing to do
        self._stories: dict[int, list[str]] = {}

    # -- what the owner asks

    @property
    def done(self) -> bool:
        """Whether nothing is being listed and nothing waits for a stream (after `halt`: nothing is being listed)."""
        return not self._live and (self._halting or not self._waiting)

    @property
    def workers(self) -> tuple[int, ...]:
        """The workers that have joined and are not lost."""
        return tuple(self._streams)

    def start_of(self, range_id: int) -> str | None:
        """Return where a live range starts; None if it is not live."""
        live = self._live.get(range_id)
        return None if live is None else live.names.start

    def marks_of(self, range_id: int) -> tuple[str, ...]:
        """Return names that were listed in a live range, evenly spaced, and before it; none if it is not live."""
        live = self._live.get(range_id)
        return () if live is None else tuple(live.marks)

    @property
    def active_streams(self) -> int:
        """How many streams list a range or probe."""
        return len(self._live) + len(self._probes)

    @property
    def next_range_id(self) -> int:
        """An id that was not given yet."""
        return self._next_id

    @property
    def rest(self) -> tuple[Waiting, ...]:
        """After `halt`: what nobody has listed."""
        return tuple(self._waiting)

    def pages_in(self, waiting: Waiting) -> float:
        """Return the pages that are expected in a part of the rest, 0 if nobody can tell."""
        pages = 0.0 if waiting.rest_of is None else waiting.rest_of.remaining_pages(self.known)
        return 0.0 if math.isinf(pages) else pages

    def points_in(self, waiting: Waiting, count: int) -> list[str]:
        """Return up to `count` names that divide a part of the rest evenly, as far as one can tell."""
        if waiting.rest_of is not None:
            return waiting.rest_of.points(count, self.known)
        return self.known.split(waiting.names.start, waiting.names.end, count)

    def leftover(self, count: int = 1) -> tuple[NameRange, ...]:
        """After `halt`: return the rest, sorted, divided so that `count` streams have something to do."""
        pages = [self.pages_in(waiting) for waiting in self._waiting]
        largest = max(pages, default=0.0)
        sizes = {number: each or largest for number, each in enumerate(pages)}
        pieces = pieces_of(sizes, dict.fromkeys(sizes, BLIND_PIECES), count - len(sizes))
        ranges: list[NameRange] = []
        for number, waiting in enumerate(self._waiting):
            ranges.extend(waiting.names.divided(self.points_in(waiting, pieces[number] - 1)))
        return tuple(sorted(ranges, key=lambda names: names.start))

    def remaining_by_range(self) -> list[tuple[int, float]] | None:
        """Return for each range its pages so far, and those that are still to come, infinity where nobody can tell.

        None while a part of the listing waits of which nothing is known.
        """
        if any(waiting.fresh for waiting in self._waiting):
            return None
        return [(live.pages, live.remaining_pages(self.known)) for live in self._live.values()]

    def remaining_pages(self) -> float | None:
        """Return the pages that are still to come, as far as one can tell; None if one cannot."""
        ranges = self.remaining_by_range()
        pages = math.inf if ranges is None else sum(remaining for _, remaining in ranges)
        return None if math.isinf(pages) else pages

    def story(self, range_id: int) -> list[str]:
        """Return what happened to one range, in order."""
        return list(self._stories.get(range_id, ()))

    # -- events

    def handle(self, event: Event) -> list[Order]:
        """Take an event; return what is to be done about it now."""
        match event:
            case PageListed():
                self._page_listed(event)
            case RangeEnded():
                self._range_ended(event)
            case ShrinkAnswered():
                self._shrink_answered(event)
            case Probed():
                self._probed(event)
            case WorkerJoined(worker, streams):
                self._streams[worker] = streams
                self._busy[worker] = 0
            case StreamsAdded(worker, streams):
                self._streams[worker] += streams
            case WorkerLost():
                self._worker_lost(event)
        return [] if self._halting else self._plan()

    def halt(self) -> list[Order]:
        """Let every range end after its page in flight; plan nothing new."""
        self._halting = True
        while self._questions:
            self._question_over(*self._questions.popleft())
        return [Order(worker, Halt()) for worker in self._streams]

    def _page_listed(self, event: PageListed) -> None:
        live = self._live.get(event.range_id)
        if live is None:
            return  # of a range that ended with its worker
        first_names = live.first is None
        live.page_listed(event)
        self.totals.pages += 1
        self.totals.listed += event.listed
        if self._free() * 2 > sum(self._streams.values()):
            self._idle_pages += 1
        if event.last is None or event.first is None:
            return
        for name in (event.first, *event.examples, event.last):
            self.known.saw(name)
        if first_names:
            self.known.saw_nothing(live.names.start, event.first)

    def _range_ended(self, event: RangeEnded) -> None:
        live = self._live.pop(event.range_id, None)
        if live is None:
            return
        self._busy[live.worker] -= 1
        self._tell(live.range_id, f"ended at {event.end!r} with {live.listed} objects in {live.pages} pages")
        names = NameRange(live.names.start, event.end)
        self.ledger.finish(names)
        if not names.is_empty:
            self.known.saw_nothing(live.names.start if live.position is None else after(live.position), event.end)
        if live.listed == 0:
            self.totals.empty_ranges += 1
        if event.end is not None and event.end != live.names.end:
            self._wait(NameRange(event.end, live.names.end), live.prefix, fresh=False, rest_of=live)

    def _shrink_answered(self, event: ShrinkAnswered) -> None:
        live = self._live.get(event.range_id)
        if live is None or live.steal is None or live.steal.steal_id != event.steal_id:
            return  # stale: the range ended, or its worker did
        steal, live.steal = live.steal, None
        if event.point is None:
            live.unsplittable = True
            self.totals.refused += 1
            self._tell(live.range_id, f"steal {event.steal_id} refused")
            return
        kept = steal.points[steal.points.index(event.point) :]
        victim, *pieces = live.names.divided(kept)
        live.names = victim
        live.estimate_anew()
        live.fresh = False
        self.totals.steals += len(pieces)
        self._tell(
            live.range_id, f"steal {event.steal_id}: now ends at {event.point!r}, {len(pieces)} ranges given away"
        )
        for names in pieces:
            self._wait(names, live.prefix, fresh=False)

    def _probed(self, event: Probed) -> None:
        probe = self._probes.pop(event.probe_id, None)
        if probe is None:
            return
        worker, range_id, question = probe
        self._busy[worker] -= 1
        names = question.names
        name = event.found[0] if event.found else None
        if question.directories and question.parent is not None:
            self.known.saw_directories(
                question.parent, names, event.found, more=event.more, alone=event.only_directories
            )
        elif name is not None:
            self.known.saw_nothing(names.start, name)
            self.known.saw(name)
        elif not event.more:
            self.known.saw_nothing(names.start, names.end)
        live = self._live.get(range_id)
        if live is not None:
            if question.parent is None:
                live.search.answered(names.start, name)
            elif question.directories and event.more:
                self._ask_for_tail(live, question.parent)
            elif not question.directories:
                live.forget_outlook()
        self._question_over(range_id, question)

    def _question_over(self, range_id: int, question: Question) -> None:
        live = self._live.get(range_id)
        if live is None:
            return
        if question.parent is not None:
            live.questions -= 1
            if live.questions == 0:
                live.asked_at = live.pages  # a page that came meanwhile is no reason to ask again before it is divided
        elif live.search.ended(live.pages):
            live.estimate_anew()

    def _worker_lost(self, event: WorkerLost) -> None:
        self._streams.pop(event.worker, None)
        self._busy.pop(event.worker, None)
        self.totals.lost_workers += 1
        for live in [live for live in self._live.values() if live.worker == event.worker]:
            del self._live[live.range_id]
            self.totals.listed -= live.listed
            self._tell(live.range_id, f"lost with worker {event.worker}")
            self._wait(live.names, live.prefix, fresh=live.fresh)
        for probe_id, (worker, range_id, question) in list(self._probes.items()):
            if worker == event.worker:
                del self._probes[probe_id]
                self._question_over(range_id, question)

    # -- decisions

    def _plan(self) -> list[Order]:
        orders: list[Order] = []
        while self._waiting and self._free() > 0:
            orders.append(self._start(self._waiting.popleft()))
        if self._waiting:
            return orders
        self._start_probes(orders)
        if self._idle() > 0:
            self._divide(orders)
        return orders

    def _divide(self, orders: list[Order]) -> None:
        """Give idle streams something to do: ask where names lie, and ask ranges for a part of what they have left.

        From the largest range to the smallest, until there is enough for all idle streams.
        """
        sizes = {live.range_id: live.remaining_pages(self.known) for live in self._live.values() if live.can_be_asked}
        most: dict[int, int] = {}
        wanted: float = self._idle()
        for range_id in sorted(sizes, key=sizes.__getitem__, reverse=True):
            live = self._live[range_id]
            if wanted <= 0 or sizes[range_id] <= 0:
                break
            if self._ask_for_directories(live, orders):
                wanted -= live.questions
                continue
            pieces = live.outlook(self.known).most_pieces
            if pieces > 1:
                most[range_id] = pieces
            elif self._budget() >= 1 and (live.in_one_directory or live.fresh):
                if math.isinf(sizes[range_id]):
                    wanted -= self._explore(live, orders)
                    continue
                most[range_id] = MOST_PIECES if live.pages > 1 else EARLY_PIECES
            else:
                continue
            wanted -= max(1.0, min(most[range_id] - 1, sizes[range_id] / SMALLEST_PIECE_PAGES - 1))
        pieces_each = pieces_of(sizes, most, max(0, self._idle()))
        for range_id, pieces in pieces_each.items():
            live = self._live[range_id]
            if pieces > 1:
                self._ask_to_shrink(live, live.points(pieces - 1, self.known), orders)

    def _ask_for_directories(self, live: LiveRange, orders: list[Order]) -> bool:
        """Ask which directories lie ahead, once a page, where that is not known; return whether there was anything."""
        if live.pages <= live.asked_at or self._budget() < 1:
            return False
        live.asked_at = live.pages
        can_wait = live.outlook(self.known).most_pieces > 1
        innermost = self.known.level(directory_of(live.low))
        unlisted = live.low.endswith("/") or (live.pages == 0 and innermost.too_many)
        questions = [
            self._with_passed(live, question)
            for question in directory_questions(live.low, live.names.end, live.prefix, unlisted=unlisted)
            if self._is_worth_asking(live, question, can_wait=can_wait)
        ]
        live.questions = len(questions)
        self._questions.extend((live.range_id, question) for question in questions)
        self._start_probes(orders)
        return bool(questions)

    def _is_worth_asking(self, live: LiveRange, question: Question, *, can_wait: bool) -> bool:
        if question.parent is None or (can_wait and live.pages_since(question.parent) < ASK_FROM_PAGES):
            return False
        level, names = self.known.level(question.parent), question.names
        return not level.unhelpful and level.known_until(names.start, names.end) == names.start

    def _with_passed(self, live: LiveRange, question: Question) -> Question:
        """Ask for what was passed of a directory, too, if that is little: the number of siblings tells their size."""
        parent = question.parent
        if parent is None or live.pages_since(parent) > COUNT_PASSED_UP_TO_PAGES:
            return question
        names = NameRange(max(parent, live.listed_from), question.names.end)
        known = self.known.level(parent).known_until(names.start, names.end)
        return question if known != names.start else Question(names, parent, directories=True)

    def _ask_for_tail(self, live: LiveRange, parent: str) -> None:
        """Ask once what is behind the known directories of `parent`: a model can be wrong about it either way."""
        level = self.known.level(parent)
        if self._halting or level.tail_asked or not level.directories or self._idle() < 1:
            return
        level.tail_asked = True
        questions = tail_questions(parent, level.directories, live.names.end)[: max(0, int(self._budget()))]
        live.questions += len(questions)
        self._questions.extend((live.range_id, question) for question in questions)

    def _explore(self, live: LiveRange, orders: list[Order]) -> int:
        """Do something about files side by side of which nobody knows how many; return how many streams that takes."""
        live.estimate_anew(model=False)  # whatever is done now changes what is known
        budget = max(1, int(self._budget()))
        questions = live.search.begin_round(self.known, live.low, live.names.end, live.pages, budget)
        if questions:
            self._questions.extend((live.range_id, question) for question in questions)
            self._start_probes(orders)
            return len(questions)
        count = max(0, min(self._idle(), 2 * budget, BLIND_PIECES - 1))
        self._ask_to_shrink(live, self.known.split(live.low, live.names.end, count), orders)
        return count

    def _ask_to_shrink(self, live: LiveRange, points: Sequence[str], orders: list[Order]) -> None:
        """Ask the victim to shrink to one of `points`; as many idle streams are promised to that."""
        if not points:
            live.unsplittable = True
            return
        live.steal = Steal(self._new_id(), tuple(points))
        self._tell(live.range_id, f"steal {live.steal.steal_id}: {len(points)} points from {points[0]!r} asked for")
        orders.append(Order(live.worker, Shrink(live.range_id, live.steal.steal_id, live.steal.points)))

    def _start_probes(self, orders: list[Order]) -> None:
        while self._questions and self._free() > 0:
            range_id, question = self._questions.popleft()
            live = self._live.get(range_id)
            if live is None:
                continue
            worker = self._freest()
            probe_id = self._new_id()
            self._probes[probe_id] = (worker, range_id, question)
            self._busy[worker] += 1
            self.totals.probes += 1
            parent = question.parent
            prefix = parent if parent is not None and parent.startswith(live.prefix) else live.prefix
            orders.append(Order(worker, Probe(probe_id, question.names, prefix, directories=question.directories)))

    def _budget(self) -> float:
        """How many requests may be wasted now."""
        totals = self.totals
        allowed = self._free_waste + totals.pages * WASTE_PER_PAGE + self._idle_pages * WASTE_PER_IDLE_PAGE
        return allowed - totals.wasted_requests - len(self._questions)

    def _start(self, waiting: Waiting) -> Order:
        worker = self._freest()
        range_id = self._new_id()
        self._busy[worker] += 1
        live = LiveRange(range_id, worker, waiting.names, waiting.prefix, waiting.fresh, marks=list(waiting.before))
        self._live[range_id] = live
        self.totals.ranges += 1
        self._tell(range_id, f"[{waiting.names.start!r}, {waiting.names.end!r}) given to worker {worker}")
        return Order(worker, ListRange(range_id, waiting.names, waiting.prefix))

    # -- small things

    def _wait(self, names: NameRange, prefix: str, *, fresh: bool, rest_of: LiveRange | None = None) -> None:
        if not names.is_empty:
            self._waiting.append(Waiting(names, prefix, fresh, rest_of))

    def _free(self) -> int:
        """How many streams have nothing to do."""
        return sum(self._streams.values()) - sum(self._busy.values())

    def _idle(self) -> int:
        """How many streams have nothing to do and are promised to nobody."""
        promised = sum(len(live.steal.points) for live in self._live.values() if live.steal is not None)
        return self._free() - promised - len(self._questions)

    def _freest(self) -> int:
        return max(self._streams, key=lambda worker: self._streams[worker] - self._busy[worker])

    def _prefix_of(self, names: NameRange) -> str:
        for root, prefix in self._prefixes.items():
            if root.covers(names):
                return prefix
        raise ValueError(f"{names} is not below one of the prefixes")

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _tell(self, range_id: int, text: str) -> None:
        self._stories.setdefault(range_id, []).append(text)

    def check(self) -> None:
        """Raise RuntimeError if an invariant does not hold. For tests: it looks at everything."""
        pieces = [
            *self.ledger.finished,
            *(live.names for live in self._live.values()),
            *(w.names for w in self._waiting),
        ]
        tiles = Ledger(self._asked)
        for names in pieces:
            tiles.finish(names)
        tiles.prove()
        for worker, streams in self._streams.items():
            busy = sum(live.worker == worker for live in self._live.values())
            busy += sum(probe[0] == worker for probe in self._probes.values())
            if busy != self._busy[worker] or busy > streams:
                raise RuntimeError(
                    f"worker {worker} has {busy} things to do, {self._busy[worker]} booked, {streams} streams"
                )
        for live in self._live.values():
            if live.position is not None and live.position not in live.names:
                raise RuntimeError(f"range {live.range_id} lists {live.position!r}, outside {live.names}")
            if live.steal is not None and not all(point in live.names for point in live.steal.points):
                raise RuntimeError(f"range {live.range_id} is asked to shrink outside {live.names}")
            probes = sum(probe[1] == live.range_id for probe in self._probes.values())
            probes += sum(range_id == live.range_id for range_id, _ in self._questions)
            expected = live.search.under_way + live.questions
            if probes != expected:
                raise RuntimeError(f"range {live.range_id} waits for {expected} probes, {probes} are under way")
