"""Threads that help with a group: each object is read by one thread, and errors arrive where they belong."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import pytest

from airflow_dataflux.core.staging.helped_group import FIRST_HELPERS, HelpedGroup, Helpers

Job = Callable[[], None]


class Queue:
    """Jobs that wait until a test does them."""

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self.wanted = True
        self.helpers = Helpers(self.jobs.append, lambda: self.wanted)

    def do_one(self) -> None:
        self.jobs.popleft()()


def reading(taken: list[int], most: int = 99) -> Callable[[Iterator[int]], Iterable[int]]:
    """Return what notes the numbers it is given, and stops wanting more after `most`."""

    def read(numbers: Iterator[int]) -> Iterable[int]:
        for number in numbers:
            taken.append(number)
            if len(taken) >= most:
                break
        return ()

    return read


def test_without_helpers_all_objects_are_left() -> None:
    with HelpedGroup(32, lambda _: pytest.fail("nobody reads"), None) as group:
        assert group.take_rest() == 32
        assert group.handed_back() == []
    assert group.take_rest() == 32


def test_helpers_take_objects_from_the_end_and_the_first_ones_are_left() -> None:
    queue, taken = Queue(), []  # type: Queue, list[int]
    with HelpedGroup(32, reading(taken, most=5), queue.helpers) as group:
        assert len(queue.jobs) == FIRST_HELPERS
        queue.do_one()
        assert taken == [31, 30, 29, 28, 27]
        assert group.take_rest() == 27
        while queue.jobs:
            queue.do_one()
    assert len(taken) == 5


def test_all_objects_may_be_read_by_helpers() -> None:
    queue, taken = Queue(), []  # type: Queue, list[int]
    with HelpedGroup(7, reading(taken), queue.helpers) as group:
        queue.do_one()
        assert group.take_rest() == 0
    assert sorted(taken) == list(range(7))


def test_helpers_become_more_when_a_read_succeeded_and_not_before() -> None:
    queue = Queue()
    before: list[int] = []

    def read(numbers: Iterator[int]) -> Iterable[int]:
        for _ in numbers:
            before.append(len(queue.jobs))
            if len(before) == 2:
                break
        return ()

    with HelpedGroup(32, read, queue.helpers):
        queue.do_one()
    assert before == [FIRST_HELPERS - 1, FIRST_HELPERS]


def test_nothing_is_taken_once_help_is_not_wanted() -> None:
    queue, taken = Queue(), []  # type: Queue, list[int]

    def read(numbers: Iterator[int]) -> Iterable[int]:
        for number in numbers:
            taken.append(number)
            queue.wanted = False
        return ()

    with HelpedGroup(32, read, queue.helpers) as group:
        queue.do_one()
        queue.do_one()
        assert taken == [31]
        assert group.take_rest() == 31


def failing(numbers: Iterator[int]) -> Iterable[int]:
    next(numbers)
    raise OSError("no space left")


def test_an_error_of_a_helper_ends_the_taking_and_is_raised_after_the_block() -> None:
    queue, rest = Queue(), -1

    def use() -> None:
        nonlocal rest
        with HelpedGroup(32, failing, queue.helpers) as group:
            queue.do_one()
            queue.do_one()
            rest = group.take_rest()

    with pytest.raises(OSError, match="no space left"):
        use()
    assert rest == 0


def test_an_error_of_the_own_thread_comes_first() -> None:
    queue = Queue()

    def use() -> None:
        with HelpedGroup(32, failing, queue.helpers):
            queue.do_one()
            raise ValueError("of the own thread")

    with pytest.raises(ValueError, match="of the own thread"):
        use()


def test_the_block_ends_when_the_last_helper_has_ended() -> None:
    queue, began, ended = Queue(), threading.Event(), threading.Event()

    def read(numbers: Iterator[int]) -> Iterable[int]:
        number = next(numbers)
        began.set()
        time.sleep(0.2)
        ended.set()
        return [number]

    with HelpedGroup(32, read, queue.helpers) as group:
        helper = threading.Thread(target=queue.do_one)
        helper.start()
        began.wait(10)
    assert ended.is_set()
    assert (group.take_rest(), group.handed_back()) == (31, [31])
    helper.join()


def test_however_threads_interleave_each_object_is_read_by_one_of_them() -> None:
    dice = random.Random(5)
    for _ in range(50):
        queue, taken = Queue(), []  # type: Queue, list[int]
        count, stop = dice.randrange(2, 33), threading.Event()

        def read(numbers: Iterator[int], taken: list[int] = taken) -> Iterable[int]:
            for number in numbers:
                if number % 5 == 4:
                    return [number]
                taken.append(number)
                time.sleep(0.0002)
            return ()

        def live(queue: Queue = queue, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                try:
                    queue.do_one()
                except IndexError:
                    time.sleep(0.0001)

        threads = [threading.Thread(target=live) for _ in range(6)]
        for thread in threads:
            thread.start()
        with HelpedGroup(count, read, queue.helpers) as group:
            time.sleep(dice.uniform(0, 0.003))
            rest = group.take_rest()
        assert sorted([*range(rest), *taken, *group.handed_back()]) == list(range(count))
        stop.set()
        for thread in threads:
            thread.join()
