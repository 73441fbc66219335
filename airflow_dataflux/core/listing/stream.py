"""One stream at work: a range listed page by page into a part writer.

Guarantees: rows reach the writer once and in order; `RangeEnded` is sent after its parts are durable; if anything
fails, what this range wrote is deleted and the error goes to the caller. A shrink takes effect at any moment, also
while a request is in flight (see `Cursor`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, overload

import pyarrow as pa

from airflow_dataflux.core.gcs.store import PageRequest, Store
from airflow_dataflux.core.listing.cursor import Cursor
from airflow_dataflux.core.listing.filters import RowFilter
from airflow_dataflux.core.listing.messages import PageListed, Probe, Probed, RangeEnded
from airflow_dataflux.core.manifest.parts import PartInfo
from airflow_dataflux.core.namerange import successor, wire_start
from airflow_dataflux.core.report.census import Census

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

    def abandon(self) -> None:
        """Delete what was written."""
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
    census: Census | None = None,
) -> None:
    """List the cursor's range to its end; report every page and the end, with a census if there is one to fill."""
    try:
        while not cursor.ended:
            with cursor.lock:
                request = cursor.request()
            page = store.list_page(bucket, request)
            names = NameColumn(page.rows.column(0))
            with cursor.lock:
                taken = cursor.accept(names, page.next_page_token)
            rows = page.rows.slice(taken.start, taken.stop - taken.start)
            kept = row_filter.apply(rows)
            sink.append(kept)
            if census is not None:
                census.add(kept)
            send(page_listed(range_id, rows, kept, more=not cursor.ended))
        parts = tuple(sink.finish())
    except BaseException:
        sink.abandon()
        raise
    counted = None if census is None else census.count()
    send(RangeEnded(range_id, cursor.end, parts, dict(row_filter.dropped), counted))


def answer_probe(probe: Probe, store: Store, bucket: str) -> Probed:
    """Find the first name of the probe's range with as small a page as can be had."""
    names = probe.names
    start = wire_start(names.start)
    token: str | None = None
    while True:
        request = PageRequest(
            prefix=probe.prefix,
            start=start if start > probe.prefix else "",
            end=None if names.end == successor(probe.prefix) else names.end,
            page_token=token,
            max_results=1 if start == names.start else 2,
        )
        page = store.list_page(bucket, request)
        for name in page.rows.column(0).to_pylist():
            if name in names:
                return Probed(probe.probe_id, name)
        token = page.next_page_token
        if token is None:
            return Probed(probe.probe_id, None)


def page_listed(range_id: int, rows: pa.RecordBatch, kept: pa.RecordBatch, *, more: bool) -> PageListed:
    """Describe one page of a range: `rows` belong to it, `kept` passed the filters."""
    count = rows.num_rows
    if count == 0:
        return PageListed(range_id, 0, 0, 0, None, None, more=more)
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
    )


def _text_bytes(names: pa.StringArray) -> int:
    if len(names) == 0:
        return 0
    offsets = memoryview(names.buffers()[1]).cast("i")
    return int(offsets[names.offset + len(names)] - offsets[names.offset])
