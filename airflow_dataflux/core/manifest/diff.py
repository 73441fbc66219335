"""What changed between two manifests: a streaming merge of two sorted sequences.

Both sides are read once per pass, window by window; a window is a row group of either side, cut at the smaller of the
two last names, and compared in Arrow. Memory is two row groups, whatever the size. Manifests with the same fingerprint
are not read at all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec
import pyarrow as pa

from airflow_dataflux.core.arrow import ROW_SCHEMA, rows_of
from airflow_dataflux.core.model import Row

_NO_ROWS = pa.record_batch([pa.nulls(0, field.type) for field in ROW_SCHEMA], schema=ROW_SCHEMA)


class Comparable(Protocol):
    """What can be compared: a manifest or a shard of one."""

    @property
    def fingerprint(self) -> str:
        """Digest of the rows."""
        ...

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in `ROW_SCHEMA`, sorted by name."""
        ...


class DiffCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many objects were added, removed and changed."""

    added: int = 0
    removed: int = 0
    changed: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class DiffWindow(msgspec.Struct, frozen=True, kw_only=True):
    """The differences within one range of names, each in `ROW_SCHEMA` and sorted.

    Attributes:
        added: rows of names that only the later manifest has.
        removed: rows of names that only the earlier manifest has.
        changed_before, changed_after: rows of names that both have with different generations, pairwise.
    """

    added: pa.RecordBatch
    removed: pa.RecordBatch
    changed_before: pa.RecordBatch
    changed_after: pa.RecordBatch


class RowSequence:
    """Rows found by a pass over both manifests; each iteration is a new pass."""

    def __init__(self, windows: Callable[[], Iterator[DiffWindow]], of: Callable[[DiffWindow], pa.RecordBatch]) -> None:
        self._windows = windows
        self._of = of

    def __iter__(self) -> Iterator[Row]:
        for window in self._windows():
            yield from rows_of(self._of(window))


class ChangedRows:
    """Pairs (before, after) of rows with one name and two generations; each iteration is a new pass."""

    def __init__(self, windows: Callable[[], Iterator[DiffWindow]]) -> None:
        self._windows = windows

    def __iter__(self) -> Iterator[tuple[Row, Row]]:
        for window in self._windows():
            yield from zip(rows_of(window.changed_before), rows_of(window.changed_after), strict=True)


class ManifestDiff:
    """What was added, removed and changed on the way from `before` to `after`: `after.diff(before)`.

    Attributes:
        added: rows that only `after` has, sorted by name.
        removed: rows that only `before` has, sorted by name.
        changed: pairs (before, after) of rows with the same name and another generation, sorted by name.

    Every iteration and every call below reads both manifests again, and raises what reading them raises.
    """

    def __init__(self, *, before: Comparable, after: Comparable) -> None:
        self._before = before
        self._after = after
        self.added = RowSequence(self.windows, lambda window: window.added)
        self.removed = RowSequence(self.windows, lambda window: window.removed)
        self.changed = ChangedRows(self.windows)

    def counts(self) -> DiffCounts:
        """Count the differences, in one pass: about 0.7 CPU-seconds per million rows of each side."""
        added = removed = changed = 0
        for window in self.windows():
            added += window.added.num_rows
            removed += window.removed.num_rows
            changed += window.changed_after.num_rows
        return DiffCounts(added=added, removed=removed, changed=changed)

    def differs(self) -> bool:
        """Return whether there is any difference; stops at the first."""
        return self._before.fingerprint != self._after.fingerprint and any(True for _ in self.windows())

    def windows(self) -> Iterator[DiffWindow]:
        """Yield the differences range by range; ranges without any are left out."""
        if self._before.fingerprint == self._after.fingerprint:
            return
        before, after = SortedStream(self._before.batches()), SortedStream(self._after.batches())
        while ends := [cursor.last_name for cursor in (before, after) if cursor.last_name is not None]:
            bound = min(ends)
            window = _compare(before.take(bound), after.take(bound))
            if window is not None:
                yield window


class SortedStream:
    """A sorted stream of batches that is consumed up to a name at a time."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._current: pa.RecordBatch | None = next(batches, None)

    @property
    def last_name(self) -> str | None:
        """Last name of the current batch, None at the end of the stream."""
        return None if self._current is None else self._current.column("name")[-1].as_py()

    def take(self, bound: str) -> pa.RecordBatch:
        """Return the current batch's rows with names up to `bound`, inclusive, and move on."""
        if self._current is None:
            return _NO_ROWS
        names = self._current.column("name")
        # Python compares strings by code point, which is the order of their UTF-8 bytes.
        end = bisect_right(range(len(names)), bound, key=lambda row: names[row].as_py())
        taken, rest = self._current.slice(0, end), self._current.slice(end)
        self._current = rest if rest.num_rows else next(self._batches, None)
        return taken


def _compare(before: pa.RecordBatch, after: pa.RecordBatch) -> DiffWindow | None:
    import pyarrow.compute as pc

    positions = pc.index_in(before.column("name"), value_set=after.column("name"))
    removed = before.filter(pc.is_null(positions))
    kept_before, kept_after = before.filter(pc.is_valid(positions)), after.take(positions.drop_null())
    changed = pc.not_equal(kept_before.column("generation"), kept_after.column("generation"))
    # As many names in both as there are in `after`: nothing was added, and the second look-up is spared.
    added = (
        after.slice(0, 0)
        if kept_before.num_rows == after.num_rows
        else after.filter(pc.is_null(pc.index_in(after.column("name"), value_set=before.column("name"))))
    )
    if not (removed.num_rows or added.num_rows or pc.any(changed).as_py()):
        return None
    return DiffWindow(
        added=added,
        removed=removed,
        changed_before=kept_before.filter(changed),
        changed_after=kept_after.filter(changed),
    )
