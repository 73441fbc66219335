"""One stream at work: a range listed page by page into a part writer.

Guarantees: rows reach the writer once and in order; `RangeEnded` is sent after its parts are durable; if anything
fails, the error goes to the caller, and what was written is deleted by whoever drafts the manifest. A shrink takes
effect at any moment, also while a request is in flight (see `Cursor`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, overload

import pyarrow as pa

from airflow_dataflux.core.errors import StoreError
from airflow_dataflux.core.gcs.store import PageRequest, Store
from airflow_dataflux.core.listing.cursor import Cursor
from airflow_dataflux.core.listing.filters import RowFilter
from airflow_dataflux.core.listing.messages import PageListed, Probe, Probed, RangeEnded
from airflow_dataflux.core.manifest.parts import PartInfo
from airflow_dataflux.core.namerange import successor, wire_start
from airflow_dataflux.core.report.object_statistics import ObjectStatistics

REFUSED = frozenset({400, 403, 501})
"""What is answered where requests with a delimiter are not possible: a listing does without."""

_EXAMPLES = 3
"""Names sent along from inside each page: enough for the scheduler to learn which positions of a name vary."""

_INLINE_ROW_BYTES = 48
"""What a row takes in an inline manifest at the very least, its name aside: brackets, commas and its numbers."""


class RowSink(Protocol):
    """Where the rows of a range go: a `PartWriter`, or what a test puts in its place."""

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        ...

    def finish(self) -> list[PartInfo]:
        """Make all rows durable."""
        ...


class NameColumn(Sequence[str]):
    """The names of a page as a sequence of `str`, each converted only when it is looked at."""

    def __init__(self, names: pa.StringArray) -> None:
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return NameColumn(self._names[index])
        name: str = self._names[index].as_py()
        return name


def list_range(
    range_id: int,
    cursor: Cursor,
    store: Store,
    bucket: str,
    *,
    row_filter: RowFilter,
    sink: RowSink,
    send: Callable[[object], None],
    object_statistics: ObjectStatistics | None = None,
) -> None:
    """List the cursor's range to its end; report every page and the end, with statistics if there are any to fill."""
    while not cursor.ended:
        with cursor.lock:
            request = cursor.request()
        asked_at = time.monotonic()
        page = store.list_page(bucket, request)
        seconds = time.monotonic() - asked_at
        names = NameColumn(page.rows.column(0))
        with cursor.lock:
            taken = cursor.accept(names, page.next_page_token)
        rows = page.rows.slice(taken.start, taken.stop - taken.start)
        kept = row_filter.apply(rows)
        sink.append(kept)
        if object_statistics is not None:
            object_statistics.add(kept)
        send(page_listed(range_id, rows, kept, more=cursor.more, seconds=seconds))
    parts = tuple(sink.finish())
    counted = None if object_statistics is None else object_statistics.count()
    send(RangeEnded(range_id, cursor.end, parts, dict(row_filter.dropped), counted))


def answer_probe(probe: Probe, store: Store, bucket: str) -> Probed:
    """Find the first name of the probe's range with as small a page as can be had, or the directories of its prefix."""
    if probe.directories:
        return _directories(probe, store, bucket)
    names = probe.names
    token: str | None = None
    while True:
        # The name before the start is let through where a NUL was left off (`wire_start`).
        most = 1 if wire_start(names.start) == names.start else 2
        page = store.list_page(bucket, _probe_request(probe, page_token=token, max_results=most))
        for name in page.rows.column(0).to_pylist():
            if name in names:
                return Probed(probe.probe_id, (name,), more=True)
        token = page.next_page_token
        if token is None:
            return Probed(probe.probe_id, (), more=False)


def _directories(probe: Probe, store: Store, bucket: str) -> Probed:
    """Name the directories of one page. An answer that there is no such request says only that there may be more."""
    try:
        page = store.list_page(bucket, _probe_request(probe, delimiter="/"))
    except StoreError as error:
        if error.details.get("status") in REFUSED:
            return Probed(probe.probe_id, (), more=True)
        raise
    found = tuple(name for name in page.directories if name in probe.names)
    more = page.next_page_token is not None
    return Probed(probe.probe_id, found, more, only_directories=page.rows.num_rows == 0)


def _probe_request(
    probe: Probe, *, page_token: str | None = None, delimiter: str | None = None, max_results: int | None = None
) -> PageRequest:
    names = probe.names
    start = wire_start(names.start)
    return PageRequest(
        prefix=probe.prefix,
        start=start if start > probe.prefix else "",
        end=None if names.end == successor(probe.prefix) else names.end,
        page_token=page_token,
        delimiter=delimiter,
        max_results=max_results,
    )


def page_listed(
    range_id: int, rows: pa.RecordBatch, kept: pa.RecordBatch, *, more: bool, seconds: float = 0.0
) -> PageListed:
    """Describe one page of a range: `rows` belong to it, `kept` passed the filters."""
    count = rows.num_rows
    if count == 0:
        return PageListed(range_id, 0, 0, 0, None, None, more=more, seconds=seconds)
    names = NameColumn(rows.column(0))
    return PageListed(
        range_id,
        listed=count,
        kept=kept.num_rows,
        kept_bytes=_INLINE_ROW_BYTES * kept.num_rows + _text_bytes(kept.column(0)),
        first=names[0],
        last=names[-1],
        examples=tuple(names[count * index // (_EXAMPLES + 1)] for index in range(1, _EXAMPLES + 1)),
        more=more,
        seconds=seconds,
    )


def _text_bytes(names: pa.StringArray) -> int:
    if len(names) == 0:
        return 0
    offsets = memoryview(names.buffers()[1]).cast("i")
    return int(offsets[names.offset + len(names)] - offsets[names.offset])
