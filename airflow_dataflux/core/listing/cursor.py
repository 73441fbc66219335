"""Where the listing of one range stands: what to ask for next, and which rows of an answer belong to the range. Pure.

Guarantees: every name of the range that the server answers with is accepted once, in order; none before the start, at
or after the end, or again. The end only ever moves towards the start, and never to or before a name that was accepted.
Assumption: a page is sorted, and all pages of an unchanged request with its tokens continue one another.

Not locked: the stream and the thread that shrinks hold `lock` around calls, and around the message that tells of one.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Sequence

from airflow_dataflux.core.gcs.store import PageRequest
from airflow_dataflux.core.namerange import NameRange, after, successor, wire_start


class Cursor:
    """The cursor of one range.

    Args:
        names: the range.
        prefix: all its names begin with it.
        match_glob: passed on to the server.
        page_rows: rows to ask for in a page, of which the server may send fewer; None leaves it to the server.
    """

    def __init__(
        self, names: NameRange, prefix: str, match_glob: str | None = None, page_rows: int | None = None
    ) -> None:
        self.lock = threading.Lock()
        self._start = names.start
        self._end = names.end
        self._prefix = prefix
        self._prefix_end = successor(prefix)
        self._match_glob = match_glob
        self._page_rows = page_rows
        self._position: str | None = None
        self._token: str | None = None
        self._sent_start = names.start
        self._sent_end = names.end
        self._moved = False  # the last page brought a name
        self._ended = False
        self._halted = False
        self._stopped = False  # by `halt`, before its range was listed

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to ask for."""
        return self._ended

    @property
    def more(self) -> bool:
        """Whether there are more names, be they for this cursor or behind the end that `halt` gave it."""
        return not self._ended or self._stopped

    @property
    def end(self) -> str | None:
        """The range's exclusive end as it is now; final once `ended`."""
        return self._end

    def request(self) -> PageRequest:
        """Return the next request: the previous one with its token, or a new one from where we are.

        A shrunk range begins a new request, which spares the server the rows beyond its end. Not so after a page
        without names: the position did not move, and a sparse stretch would be scanned again from its beginning.
        """
        if self._sent_end != self._end and (self._moved or self._token is None):
            self._token = None
            self._sent_start = self._start if self._position is None else self._position
            self._sent_end = self._end
        start = wire_start(self._sent_start)
        return PageRequest(
            prefix=self._prefix,
            start=start if start > self._prefix else "",
            end=None if self._sent_end == self._prefix_end else self._sent_end,
            page_token=self._token,
            match_glob=self._match_glob,
            max_results=self._page_rows,
        )

    def accept(self, names: Sequence[str], next_page_token: str | None) -> slice:
        """Take the answer to the last request; return which of its rows belong to the range and are new."""
        count = len(names)
        rows = range(count)
        low = 0
        # A request that starts at the last name, or where a NUL was left off, is answered with that name first.
        if self._position is not None:
            low = (
                bisect.bisect_right(rows, self._position, key=names.__getitem__)
                if count and names[0] <= self._position
                else 0
            )
        elif count and names[0] < self._start:
            low = bisect.bisect_left(rows, self._start, key=names.__getitem__)
        high = count
        if self._end is not None and count and names[-1] >= self._end:
            high = bisect.bisect_left(rows, self._end, lo=low, key=names.__getitem__)
        self._moved = high > low
        if self._moved:
            self._position = names[high - 1]
        self._token = next_page_token
        if next_page_token is None or high < count or (self._moved and self._end == after(names[high - 1])):
            self._ended = True
        elif self._halted:
            self._end = self._start if self._position is None else after(self._position)
            self._ended = self._stopped = True
        return slice(low, high)

    def shrink(self, points: Sequence[str]) -> str | None:
        """End the range at the first of the increasing `points` that is still ahead; None if there is none."""
        if self._ended or self._halted:
            return None
        low = self._start if self._position is None else self._position
        for point in points:
            if point > low and (self._end is None or point < self._end):
                self._end = point
                return point
        return None

    def halt(self) -> None:
        """End the range after the page that is in flight."""
        self._halted = True
