"""What the scheduler expects of ranges: while they wait, while they are listed, and when a listing is handed over."""

from __future__ import annotations

from airflow_dataflux.core.listing.messages import (
    ListRange,
    Order,
    PageListed,
    RangeEnded,
    Shrink,
    ShrinkAnswered,
    WorkerJoined,
)
from airflow_dataflux.core.listing.scheduler import Scheduler
from airflow_dataflux.core.listing.shares import shares
from airflow_dataflux.core.namerange import after


def name(number: int) -> str:
    return f"data/{number:06d}"


def page(range_id: int, number: int, *, more: bool = True) -> PageListed:
    """The page of 1,000 names that begins with `number`."""
    examples = tuple(name(number + offset) for offset in (250, 500, 750))
    return PageListed(range_id, 1000, 1000, 0, name(number), name(number + 999), examples, more)


def only(orders: list[Order], kind: type) -> list:
    return [order.instruction for order in orders if isinstance(order.instruction, kind)]


def test_pieces_are_expected_to_have_what_their_range_had() -> None:
    scheduler = Scheduler(["data/0"])
    [first] = only(scheduler.handle(WorkerJoined(0, 1)), ListRange)
    for number in range(0, 8000, 1000):
        scheduler.handle(page(first.range_id, number))
    before = scheduler.remaining()
    assert (before.unknown_ranges, 80 < before.pages < 110) == (0, True)
    [shrink] = only(scheduler.handle(WorkerJoined(1, 4)), Shrink)
    started = only(scheduler.handle(ShrinkAnswered(shrink.range_id, shrink.steal_id, shrink.points[0])), ListRange)
    assert len(started) == len(shrink.points) > 1
    after_it = scheduler.remaining()
    assert after_it.unknown_ranges == 0
    assert 0.7 * before.pages < after_it.pages < 1.3 * before.pages
    assert after_it.margin_pages > before.margin_pages


def test_what_is_left_at_a_hand_over_is_divided() -> None:
    scheduler = Scheduler(["data/0"])
    [only_range] = only(scheduler.handle(WorkerJoined(0, 1)), ListRange)
    for number in range(0, 8000, 1000):
        scheduler.handle(page(only_range.range_id, number))
    scheduler.halt()
    scheduler.handle(page(only_range.range_id, 8000, more=False))
    scheduler.handle(RangeEnded(only_range.range_id, after(name(8999))))
    assert scheduler.done
    left = scheduler.leftover(8)
    assert len(left) == 8
    assert [names.end for names in left[:-1]] == [names.start for names in left[1:]]
    assert left[0].start == after(name(8999))
    scheduler.check()


def test_a_range_that_may_not_be_divided_has_one_piece_however_many_streams_are_idle() -> None:
    assert shares({1: 1000.0, 2: 100.0}, {1: 1, 2: 16}, 4) == {1: 1, 2: 5}
