"""A group whose composite is awaited, and the idle threads that meanwhile read its objects directly.

A compose takes a fifth of a second, or a whole one. Where there are fewer groups than threads, nothing would be read
for that long. Objects are taken from the end of the group, so of the composite only its beginning is left to read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Self

import msgspec

FIRST_HELPERS = 4
"""Of each group. They double in the time that a read takes: there are 64 after four reads."""


class Helpers(msgspec.Struct, frozen=True):
    """Where helping threads come from.

    Attributes:
        enqueue: has a job done by a thread that is idle, behind all other work.
        wanted: whether more objects are to be taken now.
    """

    enqueue: Callable[[Callable[[], None]], None]
    wanted: Callable[[], bool]


class HelpedGroup:
    """Objects of a group, numbered from 0. Helpers take the last ones, until its own thread takes the rest.

    Use it in a `with` block: after it, no helper is at work any more, and an error of one is raised. Each read brings
    one more helper, so where a bucket refuses reads, only a few wait for their turn. Thread-safe.
    """

    def __init__(self, count: int, read: Callable[[Iterator[int]], Iterable[int]], helpers: Helpers | None) -> None:
        """`read` reads, in a helping thread, the objects whose numbers it gets, and returns those that it cannot."""
        self._left = count
        self._rest: int | None = None
        self._handed_back: list[int] = []
        self._read = read
        self._helpers = helpers
        self._changed = threading.Condition()
        self._at_work = 0
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        if self._helpers is not None:
            for _ in range(FIRST_HELPERS):
                self._helpers.enqueue(partial(self._help, self._helpers))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        self.take_rest()
        self.handed_back()
        if self._error is not None and kind is None:
            raise self._error

    def take_rest(self) -> int:
        """Return how many objects nobody took: the first of the group. After the first call, helpers take none."""
        with self._changed:
            if self._rest is None:
                self._rest, self._left = self._left, 0
            return self._rest

    def handed_back(self) -> list[int]:
        """Return, after the rest was taken and when no helper is at work any more, what they could not read."""
        with self._changed:
            self._changed.wait_for(lambda: not self._at_work)
            return sorted(self._handed_back)

    @property
    def left(self) -> int:
        """How many objects nobody has taken."""
        return self._left

    def _take(self) -> int | None:
        with self._changed:
            if not self._left:
                return None
            self._left -= 1
            return self._left

    def _help(self, helpers: Helpers) -> None:
        with self._changed:
            self._at_work += 1
        error: BaseException | None = None
        unread: Iterable[int] = ()
        try:
            unread = self._read(self._numbers(helpers))
        except BaseException as raised:  # noqa: BLE001 - raised in the group's own thread
            error = raised
        with self._changed:
            if error is not None:
                self._left = 0
                self._error = self._error or error
            self._handed_back += unread
            self._at_work -= 1
            self._changed.notify_all()

    def _numbers(self, helpers: Helpers) -> Iterator[int]:
        while helpers.wanted() and (number := self._take()) is not None:
            yield number
            helpers.enqueue(partial(self._help, helpers))
