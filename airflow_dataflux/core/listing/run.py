"""One listing after its first page: the one-page decision, the jobs, the manifest (see `lister.py`)."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from airflow_dataflux.core.config import ListRequest
from airflow_dataflux.core.gcs.store import Store, StoreFactory, StoreOptions
from airflow_dataflux.core.listing.expectations import check_result, shown
from airflow_dataflux.core.listing.filters import OwnObjects, RowFilter
from airflow_dataflux.core.listing.first_page import FirstPage, OpenedListing
from airflow_dataflux.core.listing.ledger import Ledger
from airflow_dataflux.core.listing.messages import (
    Figures,
    FinishedRange,
    HandingOver,
    HandOver,
    ListingPlan,
    Outcome,
    ProcessFigures,
    Remainder,
    part_prefix,
)
from airflow_dataflux.core.listing.seeds import Seeds
from airflow_dataflux.core.listing.stats import described, stats_of
from airflow_dataflux.core.listing.stream import NameColumn, page_listed
from airflow_dataflux.core.listing.stream_count import FEWEST_STREAMS, MOST_STREAMS_OF_A_PROCESS, streams_for
from airflow_dataflux.core.manifest import Manifest, ManifestDraft, ManifestFiles, PartWriter, inline
from airflow_dataflux.core.manifest.index import Index
from airflow_dataflux.core.manifest.inlining import check_inline_bytes
from airflow_dataflux.core.manifest.publishing import DELETES_IN_FLIGHT
from airflow_dataflux.core.namerange import NameRange, after
from airflow_dataflux.core.report.formatting import plural, seconds, size
from airflow_dataflux.core.report.report_info import ReportInfo
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.progress import Progress, RunStatistics
from airflow_dataflux.core.runtime.tokens import TokenSource
from airflow_dataflux.core.runtime.usage import process_usage

if TYPE_CHECKING:
    from airflow_dataflux.core.listing.listing_record import ListingRecord
    from airflow_dataflux.core.runtime.launch import Engine
    from airflow_dataflux.core.runtime.progress import Observer

logger = logging.getLogger(__name__)

HAND_OVER = HandOver(after_pages=48, remaining_pages=200)
"""Up to about 200 pages, threads of this process are done before an engine would have earned its start: with pages of
65 ms, 100,000 objects took 1.0 s in threads and 1.5 s with an engine, 200,000 took 1.2 and 2.3 s. On busy processors
that holds for much larger listings, too (docs/decisions/0005)."""

LARGE_PAGE_ROWS = 5000
"""Rows that a large listing asks for in a page. 1,000 are documented as the most that come
(https://cloud.google.com/storage/docs/json_api/v1/objects/list), and more as what has come; where they do, a listing
of 1,000,000 objects takes a quarter of the requests in the same time (docs/decisions/0005). In a small one, streams
side by side are faster with small pages."""


class _SoFar(msgspec.Struct):
    """What is done, and what is left, between two jobs."""

    finished: list[FinishedRange]
    figures: Figures
    remainder: Remainder


def _record(began: float) -> ListingRecord:
    from airflow_dataflux.core.listing.listing_record import ListingRecord

    return ListingRecord(began)


class ListingRun:
    """What is left to do of a listing whose first page is there."""

    def __init__(
        self,
        opened: OpenedListing,
        request: ListRequest,
        store_config: StoreFactory,
        tokens: TokenSource,
        cancel: CancelToken,
        observer: Observer | None,
        isolated: bool,
        parts_uri: str,
    ) -> None:
        self._request = request
        self._store_config = store_config
        self._tokens = tokens
        self._cancel = cancel
        self._observe = observer or (lambda _event: None)
        self._isolated = isolated
        self._parts_uri = parts_uri
        self._run_id = secrets.token_hex(4)
        self._opened = opened
        self._roots = opened.roots
        self._ledger = Ledger(self._roots)
        self._processes = 0
        self._engine: Engine | None = None  # started ahead
        self._streams = 1  # at most, so far
        self._expected: int | None = None
        self._record = _record(opened.started_at) if request.report and request.manifest_uri else None

    def run(self) -> Manifest:
        """List what is left and return the manifest."""
        request = self._request
        # Not closed when all is well: the manifest that is returned reads its parts through it, as long as it lives.
        files_store = self._store_config.open(
            self._tokens, StoreOptions(connections=DELETES_IN_FLIGHT, cancel=self._cancel)
        )
        with contextlib.ExitStack() as if_it_fails:
            if_it_fails.callback(files_store.close)
            # Its cancel token is its own, because parts must be deleted also and above all after a cancel.
            cleanup_store = self._store_config.open(self._tokens, StoreOptions(connections=1, beside=files_store))
            files = ManifestFiles(files_store)
            seeds = Seeds.of(request, files_store)
            self._expected = seeds.listed
            with ManifestDraft(
                files, self._parts_uri, self._run_id, cleanup=ManifestFiles(cleanup_store)
            ) as self._draft:
                manifest = self._list(files, files_store, seeds)
            notice = self._report(files, manifest)
            if_it_fails.pop_all()
        stats = manifest.stats
        logger.info(
            "Listed %s: %s, %s in %s with %s.",
            shown(request), plural(len(manifest), "object"), size(manifest.total_bytes), seconds(stats["wall_s"]),
            plural(stats["requests"], "request"),
        )  # fmt: skip
        if request.manifest_uri is not None:
            logger.info("The manifest is at %s, fingerprint %s.", manifest.uri, manifest.fingerprint)
        if notice is not None:
            logger.info("The report of the listing is at %s.", notice.uri)
            self._observe(notice)
        self._observe(RunStatistics(kind="listing", figures=stats))
        return manifest

    def _list(self, files: ManifestFiles, store: Store, seeds: Seeds) -> Manifest:
        first_page = self._opened.first
        if first_page is None:
            nothing = _SoFar([], Figures(), Remainder())
            return self._inline([], nothing) if self._request.manifest_uri is None else self._publish(nothing)
        rows, so_far = self._take(first_page, store)
        if not so_far.remainder.waiting and self._request.manifest_uri is None:
            return self._inline([rows], so_far)
        if so_far.remainder.waiting and self._request.manifest_uri is not None:
            files.check_writable(self._parts_uri)
        writer = PartWriter(files, self._parts_uri, part_prefix(self._run_id, 0))
        writer.append(rows)
        first = self._roots[0]
        waiting = so_far.remainder.waiting
        end = waiting[0].start if waiting and waiting[0].start in first else first.end
        so_far.finished.append(FinishedRange(NameRange(first.start, end), tuple(writer.finish())))
        if so_far.remainder.waiting:
            so_far.remainder.waiting = seeds.divide(so_far.remainder.waiting)
            self._list_rest(so_far, seeds)
        for done in so_far.finished:
            self._ledger.finish(done.names)
        self._ledger.prove()
        return self._publish(so_far)

    def _take(self, first_page: FirstPage, store: Store) -> tuple[pa.RecordBatch, _SoFar]:
        """Return the rows of the first page that are asked for; what it leaves to do is waiting."""
        root, cursor, page = self._roots[0], first_page.cursor, first_page.page
        taken = cursor.accept(NameColumn(page.rows.column(0)), page.next_page_token)
        rows = page.rows.slice(taken.start, taken.stop - taken.start)
        row_filter = RowFilter(self._request.filters, OwnObjects(self._request, store))
        kept = row_filter.apply(rows)
        event = page_listed(0, rows, kept, more=cursor.more)
        if self._record:
            self._record.first_page(event.listed, kept, low=root.start, high=cursor.end if cursor.ended else event.last)
        rest = () if cursor.ended else (NameRange(root.start if event.last is None else after(event.last), root.end),)
        figures = Figures(
            requests=1,
            retries=first_page.counts.retries,
            throttled=first_page.counts.throttled,
            listed=event.listed,
            inline_bytes=event.kept_bytes,
            dropped=row_filter.dropped,
        )
        if self._request.manifest_uri is None:
            check_inline_bytes(event.kept_bytes)
        examples = () if event.first is None or event.last is None else (event.first, *event.examples, event.last)
        remainder = Remainder(waiting=(*rest, *self._roots[1:]), examples=examples)
        return kept, _SoFar([], figures, remainder)

    def _list_rest(self, so_far: _SoFar, seeds: Seeds) -> None:
        """List what is waiting: here, and if that is much, in an engine."""
        if not self._isolated:
            self._run(so_far, workers=self._request.workers, streams=self._streams_now(so_far), isolated=False)
            return
        try:
            if seeds.pages_in(self._roots) <= HAND_OVER.remaining_pages:
                most = min(MOST_STREAMS_OF_A_PROCESS, self._request.streams or MOST_STREAMS_OF_A_PROCESS)
                self._run(
                    so_far,
                    workers=1,
                    streams=min(FEWEST_STREAMS, most),
                    most_streams=most,
                    isolated=False,
                    hand_over=HAND_OVER,
                )
            if so_far.remainder.waiting:
                self._run(so_far, workers=self._request.workers, streams=self._streams_now(so_far), isolated=True)
        finally:
            if self._engine is not None:
                self._engine.end()

    def _streams_now(self, so_far: _SoFar) -> int:
        """Return how many streams list what is left."""
        learned = so_far.remainder
        return self._request.streams or streams_for(
            learned.page_s,
            processors=self._request.workers,
            page_cpu_s=learned.page_cpu_s,
            requests_per_s=learned.found_reads_per_s,
        )

    def _run(
        self,
        so_far: _SoFar,
        *,
        workers: int,
        streams: int,
        isolated: bool,
        most_streams: int | None = None,
        hand_over: HandOver | None = None,
    ) -> None:
        # Not above: a listing of one page, of which there are many, is over before these would be imported.
        from airflow_dataflux.core.listing.job import run_listing
        from airflow_dataflux.core.listing.scheduler import FREE_WASTE, FREE_WASTE_IN_ENGINE
        from airflow_dataflux.core.listing.worker import listing_worker
        from airflow_dataflux.core.runtime.jobs import run_job
        from airflow_dataflux.core.runtime.workers import Job

        workers = min(workers, streams)
        plan = ListingPlan(
            request=replace(self._request, workers=workers),
            store_config=self._store_config,
            prefixes=self._opened.prefixes,
            remainder=so_far.remainder,
            parts_uri=self._parts_uri,
            run_id=self._run_id,
            streams=streams,
            most_streams=most_streams or streams,
            page_rows=LARGE_PAGE_ROWS if isolated else None,
            free_waste=FREE_WASTE_IN_ENGINE if isolated else FREE_WASTE,
            before=so_far.figures,
            before_s=time.monotonic() - self._opened.started_at,
            expected=self._expected,
            hand_over=hand_over,
            recorded_from=self._opened.started_at if self._record else None,
        )
        outcome: Outcome = run_job(
            Job(run=run_listing, worker_body=listing_worker, workers=workers, payload=plan),
            tokens=self._tokens,
            cancel=self._cancel,
            on_event=self._pass_on,
            isolated=isolated,
            engine=self._engine,
        )
        # After a cancel a job may still have come to its end; what the caller asked for is that it stops.
        self._cancel.raise_if_cancelled()
        self._streams = max(self._streams, outcome.streams)
        if isolated:
            self._processes = workers
        else:
            # What threads of this process used is counted with the process itself.
            outcome.figures.processes.clear()
        so_far.finished.extend(outcome.finished)
        so_far.remainder = outcome.remainder
        so_far.figures.add(outcome.figures)
        if self._record and outcome.record:
            outcome.record.isolated = isolated
            self._record.jobs.append(outcome.record)

    def _pass_on(self, event: object) -> None:
        if isinstance(event, HandingOver):
            from airflow_dataflux.core.runtime.launch import Engine

            self._engine = Engine()  # it starts while the last pages of the threads are on their way
        elif isinstance(event, Progress):
            logger.debug("%s", event.text)
            self._observe(event)

    def _publish(self, so_far: _SoFar) -> Manifest:
        parts = [part for done in so_far.finished for part in done.parts]
        manifest = self._draft.publish(
            bucket=self._request.bucket,
            prefixes=self._opened.prefixes,
            parts=parts,
            listed_at=self._opened.listed_at,
            stats=self._stats(so_far.figures),
            request=described(self._request),
            name_range=self._request.name_range,
            before_writing=None if self._request.manifest_uri is None else self._check,
        )
        if self._request.manifest_uri is None:
            return self._inline(manifest.batches(), so_far)
        if so_far.figures.lost_workers:
            self._draft.delete_parts()
        return manifest

    def _report(self, files: ManifestFiles, manifest: Manifest) -> ReportInfo | None:
        if self._record is None:
            return None
        from airflow_dataflux.core.listing.listing_report import write_report  # most of it is of use to nobody else

        return write_report(files, manifest, self._record)

    def _check(self, index: Index) -> None:
        check_result(self._request, index)

    def _inline(self, batches: Any, so_far: _SoFar) -> Manifest:
        manifest = inline(
            self._request.bucket,
            self._opened.prefixes,
            batches,
            listed_at=self._opened.listed_at,
            stats=self._stats(so_far.figures),
            request=described(self._request),
            name_range=self._request.name_range,
        )
        self._check(manifest.index)
        return manifest

    def _stats(self, figures: Figures) -> dict[str, Any]:
        used = process_usage()
        return stats_of(
            figures,
            ProcessFigures(
                role="task", cpu_s=used.cpu_s - self._opened.used_before.cpu_s, peak_rss_bytes=used.peak_rss_bytes
            ),
            wall_s=time.monotonic() - self._opened.started_at,
            workers=self._processes,
            streams=self._streams,
        )
