"""A worker of a listing: many streams, each a thread, over one link to the scheduler's owner.

The thread of the worker's body only receives: it answers a `Shrink` at once, whatever the streams are doing. Stream
threads are started as they are needed, take one instruction at a time, and spend their time waiting for answers
(urllib3 releases the interpreter's lock there).

Guarantees: at `Finish` all threads have ended and the last message is the final `WorkerFigures`; when the owner is gone
or cancels, streams end after the request in flight and the worker ends. The first failure is reported once.
"""

from __future__ import annotations

import queue
import threading
import time

from airflow_dataflux.core.errors import CancelledError
from airflow_dataflux.core.gcs.store import Store, StoreOptions
from airflow_dataflux.core.listing.cursor import Cursor
from airflow_dataflux.core.listing.filters import OwnObjects, RowFilter
from airflow_dataflux.core.listing.messages import (
    Finish,
    Halt,
    ListRange,
    Probe,
    Setup,
    Shrink,
    ShrinkAnswered,
    StreamFailed,
    WorkerFigures,
    part_prefix,
)
from airflow_dataflux.core.listing.stream import answer_probe, list_range
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.parts import PartWriter
from airflow_dataflux.core.report.object_statistics import ObjectStatistics
from airflow_dataflux.core.runtime.threads import ThreadPool, start_threads
from airflow_dataflux.core.runtime.usage import process_usage
from airflow_dataflux.core.runtime.workers import WorkerLink

_FIGURES_EVERY_S = 1.0
"""How often a worker tells what it has used, for the progress line; counted by its streams as they finish pages."""


def listing_worker(link: WorkerLink) -> None:
    """Live as a worker of a listing: first a `Setup`, then instructions, until `Finish` or the end of the link."""
    setup = link.receive()
    if not isinstance(setup, Setup):
        raise TypeError(f"a worker's first message is its Setup, got {type(setup).__name__}")
    store = setup.store_config.open(
        link.tokens,
        StoreOptions(
            connections=setup.streams,
            cancel=link.cancel,
            budget_share=1 / setup.request.workers,
            found_reads_per_s=setup.found_reads_per_s,
        ),
    )
    streams = _Streams(link, setup, store)
    try:
        streams.serve()
    except EOFError:
        link.cancel.cancel("the owner of this listing is gone")
    finally:
        streams.join()
        store.close()


class _Streams:
    def __init__(self, link: WorkerLink, setup: Setup, store: Store) -> None:
        self._link = link
        self._setup = setup
        self._store = store
        self._own = OwnObjects(setup.request, store)
        self._files_store = (
            setup.store_config.open(link.tokens, StoreOptions(connections=4, cancel=link.cancel))
            if setup.parts_uri.startswith("gs://")
            else None
        )
        self._files = ManifestFiles(self._files_store)
        self._encoder = ThreadPool(1, "dataflux-encoder")
        self._work: queue.SimpleQueue[ListRange | Probe | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._given = 0
        self._taken_back = 0
        self._cursors: dict[int, Cursor] = {}
        self._told_at = time.monotonic()
        self._failed = threading.Event()
        self._base = process_usage()

    def serve(self) -> None:
        """Receive instructions until there are no more."""
        while True:
            match self._link.receive():
                case ListRange() as order:
                    self._cursors[order.range_id] = Cursor(
                        order.names, order.prefix, self._setup.request.filters.match_glob, self._setup.page_rows
                    )
                    self._give(order)
                case Probe() as order:
                    self._give(order)
                case Shrink() as order:
                    self._shrink(order)
                case Halt():
                    for cursor in list(self._cursors.values()):
                        with cursor.lock:
                            cursor.halt()
                case Finish():
                    self.join()
                    self._link.send(self._figures(final=True))
                    return

    def join(self) -> None:
        """Let the threads end after what they are doing, and wait for them."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._encoder.shutdown()
        if self._files_store is not None:
            self._files_store.close()

    def _give(self, order: ListRange | Probe) -> None:
        self._given += 1
        # `_taken_back` may lag: then there is one thread more than needed, never one less.
        if len(self._threads) < min(self._setup.streams, self._given - self._taken_back):
            thread = threading.Thread(target=self._live, name=f"dataflux-stream-{len(self._threads)}", daemon=True)
            start_threads([thread])
            self._threads.append(thread)
        self._work.put(order)

    def _shrink(self, order: Shrink) -> None:
        cursor = self._cursors.get(order.range_id)
        if cursor is None:
            self._link.send(ShrinkAnswered(order.range_id, order.steal_id, None))
            return
        # Under the lock, so that no `RangeEnded` of this range can overtake an answer that accepts.
        with cursor.lock:
            self._link.send(ShrinkAnswered(order.range_id, order.steal_id, cursor.shrink(order.points)))

    def _live(self) -> None:
        while (order := self._work.get()) is not None:
            if self._failed.is_set():
                continue
            try:
                if isinstance(order, Probe):
                    self._link.send(answer_probe(order, self._store, self._setup.request.bucket))
                else:
                    self._list(order)
            except CancelledError:
                self._failed.set()  # the owner knows, it cancelled
            except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
                if not self._failed.is_set():
                    self._failed.set()
                    range_id = order.range_id if isinstance(order, ListRange) else None
                    self._link.send(StreamFailed(range_id, error))
            finally:
                self._taken_back += 1

    def _list(self, order: ListRange) -> None:
        setup = self._setup
        try:
            list_range(
                order.range_id,
                self._cursors[order.range_id],
                self._store,
                setup.request.bucket,
                row_filter=RowFilter(setup.request.filters, self._own),
                sink=PartWriter(
                    self._files, setup.parts_uri, part_prefix(setup.run_id, order.range_id), encoder=self._encoder
                ),
                send=self._tell,
                object_statistics=ObjectStatistics() if setup.request.report else None,
            )
        finally:
            del self._cursors[order.range_id]

    def _tell(self, message: object) -> None:
        self._link.send(message)
        # Two streams may both find it due: the owner then hears it twice, which is harmless.
        if time.monotonic() - self._told_at >= _FIGURES_EVERY_S:
            self._told_at = time.monotonic()
            self._link.send(self._figures(final=False))

    def _figures(self, *, final: bool) -> WorkerFigures:
        counts = self._store.counts()
        if self._files_store is not None:
            counts += self._files_store.counts()
        used = process_usage()
        return WorkerFigures(
            counts=counts,
            found_reads_per_s=self._store.pace("read").found_per_s,
            cpu_s=used.cpu_s - self._base.cpu_s,
            peak_rss_bytes=used.peak_rss_bytes,
            final=final,
        )
