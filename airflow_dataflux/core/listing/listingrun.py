"""One listing after its first page: the one-page decision, the jobs, the manifest (see `lister.py`)."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_dataflux.core.config import ListRequest, StoreConfig
from airflow_dataflux.core.gcs.client import open_store
from airflow_dataflux.core.listing.account import described, stats_of
from airflow_dataflux.core.listing.filters import RowFilter
from airflow_dataflux.core.listing.ledger import Ledger
from airflow_dataflux.core.listing.opening import FirstPage, Opening, shown
from airflow_dataflux.core.listing.plan import (
    Figures,
    FinishedRange,
    HandOver,
    ListingPlan,
    Outcome,
    ProcessFigures,
    part_prefix,
)
from airflow_dataflux.core.listing.seeding import Seeds
from airflow_dataflux.core.listing.stream import NameColumn, page_listed
from airflow_dataflux.core.listing.unneeded import DELETES_IN_FLIGHT, delete_unneeded
from airflow_dataflux.core.manifest import Manifest, ManifestFiles, PartWriter, inline, publish
from airflow_dataflux.core.manifest.inlining import check_inline_bytes
from airflow_dataflux.core.namerange import NameRange, after
from airflow_dataflux.core.report.notice import OnReport, ReportNotice
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.progress import Progress
from airflow_dataflux.core.runtime.tokens import TokenSource
from airflow_dataflux.core.runtime.usage import process_usage

if TYPE_CHECKING:
    from airflow_dataflux.core.listing.recording import ListingRecord

logger = logging.getLogger(__name__)

HAND_OVER = HandOver(after_pages=24, remaining_pages=200, unknown_after_pages=96)
"""Up to about 200 pages, threads of this process are done before an engine would have earned its start: with pages of
65 ms, 100,000 objects took 1.0 s in threads and 1.5 s with an engine, 200,000 took 1.2 and 2.3 s. On busy processors
that holds for much larger listings, too (docs/decisions/0005)."""

SMALL_STREAMS = 24
"""Streams of those threads; more were not faster there, and each holds a row group in memory."""

LARGE_PAGE_ROWS = 5000
"""Rows that a large listing asks for in a page. 1,000 are documented as the most that come
(https://cloud.google.com/storage/docs/json_api/v1/objects/list), and more as what has come; where they do, a listing
of 1,000,000 objects takes a quarter of the requests in the same time (docs/decisions/0005). In a small one, streams
side by side are faster with small pages."""


@dataclass(slots=True)
class _Progressing:
    """What is known so far, between two jobs."""

    waiting: tuple[NameRange, ...]
    finished: list[FinishedRange]
    figures: Figures
    examples: tuple[str, ...] = ()
    voids: tuple[NameRange, ...] = ()
    found_reads_per_s: float | None = None
    next_range_id: int = 1


def _record(began: float) -> ListingRecord:
    from airflow_dataflux.core.listing.recording import ListingRecord

    return ListingRecord(began)


class ListingRun:
    """What is left to do of a listing whose first page is there."""

    def __init__(
        self,
        opening: Opening,
        request: ListRequest,
        store_config: StoreConfig,
        tokens: TokenSource,
        cancel: CancelToken,
        on_progress: Callable[[Progress], None] | None,
        isolated: bool,
        parts_uri: str,
    ) -> None:
        self._request = request
        self._store_config = store_config
        self._tokens = tokens
        self._cancel = cancel
        self._on_progress = on_progress
        self._isolated = isolated
        self._parts_uri = parts_uri
        self._run_id = secrets.token_hex(4)
        self._opening = opening
        self._roots = opening.roots
        self._ledger = Ledger(self._roots)
        self._processes = 0
        self._record = _record(opening.started_at) if request.report and request.manifest_uri else None

    def run(self, on_report: OnReport | None) -> Manifest:
        """List what is left and return the manifest."""
        request = self._request
        # Not closed when all is well: the manifest that is returned reads its parts through it, as long as it lives.
        # Its token is its own, because parts must be deleted also and above all after a cancel.
        files_store = open_store(self._store_config, self._tokens, connections=DELETES_IN_FLIGHT, cancel=CancelToken())
        with contextlib.ExitStack() as if_it_fails:
            if_it_fails.callback(files_store.close)
            files = ManifestFiles(files_store)
            seeds = Seeds.of(request.seed_manifest_uri, request.streams - 1, files_store)
            try:
                manifest = self._list(files, seeds)
            except BaseException:
                self._delete_parts(files, ())
                raise
            notice = self._report(files, manifest)
            if_it_fails.pop_all()
        stats = manifest.stats
        logger.info(
            "Listed %s: %d objects, %d bytes in %.2f s with %d requests.",
            shown(request), len(manifest), manifest.total_bytes, stats["wall_s"], stats["requests"],
        )  # fmt: skip
        if request.manifest_uri is not None:
            logger.info("The manifest is at %s, fingerprint %s.", manifest.uri, manifest.fingerprint)
        if notice is not None:
            logger.info("The report of the listing is at %s.", notice.uri)
            if on_report is not None:
                on_report(notice)
        return manifest

    def _list(self, files: ManifestFiles, seeds: Seeds) -> Manifest:
        first_page = self._opening.first
        if first_page is None:
            nothing = _Progressing((), [], Figures())
            return self._inline([], nothing) if self._request.manifest_uri is None else self._publish(files, nothing)
        rows, so_far = self._take(first_page)
        if not so_far.waiting and self._request.manifest_uri is None:
            return self._inline([rows], so_far)
        if so_far.waiting and self._request.manifest_uri is not None:
            files.check_writable(self._parts_uri)
        writer = PartWriter(files, self._parts_uri, part_prefix(self._run_id, 0))
        writer.append(rows)
        first = self._roots[0]
        end = so_far.waiting[0].start if so_far.waiting and so_far.waiting[0].start in first else first.end
        so_far.finished.append(FinishedRange(NameRange(first.start, end), tuple(writer.finish())))
        if so_far.waiting:
            so_far.waiting = seeds.divide(so_far.waiting)
            self._list_rest(so_far, seeds)
        for done in so_far.finished:
            self._ledger.finish(done.names)
        self._ledger.prove()
        return self._publish(files, so_far)

    def _take(self, first_page: FirstPage) -> tuple[pa.RecordBatch, _Progressing]:
        """Return the rows of the first page that are asked for; what it leaves to do is waiting."""
        root, cursor, page = self._roots[0], first_page.cursor, first_page.page
        taken = cursor.accept(NameColumn(page.rows.column(0)), page.next_page_token)
        rows = page.rows.slice(taken.start, taken.stop - taken.start)
        row_filter = RowFilter(self._request.filters)
        kept = row_filter.apply(rows)
        event = page_listed(0, rows, kept, more=not cursor.ended)
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
        return kept, _Progressing((*rest, *self._roots[1:]), [], figures, examples)

    def _list_rest(self, so_far: _Progressing, seeds: Seeds) -> None:
        """List what is waiting: here, and if that is much, in an engine."""
        if not self._isolated:
            self._run(so_far, workers=self._request.workers, streams=self._request.streams, isolated=False)
            return
        if seeds.pages_in(self._roots) <= HAND_OVER.remaining_pages:
            self._run(
                so_far,
                workers=1,
                streams=min(SMALL_STREAMS, self._request.streams),
                isolated=False,
                hand_over=HAND_OVER,
            )
        if so_far.waiting:
            self._run(so_far, workers=self._request.workers, streams=self._request.streams, isolated=True)

    def _run(
        self, so_far: _Progressing, *, workers: int, streams: int, isolated: bool, hand_over: HandOver | None = None
    ) -> None:
        # Not above: a listing of one page, of which there are many, is over before these would be imported.
        from airflow_dataflux.core.listing.job import run_listing
        from airflow_dataflux.core.listing.worker import listing_worker
        from airflow_dataflux.core.runtime.jobs import Job, run_job

        workers = min(workers, streams)
        plan = ListingPlan(
            request=replace(self._request, workers=workers),
            store_config=self._store_config,
            prefixes=self._opening.prefixes,
            waiting=so_far.waiting,
            parts_uri=self._parts_uri,
            run_id=self._run_id,
            streams=streams,
            page_rows=LARGE_PAGE_ROWS if isolated else None,
            first_range_id=so_far.next_range_id,
            examples=so_far.examples,
            voids=so_far.voids,
            listed=so_far.figures.listed,
            inline_bytes=so_far.figures.inline_bytes,
            found_reads_per_s=so_far.found_reads_per_s,
            hand_over=hand_over,
            recorded_from=self._opening.started_at if self._record else None,
        )
        outcome: Outcome = run_job(
            Job(run=run_listing, worker_body=listing_worker, workers=workers, payload=plan),
            tokens=self._tokens,
            cancel=self._cancel,
            on_event=self._pass_on,
            isolated=isolated,
        )
        # After a cancel a job may still have come to its end; what the caller asked for is that it stops.
        self._cancel.raise_if_cancelled()
        if isolated:
            self._processes = workers
        else:
            # What threads of this process used is counted with the process itself.
            outcome.figures.processes.clear()
        so_far.finished.extend(outcome.finished)
        so_far.waiting = outcome.leftover
        so_far.examples, so_far.voids = outcome.examples, outcome.voids
        so_far.found_reads_per_s = outcome.found_reads_per_s
        so_far.next_range_id = outcome.next_range_id
        so_far.figures.add(outcome.figures)
        if self._record and outcome.record:
            outcome.record.isolated = isolated
            self._record.jobs.append(outcome.record)

    def _pass_on(self, event: object) -> None:
        if isinstance(event, Progress):
            logger.debug("%s", event.text)
            if self._on_progress is not None:
                self._on_progress(event)

    def _publish(self, files: ManifestFiles, so_far: _Progressing) -> Manifest:
        parts = [part for done in so_far.finished for part in done.parts]
        manifest = publish(
            files,
            manifest_uri=self._parts_uri,
            bucket=self._request.bucket,
            prefixes=self._opening.prefixes,
            parts=parts,
            listed_at=self._opening.listed_at,
            stats=self._stats(so_far.figures),
            request=described(self._request),
            name_range=self._request.name_range,
        )
        if self._request.manifest_uri is None:
            return self._inline(manifest.batches(), so_far)
        if so_far.figures.lost_workers:
            self._delete_parts(files, [part.path for part in parts])
        return manifest

    def _report(self, files: ManifestFiles, manifest: Manifest) -> ReportNotice | None:
        if self._record is None:
            return None
        from airflow_dataflux.core.listing.runreport import write_report  # most of it is of use to nobody else

        return write_report(files, manifest, self._record)

    def _inline(self, batches: Any, so_far: _Progressing) -> Manifest:
        return inline(
            self._request.bucket,
            self._opening.prefixes,
            batches,
            listed_at=self._opening.listed_at,
            stats=self._stats(so_far.figures),
            request=described(self._request),
            name_range=self._request.name_range,
        )

    def _stats(self, figures: Figures) -> dict[str, Any]:
        used = process_usage()
        return stats_of(
            figures,
            ProcessFigures(
                role="task", cpu_s=used.cpu_s - self._opening.used_before.cpu_s, peak_rss_bytes=used.peak_rss_bytes
            ),
            wall_s=time.monotonic() - self._opening.started_at,
            workers=self._processes,
            streams=self._request.streams,
        )

    def _delete_parts(self, files: ManifestFiles, needed: Sequence[str]) -> None:
        if self._request.manifest_uri is not None:
            delete_unneeded(files, self._parts_uri, self._run_id, needed=needed)
