"""Dividing a bucket's names into ranges of about the same number of objects before anything is listed.

For listings that are shared by several machines: each lists one range, and the manifests are joined. An earlier
manifest divides best (`seeds.ranges_of`). Without one, the names are *sampled*: the scheduler of a listing is let loose
for a few pages, which it spreads over the bucket as it always does, and is asked what it expects where it has not been.

Guarantees: the ranges tile all names, are not empty, and hold no NUL, so that they can travel through any database.
What is not promised is evenness, nor `count` ranges: names that cannot be told apart are not divided. Completeness
never depends on it: each range is listed to its end whatever is in it.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

import msgspec

from airflow_dataflux.core.gcs.store import Page, Store
from airflow_dataflux.core.listing.cursor import Cursor
from airflow_dataflux.core.listing.messages import (
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
)
from airflow_dataflux.core.listing.scheduler import Scheduler
from airflow_dataflux.core.listing.seeds import PAGE_ROWS
from airflow_dataflux.core.listing.stream import NameColumn, answer_probe, page_listed
from airflow_dataflux.core.namerange import NameRange, distinct_prefixes, wire_start
from airflow_dataflux.core.runtime.threads import ThreadPool

REQUESTS_A_RANGE = 8
FEWEST_REQUESTS = 64
MOST_REQUESTS = 2048
"""Requests that a sample takes: names are known at about as many places as there are streams, a few pages of each."""

SAMPLE_STREAMS = 32

_PIECES = 16
"""Places at which an unlisted stretch may be divided, for each boundary that falls into it."""

Divide = Callable[[int], Sequence[str]]
"""Returns names that divide a stretch evenly as far as one can tell, strictly increasing: so many, more or fewer."""


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the names, how many objects have one of them, and how to find boundaries inside."""

    names: NameRange
    objects: float
    divide: Divide


def sampled_ranges(bucket: str, prefixes: Sequence[str], count: int, *, store: Store) -> list[NameRange]:
    """Divide all names by a sample of those below `prefixes`; about `REQUESTS_A_RANGE` list requests a range.

    Raises what the store raises.
    """
    if count < 2:
        return [NameRange()]
    most_requests = min(MOST_REQUESTS, max(FEWEST_REQUESTS, REQUESTS_A_RANGE * count))
    stretches = _Sample(bucket, distinct_prefixes(prefixes), store, most_requests).take()
    return NameRange().divided(even_boundaries(stretches, count))


def even_boundaries(stretches: Iterable[Stretch], count: int) -> list[str]:
    """Return up to `count - 1` names, strictly increasing, between which there are about equally many objects. Pure."""
    ordered = sorted(stretches, key=lambda stretch: stretch.names.start)
    total = sum(stretch.objects for stretch in ordered)
    boundaries: list[str] = []
    before, wanted = 0.0, 1
    for stretch in ordered:
        targets: list[float] = []
        while wanted < count and total * wanted / count <= before + stretch.objects:
            targets.append(total * wanted / count - before)
            wanted += 1
        if targets:
            names = stretch.names
            inner = stretch.divide(_PIECES * len(targets) - 1)
            points = [names.start, *inner, *([] if names.end is None else [names.end])]
            step = stretch.objects / (len(inner) + 1)
            for target in targets:
                point = wire_start(points[min(round(target / step) if step else 0, len(points) - 1)])
                if point > (boundaries[-1] if boundaries else ""):
                    boundaries.append(point)
        before += stretch.objects
    return boundaries


class _Sample:
    """One worker of a listing that keeps no rows, driven in the calling thread; only its requests run in others."""

    def __init__(self, bucket: str, prefixes: Sequence[str], store: Store, most_requests: int) -> None:
        self._bucket = bucket
        self._store = store
        self._most_requests = most_requests
        self._scheduler = Scheduler(prefixes)
        self._cursors: dict[int, Cursor] = {}
        self._listed: dict[int, int] = {}
        self._requests = 0
        self._stretches: list[Stretch] = []
        self._answers: dict[Future[Any], int | None] = {}  # request in flight -> the range whose page it is

    def take(self) -> list[Stretch]:
        """List until the requests are used up or there is nothing left; return stretches that tile the prefixes."""
        with ThreadPool(SAMPLE_STREAMS, "dataflux-sample") as pool:
            self._pool = pool
            try:
                self._carry_out(self._scheduler.handle(WorkerJoined(0, SAMPLE_STREAMS)))
                while self._answers:
                    for answer in wait(self._answers, return_when=FIRST_COMPLETED).done:
                        self._take(answer)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        rest = [(waiting, self._scheduler.pages_in(waiting)) for waiting in self._scheduler.rest]
        known = [pages for _, pages in rest if pages > 0]
        usual = sum(known) / len(known) if known else 1.0
        totals = self._scheduler.totals
        rows = totals.listed / totals.pages if totals.listed else PAGE_ROWS
        for waiting, pages in rest:
            divide = functools.partial(self._scheduler.points_in, waiting)
            self._stretches.append(Stretch(names=waiting.names, objects=(pages or usual) * rows, divide=divide))
        return self._stretches

    def _take(self, answer: Future[Any]) -> None:
        range_id = self._answers.pop(answer)
        result: Page | Probed = answer.result()
        self._requests += 1
        if self._requests == self._most_requests:
            # Before a page is accepted, so that its range ends with it like those whose pages are in flight.
            self._carry_out(self._scheduler.halt())
        if isinstance(result, Probed):
            self._carry_out(self._scheduler.handle(result))
        elif range_id is not None:
            self._page(range_id, result)

    def _page(self, range_id: int, page: Page) -> None:
        cursor = self._cursors[range_id]
        taken = cursor.accept(NameColumn(page.rows.column(0)), page.next_page_token)
        rows = page.rows.slice(taken.start, taken.stop - taken.start)
        event: PageListed = page_listed(range_id, rows, rows, more=cursor.more)
        self._listed[range_id] += event.listed
        self._carry_out(self._scheduler.handle(event))
        if not cursor.ended:
            self._ask(range_id)
            return
        start = self._scheduler.start_of(range_id)
        if start is not None and (cursor.end is None or start < cursor.end):
            met = tuple(name for name in self._scheduler.marks_of(range_id) if name > start)
            self._stretches.append(
                Stretch(names=NameRange(start, cursor.end), objects=self._listed[range_id], divide=lambda _: met)
            )
        self._carry_out(self._scheduler.handle(RangeEnded(range_id, cursor.end)))

    def _ask(self, range_id: int) -> None:
        request = self._cursors[range_id].request()
        self._answers[self._pool.submit(self._store.list_page, self._bucket, request)] = range_id

    def _carry_out(self, orders: Iterable[Order]) -> None:
        waiting = deque(orders)
        while waiting:
            match waiting.popleft().instruction:
                case ListRange(range_id, names, prefix):
                    self._cursors[range_id] = Cursor(names, prefix)
                    self._listed[range_id] = 0
                    self._ask(range_id)
                case Probe() as probe:
                    self._answers[self._pool.submit(answer_probe, probe, self._store, self._bucket)] = None
                case Shrink(range_id, steal_id, points):
                    point = self._cursors[range_id].shrink(points)
                    waiting.extend(self._scheduler.handle(ShrinkAnswered(range_id, steal_id, point)))
                case Halt():
                    for cursor in self._cursors.values():
                        cursor.halt()
