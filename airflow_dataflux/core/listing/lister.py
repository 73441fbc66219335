"""List a bucket: the one-page decision, the jobs, the manifest.

The way of a listing:

1. The first page is asked for from the calling process. No token: the listing is done, with nothing started.
2. The rest is listed by threads of this process at first. Up to a few hundred pages that is faster than starting
   anything; most listings end here.
3. What is much larger is handed over: an engine process with worker processes lists what is left.
4. All finished ranges together must tile the request (`Ledger`), then the manifest is published, index last.

Guarantees: the manifest is complete, sorted and unique, or there is an error and nothing is published; when this
returns or raises, nothing that it started is running, and parts that no manifest needs are deleted.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_dataflux.core.config import ListRequest, StoreConfig
from airflow_dataflux.core.gcs.client import open_store
from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.listing.account import described, stats_of
from airflow_dataflux.core.listing.cursor import Cursor
from airflow_dataflux.core.listing.filters import RowFilter
from airflow_dataflux.core.listing.ledger import Ledger
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
from airflow_dataflux.core.manifest.location import manifest_location
from airflow_dataflux.core.namerange import NameRange, after, distinct_prefixes, prefix_range
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


def list_objects(
    request: ListRequest,
    *,
    store_config: StoreConfig,
    tokens: TokenSource,
    cancel: CancelToken | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_report: OnReport | None = None,
    isolated: bool = True,
) -> Manifest:
    """List what `request` asks for and return the published (or inline) manifest.

    Args:
        request: what to list, and where the manifest goes.
        store_config: where the bucket is; also used for a manifest on gs://.
        tokens: access tokens, asked for in the calling thread.
        cancel: stops the listing: CancelledError within seconds, nothing is published.
        on_progress: called in the calling thread, every few seconds.
        on_report: called once the report is beside the manifest, if the request asks for one.
        isolated: list large buckets in an engine process with worker processes; else with threads of this process.

    Costs about one request (class A) per 1,000 objects, and at most a tenth more.

    Raises:
        ManifestTooLargeError: without `manifest_uri`, as soon as the listing is known not to fit into XCom.
        BucketNotFoundError, PermissionDeniedError, AuthenticationError: before anything is started.
        IncompleteListingError: the listing could not be proven complete.
        UnavailableError, EngineError, CancelledError: as their names say; retrying may help for the first two.
    """
    # A token of our own: what goes wrong in here stops our jobs, and never looks like a cancel of the caller's.
    own = CancelToken()
    outer = cancel or CancelToken()
    with outer.waking(lambda: own.cancel(outer.reason)), _places(request) as parts_uri:
        listing = _Listing(request, store_config, tokens, own, on_progress, isolated, parts_uri)
        return listing.run(on_report)


@contextlib.contextmanager
def _places(request: ListRequest) -> Iterator[str]:
    """Yield the URI where parts go: that of the manifest, or a directory that lives as long as the listing."""
    if request.manifest_uri is not None:
        yield manifest_location(request.manifest_uri).uri
        return
    directory = tempfile.mkdtemp(prefix="dataflux-listing-")
    try:
        yield manifest_location(directory).uri
    finally:
        shutil.rmtree(directory, ignore_errors=True)


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


class _Listing:
    def __init__(
        self,
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
        self._prefixes = distinct_prefixes(request.prefixes)
        names = request.name_range or NameRange()
        roots = [(prefix, prefix_range(prefix).overlap(names)) for prefix in self._prefixes]
        self._asked = tuple((prefix, root) for prefix, root in roots if not root.is_empty)
        self._roots = tuple(root for _, root in self._asked)
        self._ledger = Ledger(self._roots)
        self._started_at = time.monotonic()
        self._listed_at = datetime.now(UTC)
        self._used_before = process_usage()
        self._processes = 0
        self._record = _record(self._started_at) if request.report and request.manifest_uri else None

    def run(self, on_report: OnReport | None) -> Manifest:
        request = self._request
        logger.info("Listing %s.", self._shown())
        # Not closed when all is well: the manifest that is returned reads its parts through it, as long as it lives.
        # Its token is its own, because parts must be deleted also and above all after a cancel.
        files_store = open_store(self._store_config, self._tokens, connections=DELETES_IN_FLIGHT, cancel=CancelToken())
        with (
            contextlib.ExitStack() as if_it_fails,
            contextlib.closing(
                open_store(self._store_config, self._tokens, connections=1, cancel=self._cancel)
            ) as store,
        ):
            if_it_fails.callback(files_store.close)
            files = ManifestFiles(files_store)
            seeds = Seeds.of(request.seed_manifest_uri, request.streams - 1, files_store)
            try:
                manifest = self._list(store, files, seeds)
            except BaseException:
                self._delete_parts(files, ())
                raise
            notice = self._report(files, manifest)
            if_it_fails.pop_all()
        stats = manifest.stats
        logger.info(
            "Listed %s: %d objects, %d bytes in %.2f s with %d requests.",
            self._shown(), len(manifest), manifest.total_bytes, stats["wall_s"], stats["requests"],
        )  # fmt: skip
        if request.manifest_uri is not None:
            logger.info("The manifest is at %s, fingerprint %s.", manifest.uri, manifest.fingerprint)
        if notice is not None:
            logger.info("The report of the listing is at %s.", notice.uri)
            if on_report is not None:
                on_report(notice)
        return manifest

    def _list(self, store: Store, files: ManifestFiles, seeds: Seeds) -> Manifest:
        if not self._asked:  # no name of the range begins with one of the prefixes
            nothing = _Progressing((), [], Figures())
            return self._inline([], nothing) if self._request.manifest_uri is None else self._publish(files, nothing)
        rows, so_far = self._first_page(store)
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

    def _first_page(self, store: Store) -> tuple[pa.RecordBatch, _Progressing]:
        """List the first page of the first prefix; what it leaves to do is waiting."""
        prefix, root = self._asked[0]
        cursor = Cursor(root, prefix, self._request.filters.match_glob)
        page = store.list_page(self._request.bucket, cursor.request())
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
            retries=store.counts().retries,
            throttled=store.counts().throttled,
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
            prefixes=self._prefixes,
            waiting=so_far.waiting,
            parts_uri=self._parts_uri,
            run_id=self._run_id,
            streams=streams,
            first_range_id=so_far.next_range_id,
            examples=so_far.examples,
            voids=so_far.voids,
            listed=so_far.figures.listed,
            inline_bytes=so_far.figures.inline_bytes,
            found_reads_per_s=so_far.found_reads_per_s,
            hand_over=hand_over,
            recorded_from=self._started_at if self._record else None,
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
            prefixes=self._prefixes,
            parts=parts,
            listed_at=self._listed_at,
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
            self._prefixes,
            batches,
            listed_at=self._listed_at,
            stats=self._stats(so_far.figures),
            request=described(self._request),
            name_range=self._request.name_range,
        )

    def _stats(self, figures: Figures) -> dict[str, Any]:
        used = process_usage()
        return stats_of(
            figures,
            ProcessFigures(role="task", cpu_s=used.cpu_s - self._used_before.cpu_s, peak_rss_bytes=used.peak_rss_bytes),
            wall_s=time.monotonic() - self._started_at,
            workers=self._processes,
            streams=self._request.streams,
        )

    def _delete_parts(self, files: ManifestFiles, needed: Sequence[str]) -> None:
        if self._request.manifest_uri is not None:
            delete_unneeded(files, self._parts_uri, self._run_id, needed=needed)

    def _shown(self) -> str:
        shown = [f"gs://{self._request.bucket}/{prefix}" for prefix in self._prefixes[:3]]
        return ", ".join(shown) + (f" and {len(self._prefixes) - 3} more prefixes" if len(self._prefixes) > 3 else "")
