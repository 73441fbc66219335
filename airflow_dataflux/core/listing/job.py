"""The owner's side of a listing: carries events to the scheduler and its instructions to the workers.

Runs wherever `run_job` puts it: in the engine with worker processes, or in this process with threads.

Guarantees: returns only what the ledger has proven, or hands over what is left when it was told to; a
worker that dies is replaced and its unfinished ranges are listed again; the first failure ends the job as that error.
What a job that fails has written is deleted by the caller, after all workers have ended.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from operator import itemgetter

from airflow_dataflux.core.config import DEFAULT_STREAMS
from airflow_dataflux.core.errors import EngineError
from airflow_dataflux.core.gcs.store import RequestCounts
from airflow_dataflux.core.listing.messages import (
    Figures,
    Finish,
    FinishedRange,
    HandingOver,
    HandOver,
    ListingPlan,
    Order,
    Outcome,
    PageListed,
    ProcessFigures,
    RangeEnded,
    Remainder,
    Setup,
    StreamFailed,
    StreamsAdded,
    WorkerFigures,
    WorkerJoined,
    WorkerLost,
)
from airflow_dataflux.core.listing.recorder import Recorder
from airflow_dataflux.core.listing.scheduler import Scheduler
from airflow_dataflux.core.listing.splitting import MOST_TAIL_PAGES
from airflow_dataflux.core.listing.stats import progress_line
from airflow_dataflux.core.listing.stream_count import streams_for
from airflow_dataflux.core.manifest.inlining import check_inline_bytes
from airflow_dataflux.core.namerange import NameRange
from airflow_dataflux.core.runtime.progress import Pulse
from airflow_dataflux.core.runtime.usage import process_usage
from airflow_dataflux.core.runtime.workers import JobContext, WorkerEnded, WorkerMessage

logger = logging.getLogger(__name__)

_MOST_REPLACEMENTS = 8
"""Dead workers that one job replaces: a few killed ones are bad luck, more are a machine without memory."""

_PAGES_BETWEEN_ESTIMATES = 8
"""Whether to hand over is decided again after so many pages: an estimate of every range takes about as long as a page.
With names that differ at each character, asking after each event was a tenth of a listing's processor time."""

_PAGES_TIMED = 256
"""Pages whose times are kept."""

_PAGES_BEFORE_MORE_STREAMS = 4
"""The fastest of so many pages tells whether threads need more streams: the slower ones waited for a processor, too."""

PROGRESS_EVERY_S = 3.0


def run_listing(context: JobContext, plan: ListingPlan) -> Outcome:
    """Run the job."""
    return _Owner(context, plan).run()


_MOST_TIMES = 12
"""What is left of a range counts for at most so many times what it has brought."""


def is_large(scheduler: Scheduler, when: HandOver) -> bool:
    """Return whether so much is left that a job should hand it over."""
    listed = scheduler.totals.pages
    if listed < when.after_pages:
        return False
    ranges = scheduler.remaining_by_range()
    unknown = ranges is None or any(remaining >= MOST_TAIL_PAGES for _, remaining in ranges)
    if unknown and listed < when.remaining_pages:
        return False
    if ranges is None:
        return True
    # The estimate of a range is read from one or two of its pages, and may be off by a thousand.
    expected = sum(min(remaining, _MOST_TIMES * pages) for pages, remaining in ranges)
    # Of names that are not understood each estimate is too low: the more was listed, the less must be expected.
    enough = min(when.remaining_pages, 2 * when.remaining_pages - listed)
    return expected > max(enough, when.remaining_pages / 10)


class _Owner:
    def __init__(self, context: JobContext, plan: ListingPlan) -> None:
        self._context = context
        self._group = context.workers
        self._plan = plan
        self._scheduler = Scheduler(
            plan.prefixes,
            waiting=plan.remainder.waiting,
            examples=plan.remainder.examples,
            empty_ranges=plan.remainder.empty_ranges,
            levels=plan.remainder.levels,
            first_range_id=plan.remainder.next_range_id,
            free_waste=plan.free_waste,
        )
        self._finished: list[FinishedRange] = []
        self._used: list[tuple[int, WorkerFigures]] = []  # of workers that are gone
        self._using: dict[int, WorkerFigures] = {}
        self._dropped: Counter[str] = Counter()
        self._inline_bytes = 0
        self._page_seconds: list[float] = []
        self._replaced = 0
        self._halted = False
        self._streams = plan.streams
        self._estimate_at_pages = 0
        self._started_at = time.monotonic()
        self._cpu_before_s = process_usage().cpu_s
        self._pulse = Pulse(PROGRESS_EVERY_S)
        self._recorder = None if plan.recorded_from is None else Recorder(plan.recorded_from)

    def run(self) -> Outcome:
        for worker in range(self._group.count):
            self._join(worker)
        while not self._scheduler.done:
            for event in self._group.wait(self._pulse.remaining_s()):
                self._take(event)
            self._context.cancel.raise_if_cancelled()
            self._hand_over_if_large()
            if self._pulse.due():
                self._emit_progress()
        if not self._halted:
            self._scheduler.ledger.prove()
        self._finish_workers()
        return Outcome(
            finished=tuple(self._finished),
            remainder=Remainder(
                waiting=self._scheduler.leftover(self._plan.request.streams or DEFAULT_STREAMS),
                examples=self._scheduler.known.examples,
                empty_ranges=self._scheduler.known.empty_ranges,
                levels=self._scheduler.known.levels,
                found_reads_per_s=self._found_reads_per_s(),
                page_s=self._page_s(),
                page_cpu_s=self._page_cpu_s(),
                next_range_id=self._scheduler.next_range_id,
            ),
            figures=self._figures(),
            streams=self._streams,
            record=self._recorder.finish() if self._recorder else None,
        )

    def _join(self, worker: int) -> None:
        plan = self._plan
        streams = self._share(self._streams, worker)
        if streams == 0:
            return
        setup = Setup(
            request=plan.request,
            store_config=plan.store_config,
            parts_uri=plan.parts_uri,
            run_id=plan.run_id,
            streams=self._share(plan.most_streams, worker),
            found_reads_per_s=plan.remainder.found_reads_per_s,
            page_rows=plan.page_rows,
        )
        self._group.send(worker, setup)
        self._carry_out(self._scheduler.handle(WorkerJoined(worker, streams)))

    def _share(self, streams: int, worker: int) -> int:
        return streams // self._group.count + (worker < streams % self._group.count)

    def _carry_out(self, orders: list[Order]) -> None:
        for order in orders:
            if self._recorder:
                self._recorder.ordered(order)
            self._group.send(order.worker, order.instruction)

    def _take(self, event: WorkerMessage | WorkerEnded) -> None:
        if isinstance(event, WorkerEnded):
            self._worker_ended(event)
            return
        message = event.message
        if self._recorder:
            self._recorder.took(message)
        match message:
            case WorkerFigures():
                self._using[event.worker] = message
                return
            case StreamFailed(_, error):
                raise error
            case PageListed():
                if len(self._page_seconds) < _PAGES_TIMED:
                    self._page_seconds.append(message.seconds)
                if len(self._page_seconds) == _PAGES_BEFORE_MORE_STREAMS:
                    self._add_streams()
                self._check_inline(message)
            case RangeEnded():
                self._dropped.update(message.dropped)
                start = self._scheduler.start_of(message.range_id)
                if start is not None:
                    self._finished.append(FinishedRange(NameRange(start, message.end), message.parts))
        self._carry_out(self._scheduler.handle(message))  # type: ignore[arg-type]  # what else a worker sends are events

    def _worker_ended(self, event: WorkerEnded) -> None:
        if event.error is not None:
            raise event.error
        if event.worker in self._using:
            self._used.append((event.worker, self._using.pop(event.worker)))
        self._replaced += 1
        logger.warning(
            "Worker process %d of the listing ended with exit code %s; its unfinished ranges are listed again.",
            event.worker,
            event.exitcode,
        )
        if self._replaced > _MOST_REPLACEMENTS:
            raise EngineError(
                f"{self._replaced} worker processes of the listing of gs://{self._plan.request.bucket} died, the last "
                f"with exit code {event.exitcode} (-9 is usually a lack of memory). Nothing was published. Give the "
                "task more memory, or lower workers and streams.",
                exitcode=event.exitcode,
            )
        if self._recorder:
            self._recorder.lost(event.worker)
        self._carry_out(self._scheduler.handle(WorkerLost(event.worker)))
        self._group.replace(event.worker)
        self._join(event.worker)

    def _check_inline(self, page: PageListed) -> None:
        self._inline_bytes += page.kept_bytes
        if self._plan.request.manifest_uri is None:
            check_inline_bytes(self._plan.before.inline_bytes + self._inline_bytes)

    def _add_streams(self) -> None:
        """Have as many streams as threads of one process need for the latency that was measured, once."""
        before = self._streams
        wanted = streams_for(self._page_s(), processors=1)
        self._streams = max(before, min(wanted, self._plan.most_streams))
        for worker in self._scheduler.workers:
            more = self._share(self._streams, worker) - self._share(before, worker)
            if more:
                self._carry_out(self._scheduler.handle(StreamsAdded(worker, more)))

    def _hand_over_if_large(self) -> None:
        when, listed = self._plan.hand_over, self._scheduler.totals.pages
        if when is None or self._halted or listed < self._estimate_at_pages:
            return
        self._estimate_at_pages = listed + _PAGES_BETWEEN_ESTIMATES
        if not is_large(self._scheduler, when):
            return
        self._halted = True
        self._carry_out(self._scheduler.halt())
        self._context.emit(HandingOver())

    def _finish_workers(self) -> None:
        """Let the workers end and hear their last figures. All parts are durable: who dies now takes nothing along."""
        waiting = set(self._scheduler.workers)
        for worker in waiting:
            self._group.send(worker, Finish())
        while waiting:
            for event in self._group.wait(None):
                if isinstance(event, WorkerEnded):
                    waiting.discard(event.worker)
                elif isinstance(event.message, WorkerFigures):
                    self._using[event.worker] = event.message
                    if event.message.final:
                        waiting.discard(event.worker)
            self._context.cancel.raise_if_cancelled()

    def _found_reads_per_s(self) -> float | None:
        found = [worker.found_reads_per_s for worker in self._using.values() if worker.found_reads_per_s is not None]
        # Workers share the rate evenly; one to which nothing was refused does not know its part.
        return self._group.count * sum(found) / len(found) if found else None

    def _page_s(self) -> float | None:
        """Return what the fastest tenth of the pages took at most: slower ones waited for a processor, too."""
        return sorted(self._page_seconds)[len(self._page_seconds) // 10] if self._page_seconds else None

    def _page_cpu_s(self) -> float | None:
        """Return the processor time of a request. Of threads: worker processes have their own."""
        requests = self._scheduler.totals.requests
        return (process_usage().cpu_s - self._cpu_before_s) / requests if requests else None

    def _figures(self) -> Figures:
        totals = self._scheduler.totals
        workers = [*(used for _, used in self._used), *self._using.values()]
        counts = sum((worker.counts for worker in workers), RequestCounts())
        own = process_usage()
        processes = [
            ProcessFigures(role=f"worker {worker}", cpu_s=used.cpu_s, peak_rss_bytes=used.peak_rss_bytes)
            for worker, used in sorted([*self._used, *self._using.items()], key=itemgetter(0))
        ]
        return Figures(
            requests=totals.requests,
            wasted_requests=totals.wasted_requests,
            retries=counts.retries,
            throttled=counts.throttled,
            steals=totals.steals,
            lost_workers=totals.lost_workers,
            listed=totals.listed,
            inline_bytes=self._inline_bytes,
            processes=[ProcessFigures(role="engine", cpu_s=own.cpu_s, peak_rss_bytes=own.peak_rss_bytes), *processes],
            dropped=self._dropped,
        )

    def _emit_progress(self) -> None:
        self._context.emit(
            progress_line(
                self._scheduler,
                self._figures(),
                before=self._plan.before,
                before_s=self._plan.before_s,
                elapsed_s=time.monotonic() - self._started_at,
                expected=self._plan.expected,
            )
        )
