"""Who lists what: a state machine without I/O. Events in, instructions out.

The protocol, once:

1. A worker joins with a number of streams. Every range and every probe that is given to it takes one of them until
   its `RangeEnded` or `Probed` arrives.
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
overlap; no worker has more to do than streams. Where to split is the business of `Knowledge`; whether the listing is
complete is proven by the `Ledger`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airflow_dataflux.core.listing.knowledge import Knowledge
from airflow_dataflux.core.listing.ledger import Ledger
from airflow_dataflux.core.listing.liverange import LiveRange, Steal
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
    WorkerJoined,
    WorkerLost,
)
from airflow_dataflux.core.listing.shares import shares
from airflow_dataflux.core.namerange import NameRange, after, prefix_range

BLIND_PIECES = 4
"""Pieces of a range of unknown size: often half of them turn out to be empty, each for a request."""

EARLY_PIECES = 12
"""Pieces of a range of which one page is known."""

MOST_PIECES = 16
"""Pieces of one steal. What one page says of a large range is a guess: the first pages of the pieces show where the
objects are, and the right ones are divided further."""

FREE_WASTE = 128
WASTE_PER_PAGE = 1 / 16
"""Requests that may be wasted (probes, empty ranges): so many, plus this part of the pages. The bar is 10 % in all."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A range that no stream lists yet."""

    names: NameRange
    prefix: str
    fresh: bool
    pages: float = 0.0  # expected, 0 if nobody can tell


@dataclass(slots=True, kw_only=True)
class Totals:
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
    def wasted_requests(self) -> int:
        """Requests that brought no rows: probes, and ranges without objects."""
        return self.probes + self.empty_ranges


class Scheduler:
    """The state machine. One owner, not thread-safe.

    Args:
        prefixes: the distinct prefixes that are listed.
        waiting: the ranges to list; None: everything below the prefixes.
        examples, voids: names, and empty ranges, known beforehand.
        first_range_id: the first id that is given; ids of one listing are never given twice.
    """

    def __init__(
        self,
        prefixes: Sequence[str],
        *,
        waiting: Iterable[NameRange] | None = None,
        examples: Iterable[str] = (),
        voids: Iterable[NameRange] = (),
        first_range_id: int = 1,
    ) -> None:
        roots = [prefix_range(prefix) for prefix in prefixes]
        self._prefixes = dict(zip(roots, prefixes, strict=True))
        ranges = roots if waiting is None else [names for names in waiting if not names.is_empty]
        self._asked = tuple(sorted(ranges, key=lambda names: names.start))
        self.ledger = Ledger(self._asked)
        self.knowledge = Knowledge()
        for name in examples:
            self.knowledge.saw(name)
        for void in voids:
            self.knowledge.saw_nothing(void.start, void.end)
        self.totals = Totals()
        self._waiting: deque[Waiting] = deque(
            Waiting(names, self._prefix_of(names), fresh=len(ranges) <= len(roots)) for names in self._asked
        )
        self._live: dict[int, LiveRange] = {}
        self._streams: dict[int, int] = {}  # worker -> streams
        self._busy: dict[int, int] = {}  # worker -> ranges and probes
        self._probes: dict[int, tuple[int, int, NameRange]] = {}  # probe -> (worker, range, where)
        self._probe_queue: deque[tuple[int, NameRange, str]] = deque()
        self._next_id = first_range_id
        self._halting = False
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

    @property
    def active_streams(self) -> int:
        """How many streams list a range or probe."""
        return len(self._live) + len(self._probes)

    @property
    def next_range_id(self) -> int:
        """An id that was not given yet."""
        return self._next_id

    def leftover(self, count: int = 1) -> tuple[NameRange, ...]:
        """After `halt`: return what nobody has listed, sorted, divided so that `count` streams have something to do."""
        sizes = {number: waiting.pages for number, waiting in enumerate(self._waiting)}
        pieces = shares(sizes, dict.fromkeys(sizes, MOST_PIECES), count - len(sizes))
        ranges: list[NameRange] = []
        for number, waiting in enumerate(self._waiting):
            names = waiting.names
            ranges.extend(names.divided(self.knowledge.split(names.start, names.end, pieces[number] - 1)))
        return tuple(sorted(ranges, key=lambda names: names.start))

    def rest(self) -> list[tuple[NameRange, float]]:
        """After `halt`: return what nobody has listed, and the pages that are expected there, 0 if nobody can tell."""
        return [(waiting.names, waiting.pages) for waiting in self._waiting]

    def remaining_pages(self) -> float | None:
        """Return the pages that are still to come, as far as one can tell; None if one cannot."""
        if any(waiting.fresh for waiting in self._waiting):
            return None
        total = 0.0
        for live in self._live.values():
            pages = live.remaining_pages(self.knowledge)
            if math.isinf(pages):
                return None
            total += pages
        return total

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
            case WorkerLost():
                self._worker_lost(event)
        return [] if self._halting else self._plan()

    def halt(self) -> list[Order]:
        """Let every range end after its page in flight; plan nothing new."""
        self._halting = True
        while self._probe_queue:
            live = self._live.get(self._probe_queue.popleft()[0])
            if live is not None:
                live.climb.ended(live.pages)
        return [Order(worker, Halt()) for worker in self._streams]

    def _page_listed(self, event: PageListed) -> None:
        live = self._live.get(event.range_id)
        if live is None:
            return  # of a range that ended with its worker
        first_names = live.first is None
        live.page_listed(event)
        self.totals.pages += 1
        self.totals.listed += event.listed
        if event.last is None or event.first is None:
            return
        for name in (event.first, *event.examples, event.last):
            self.knowledge.saw(name)
        if first_names:
            self.knowledge.saw_nothing(live.names.start, event.first)

    def _range_ended(self, event: RangeEnded) -> None:
        live = self._live.pop(event.range_id, None)
        if live is None:
            return
        self._busy[live.worker] -= 1
        self._tell(live.range_id, f"ended at {event.end!r} with {live.listed} objects in {live.pages} pages")
        names = NameRange(live.names.start, event.end)
        self.ledger.finish(names)
        if not names.is_empty:
            self.knowledge.saw_nothing(live.names.start if live.position is None else after(live.position), event.end)
        if live.listed == 0:
            self.totals.empty_ranges += 1
        if event.end is not None and event.end != live.names.end:
            pages = live.remaining_pages(self.knowledge)
            self._wait(
                NameRange(event.end, live.names.end),
                live.prefix,
                fresh=False,
                pages=0.0 if math.isinf(pages) else pages,
            )

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
        live.fresh = live.fresh and steal.islands
        self.totals.steals += len(pieces)
        self._tell(
            live.range_id, f"steal {event.steal_id}: now ends at {event.point!r}, {len(pieces)} ranges given away"
        )
        for names in pieces:
            self._wait(names, live.prefix, fresh=steal.islands)

    def _probed(self, event: Probed) -> None:
        probe = self._probes.pop(event.probe_id, None)
        if probe is None:
            return
        worker, range_id, names = probe
        self._busy[worker] -= 1
        if event.name is None:
            self.knowledge.saw_nothing(names.start, names.end)
        else:
            self.knowledge.saw_nothing(names.start, event.name)
            self.knowledge.saw(event.name)
        live = self._live.get(range_id)
        if live is not None:
            live.climb.answered(names.start, event.name)
            self._probe_over(live)

    def _probe_over(self, live: LiveRange) -> None:
        if live.climb.ended(live.pages):
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
        for probe_id, (worker, range_id, _) in list(self._probes.items()):
            if worker == event.worker:
                del self._probes[probe_id]
                if range_id in self._live:
                    self._probe_over(self._live[range_id])

    # -- decisions

    def _plan(self) -> list[Order]:
        orders: list[Order] = []
        while self._waiting and self._free() > 0:
            orders.append(self._start(self._waiting.popleft()))
        if self._waiting:
            return orders
        self._start_probes(orders)
        idle = self._idle()
        if idle <= 0 or not self._live:
            return orders
        budget = FREE_WASTE + self.totals.pages * WASTE_PER_PAGE - self.totals.wasted_requests - self._probes_pending()
        if budget < 1:
            return orders
        victims = [
            live
            for live in self._live.values()
            if not (live.steal or live.unsplittable or live.ending or live.climb.under_way)
        ]
        sizes = {live.range_id: live.remaining_pages(self.knowledge) for live in victims}
        unknown = [live for live in victims if math.isinf(sizes[live.range_id])]
        for live in unknown:
            idle -= self._explore(live, idle, budget, orders)
            if idle <= 0:
                return orders
        known = [live for live in victims if not math.isinf(sizes[live.range_id]) and live.can_be_asked]
        most = {live.range_id: MOST_PIECES if live.pages > 1 else EARLY_PIECES for live in known}
        pieces = shares(sizes, most, min(idle, max(1, int(2 * budget))))
        for live in known:
            if pieces.get(live.range_id, 1) > 1:
                self._steal(live, pieces[live.range_id] - 1, orders)
        self._start_probes(orders)
        return orders

    def _explore(self, live: LiveRange, idle: int, budget: float, orders: list[Order]) -> int:
        """Do something about a range of unknown size; return how many idle streams that took."""
        allowed = max(1, min(idle, int(2 * budget)))
        kinds = self.knowledge.islands(live.low, live.names.end)
        if kinds:
            return self._ask_to_shrink(live, kinds[:allowed], orders, islands=True)
        live.estimate_anew(scale=False)  # whatever is done now changes what is known
        bounds = live.climb.begin_round(self.knowledge, live.low, live.names.end, live.pages, max(1, int(budget)))
        if bounds:
            self._probe_queue.extend((live.range_id, names, live.prefix) for names in bounds)
            self._start_probes(orders)
            return min(idle, len(bounds))
        if live.pages == 0 and live.position is None and not live.fresh:
            return 0
        return self._steal(live, min(allowed, BLIND_PIECES - 1), orders)

    def _steal(self, live: LiveRange, count: int, orders: list[Order]) -> int:
        return self._ask_to_shrink(live, self.knowledge.split(live.low, live.names.end, count), orders)

    def _ask_to_shrink(
        self, live: LiveRange, points: Sequence[str], orders: list[Order], *, islands: bool = False
    ) -> int:
        """Ask the victim to shrink to one of `points`; return how many idle streams are promised to that."""
        if not points:
            live.unsplittable = True
            return 0
        live.steal = Steal(self._new_id(), tuple(points), islands)
        self._tell(live.range_id, f"steal {live.steal.steal_id}: {len(points)} points from {points[0]!r} asked for")
        orders.append(Order(live.worker, Shrink(live.range_id, live.steal.steal_id, live.steal.points)))
        return len(points)

    def _start_probes(self, orders: list[Order]) -> None:
        while self._probe_queue and self._free() > 0:
            range_id, names, prefix = self._probe_queue.popleft()
            if range_id not in self._live:
                continue
            worker = self._freest()
            probe_id = self._new_id()
            self._probes[probe_id] = (worker, range_id, names)
            self._busy[worker] += 1
            self.totals.probes += 1
            orders.append(Order(worker, Probe(probe_id, names, prefix)))

    def _start(self, waiting: Waiting) -> Order:
        worker = self._freest()
        range_id = self._new_id()
        self._busy[worker] += 1
        self._live[range_id] = LiveRange(range_id, worker, waiting.names, waiting.prefix, waiting.fresh)
        self.totals.ranges += 1
        self._tell(range_id, f"[{waiting.names.start!r}, {waiting.names.end!r}) given to worker {worker}")
        return Order(worker, ListRange(range_id, waiting.names, waiting.prefix))

    # -- small things

    def _wait(self, names: NameRange, prefix: str, *, fresh: bool, pages: float = 0.0) -> None:
        if not names.is_empty:
            self._waiting.append(Waiting(names, prefix, fresh, pages))

    def _free(self) -> int:
        """How many streams have nothing to do."""
        return sum(self._streams.values()) - sum(self._busy.values())

    def _idle(self) -> int:
        """How many streams have nothing to do and are promised to nobody."""
        promised = sum(len(live.steal.points) for live in self._live.values() if live.steal is not None)
        return self._free() - promised - len(self._probe_queue)

    def _probes_pending(self) -> int:
        return len(self._probe_queue)

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
            probes += sum(queued[0] == live.range_id for queued in self._probe_queue)
            if probes != live.climb.under_way:
                raise RuntimeError(
                    f"range {live.range_id} waits for {live.climb.under_way} probes, {probes} are under way"
                )
