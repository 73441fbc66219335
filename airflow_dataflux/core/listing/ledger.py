"""The proof that a listing is complete: finished name ranges tile what was asked for.

Guarantees: a range that overlaps a finished one, or lies outside the request, is refused when it is entered; `prove`
passes only when the finished ranges cover every root without a gap. The ledger knows nothing of streams or steals, so
a mistake in the scheduler cannot make a partial listing look whole.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from airflow_dataflux.core.errors import IncompleteListingError
from airflow_dataflux.core.namerange import NameRange, ends_at_or_before


class Ledger:
    """Finished ranges of one listing.

    Args:
        roots: the sorted, disjoint ranges that the request asks for.
    """

    def __init__(self, roots: Iterable[NameRange]) -> None:
        self._roots = tuple(roots)
        for before, root in zip(self._roots, self._roots[1:], strict=False):
            if not ends_at_or_before(before.end, root.start):
                raise ValueError(f"the roots {before} and {root} overlap or are not sorted")
        self._finished: list[NameRange] = []
        self._starts: list[str] = []

    @property
    def finished(self) -> tuple[NameRange, ...]:
        """The finished ranges, sorted."""
        return tuple(self._finished)

    def finish(self, names: NameRange) -> None:
        """Enter a range that was listed from its start to its end. An empty range is nothing to enter.

        Raises IncompleteListingError if it overlaps a finished range or is not inside one root.
        """
        if names.is_empty:
            return
        if not any(root.covers(names) for root in self._roots):
            raise IncompleteListingError(
                f"The range {_text(names)} was listed, but nobody asked for it. This is a defect: please report it.",
                names=names,
            )
        at = bisect.bisect_left(self._starts, names.start)
        before = self._finished[at - 1] if at else None
        following = self._finished[at] if at < len(self._finished) else None
        overlapped = (
            before
            if before is not None and not ends_at_or_before(before.end, names.start)
            else following
            if following is not None and not ends_at_or_before(names.end, following.start)
            else None
        )
        if overlapped is not None:
            raise IncompleteListingError(
                f"The range {_text(names)} was listed although {_text(overlapped)} was listed already. "
                "This is a defect: please report it.",
                names=names,
                finished=overlapped,
            )
        self._finished.insert(at, names)
        self._starts.insert(at, names.start)

    def gaps(self) -> list[NameRange]:
        """Return what is not listed yet, sorted."""
        missing: list[NameRange] = []
        for root in self._roots:
            position: str | None = root.start
            for names in self._finished:
                if position is None or not root.covers(names):
                    continue
                if names.start > position:
                    missing.append(NameRange(position, names.start))
                position = names.end
            if position is not None and (root.end is None or position < root.end):
                missing.append(NameRange(position, root.end))
        return missing

    def prove(self) -> None:
        """Raise IncompleteListingError unless the finished ranges cover the request without a gap."""
        missing = self.gaps()
        if missing:
            shown = ", ".join(_text(names) for names in missing[:3])
            raise IncompleteListingError(
                f"{len(missing)} name range(s) of the request were never listed to their end: {shown}. "
                "No manifest was published; run the listing again.",
                missing=missing[:100],
            )


def _text(names: NameRange) -> str:
    return f"[{names.start!r}, {'end' if names.end is None else repr(names.end)})"
