"""A bucket and workers in virtual time: the real scheduler and the real cursors, without threads, HTTP or a clock.

Every message takes its own time, in order per worker and direction; workers die when they are told to. What comes
out is what a listing would have listed, and how long and how many requests it would have taken.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from airflow_dataflux.core.gcs.store import PageRequest
from airflow_dataflux.core.listing.cursor import Cursor
from airflow_dataflux.core.listing.known_names import Level
from airflow_dataflux.core.listing.messages import (
    Halt,
    Instruction,
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
from airflow_dataflux.core.listing.scheduler import FREE_WASTE, Scheduler
from airflow_dataflux.core.namerange import NameRange, successor


class SimulatedBucket:
    """Sorted names and the rules of objects.list. `matches` leaves names out, as matchGlob does: pages may be empty."""

    def __init__(
        self, names: Iterable[str], *, page_cap: int = 1000, matches: Callable[[str], bool] | None = None
    ) -> None:
        self.names = sorted(set(names))
        self.page_cap = page_cap
        self.matches = matches

    @property
    def expected(self) -> list[str]:
        return [name for name in self.names if self.matches is None or self.matches(name)]

    def page(self, request: PageRequest) -> tuple[list[str], str | None]:
        low = bisect.bisect_left(self.names, max(request.start, request.prefix))
        if request.page_token is not None:
            low = max(low, bisect.bisect_right(self.names, request.page_token))
        ends = [end for end in (request.end, successor(request.prefix)) if end is not None]
        high = bisect.bisect_left(self.names, min(ends), low) if ends else len(self.names)
        cap = min(self.page_cap, request.max_results or self.page_cap)
        scanned = self.names[low : min(low + cap, high)]
        more = low + len(scanned) < high
        rows = scanned if self.matches is None else [name for name in scanned if self.matches(name)]
        return rows, scanned[-1] if more and scanned else None

    def directories(self, request: PageRequest) -> tuple[list[str], bool, bool]:
        """Return what `delimiter` shows: directories below the prefix, whether there are more, and objects beside."""
        found: list[str] = []
        objects = False
        at = bisect.bisect_left(self.names, max(request.start, request.prefix))
        for _ in range(self.page_cap):
            if at == len(self.names) or not self.names[at].startswith(request.prefix):
                return found, False, objects
            name = self.names[at]
            if request.end is not None and name >= request.end:
                return found, False, objects
            slash = name.find("/", len(request.prefix))
            if slash < 0:
                objects = True
                at += 1
                continue
            found.append(name[: slash + 1])
            at = bisect.bisect_left(self.names, name[:slash] + "0", at)
        return found, at < len(self.names) and self.names[at].startswith(request.prefix), objects


@dataclass
class Timing:
    """How long things take, in seconds."""

    first_byte_s: float = 0.040
    per_1000_rows_s: float = 0.025
    jitter: float = 0.2
    message_s: float = 0.0005
    cpu_per_page_s: float = 0.0
    """Time that a page occupies its worker exclusively."""


@dataclass
class Result:
    names: list[str]
    seconds: float
    requests: int
    scheduler: Scheduler
    deaths: int = 0
    leftover: tuple[NameRange, ...] = ()
    log: list[tuple[float, int, float, float]] = field(default_factory=list)


class SimulatedListing:
    """One run.

    `deaths`: after so many events handled, a worker (chosen at random) dies; another joins in its place.
    `added`: after so many events handled, each worker has so many streams more.
    """

    def __init__(
        self,
        bucket: SimulatedBucket,
        *,
        prefixes: Sequence[str] = ("",),
        workers: int = 2,
        streams: int = 16,
        seed: int = 0,
        timing: Timing | None = None,
        deaths: Sequence[int] = (),
        added: tuple[int, int] | None = None,
        halt_after: int | None = None,
        check: bool = True,
        waiting: Iterable[NameRange] | None = None,
        examples: Iterable[str] = (),
        empty_ranges: Iterable[NameRange] = (),
        levels: Iterable[Level] = (),
        free_waste: int = FREE_WASTE,
    ) -> None:
        self.bucket = bucket
        self.random = random.Random(seed)
        self.timing = timing or Timing()
        self.scheduler = Scheduler(
            prefixes, waiting=waiting, examples=examples, empty_ranges=empty_ranges, levels=levels,
            free_waste=free_waste,
        )  # fmt: skip
        self.streams = streams
        self.workers = workers
        self.deaths = deque(sorted(deaths))
        self.added = added
        self.halt_after = halt_after
        self.check = check
        self.now = 0.0
        self.requests = 0
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.cursors: dict[tuple[int, int], Cursor] = {}
        self.incarnation = dict.fromkeys(range(workers), 0)
        self.last_delivery: dict[tuple[str, int, int], float] = {}
        self.busy_until = dict.fromkeys(range(workers), 0.0)
        self.rows: dict[int, list[str]] = {}
        self.finished: list[tuple[str, list[str]]] = []
        self.handled = 0
        self.died = 0

    def run(self) -> Result:
        for worker in range(self.workers):
            self._join(worker)
        while not self.scheduler.done:
            if not self.queue:
                raise RuntimeError(f"nothing happens any more, {self.scheduler.active_streams} streams active")
            self.now, _, action = heapq.heappop(self.queue)
            action()
        self.finished.sort()
        names = [name for _, names in self.finished for name in names]
        return Result(names, self.now, self.requests, self.scheduler, self.died, self.scheduler.leftover())

    # -- the owner

    def _join(self, worker: int) -> None:
        streams = self.streams // self.workers + (worker < self.streams % self.workers)
        if streams:
            self._carry_out(self.scheduler.handle(WorkerJoined(worker, streams)))

    def _handle(self, worker: int, incarnation: int, event: object) -> None:
        if self.incarnation[worker] != incarnation:
            return  # what a dead worker had sent and nobody had read
        if isinstance(event, RangeEnded):
            start = self.scheduler.start_of(event.range_id)
            if start is not None:
                self.finished.append((start, self.rows.pop(event.range_id)))
        self._carry_out(self.scheduler.handle(event))  # type: ignore[arg-type]
        self.handled += 1
        if self.check:
            self.scheduler.check()
        if self.deaths and self.handled >= self.deaths[0]:
            self.deaths.popleft()
            self._kill(self.random.randrange(self.workers))
        if self.added is not None and self.handled == self.added[0]:
            self.streams += self.workers * self.added[1]
            for each in self.scheduler.workers:
                self._carry_out(self.scheduler.handle(StreamsAdded(each, self.added[1])))
        if self.halt_after is not None and self.handled == self.halt_after:
            self._carry_out(self.scheduler.halt())

    def _kill(self, worker: int) -> None:
        if worker not in self.scheduler.workers:
            return
        self.died += 1
        self.incarnation[worker] += 1
        for key in [key for key in self.cursors if key[0] == worker]:
            del self.cursors[key]
        self._carry_out(self.scheduler.handle(WorkerLost(worker)))
        if self.check:
            self.scheduler.check()
        self._join(worker)

    def _carry_out(self, orders: list[Order]) -> None:
        for order in orders:
            incarnation = self.incarnation[order.worker]
            self._deliver(
                "down", order.worker, incarnation, lambda o=order, i=incarnation: self._obey(o.worker, i, o.instruction)
            )

    def _deliver(self, way: str, worker: int, incarnation: int, action: Callable[[], None]) -> None:
        key = (way, worker, incarnation)
        at = max(self.now + self.timing.message_s * self.random.uniform(0.5, 3), self.last_delivery.get(key, 0.0))
        self.last_delivery[key] = at
        self._at(at, action)

    def _at(self, at: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (at, next(self.order), action))

    # -- a worker

    def _obey(self, worker: int, incarnation: int, instruction: Instruction) -> None:
        if self.incarnation[worker] != incarnation:
            return
        match instruction:
            case ListRange(range_id, names, prefix):
                self.cursors[worker, range_id] = Cursor(names, prefix)
                self.rows[range_id] = []
                self._ask(worker, incarnation, range_id)
            case Shrink(range_id, steal_id, points):
                cursor = self.cursors.get((worker, range_id))
                point = None if cursor is None else cursor.shrink(points)
                self._send(worker, incarnation, ShrinkAnswered(range_id, steal_id, point))
            case Probe(probe_id, names, prefix, directories):
                self.requests += 1
                request = PageRequest(prefix=prefix, start=names.start, end=names.end, max_results=1)
                if directories:
                    found, more, objects = self.bucket.directories(request)
                else:
                    rows, _ = self.bucket.page(request)
                    found, more, objects = rows[:1], bool(rows), True
                answer = Probed(probe_id, tuple(found), more, only_directories=not objects)
                self._at(self.now + self._latency(len(found)), lambda: self._send(worker, incarnation, answer))
            case Halt():
                for (of, _), cursor in self.cursors.items():
                    if of == worker:
                        cursor.halt()

    def _latency(self, rows: int) -> float:
        timing = self.timing
        return (timing.first_byte_s + timing.per_1000_rows_s * rows / 1000) * self.random.uniform(
            1 - timing.jitter, 1 + timing.jitter
        )

    def _ask(self, worker: int, incarnation: int, range_id: int) -> None:
        self.requests += 1
        rows, token = self.bucket.page(self.cursors[worker, range_id].request())
        arrives = self.now + self._latency(len(rows))
        self._at(arrives, lambda: self._occupy(worker, incarnation, range_id, rows, token))

    def _occupy(self, worker: int, incarnation: int, range_id: int, rows: list[str], token: str | None) -> None:
        if self.incarnation[worker] != incarnation:
            return
        start = max(self.now, self.busy_until[worker])
        self.busy_until[worker] = start + self.timing.cpu_per_page_s * len(rows) / 1000
        self._at(self.busy_until[worker], lambda: self._answered(worker, incarnation, range_id, rows, token))

    def _answered(self, worker: int, incarnation: int, range_id: int, rows: list[str], token: str | None) -> None:
        if self.incarnation[worker] != incarnation:
            return
        cursor = self.cursors[worker, range_id]
        taken = rows[cursor.accept(rows, token)]
        self.rows[range_id].extend(taken)
        examples = tuple(taken[len(taken) * index // 4] for index in range(1, 4)) if taken else ()
        first, last = (taken[0], taken[-1]) if taken else (None, None)
        self._send(
            worker,
            incarnation,
            PageListed(range_id, len(taken), len(taken), 0, first, last, examples, cursor.more),
        )
        if cursor.ended:
            del self.cursors[worker, range_id]
            self._send(worker, incarnation, RangeEnded(range_id, cursor.end))
        else:
            self._ask(worker, incarnation, range_id)

    def _send(self, worker: int, incarnation: int, event: object) -> None:
        if self.incarnation[worker] == incarnation:
            self._deliver("up", worker, incarnation, lambda: self._handle(worker, incarnation, event))
