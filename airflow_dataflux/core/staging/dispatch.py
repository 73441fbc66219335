"""Hand batches to workers and take what comes back, until all is fetched: the owner's side of `worker.py`.

Guarantees:
- Every batch ends in exactly one of: fetched, named as changed, or the error that ends the staging.
- A worker that dies is replaced, and its batches are handed out again under other composite names; a batch that
  outlives three workers ends the staging.
- When `run` or `stop` return, no composite of this attempt is left, or its name is in `leftovers`.

One thread. It plans while it hands out: at most `_AHEAD` batches for each thread exist at a time.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from airflow_dataflux.core.errors import DatafluxError, EngineError
from airflow_dataflux.core.gcs.store import RequestCounts
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.usage import Usage
from airflow_dataflux.core.runtime.workers import WorkerEnded, WorkerGroup, WorkerMessage
from airflow_dataflux.core.staging.plan import Batch, BatchKind
from airflow_dataflux.core.staging.transfer import NOT_ALLOWED, THROTTLED, Outcome
from airflow_dataflux.core.staging.worker import (
    Assignment,
    BatchDone,
    BatchFailed,
    Finish,
    Setup,
    WorkerFinished,
)

_LOG = logging.getLogger(__name__)

_AHEAD = 1.5
"""Batches at a worker for each of its threads, so that none waits for the next while this process plans it."""

_ROUNDS = 3
"""How often a batch is handed out: what kills three workers would kill a fourth."""

_STOP_S = 6.0
"""How long workers may tidy up after a failure or a cancel; then their composites are found by listing."""

_LATE_COMPOSE_S = 1.0
"""A compose that a killed worker had sent may still become an object this long after."""


@dataclass(slots=True)
class Totals:
    """What the workers have done so far."""

    downloaded: int = 0
    downloaded_bytes: int = 0
    composites: int = 0
    composed_bytes: int = 0
    refetched: int = 0
    resumed: int = 0
    compose_s: float = 0.0
    read_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    workers_lost: int = 0
    processes: list[tuple[str, Usage]] = field(default_factory=list)
    objects_by_kind: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    changed: list[tuple[int, str]] = field(default_factory=list)

    def add(self, batch: Batch, outcome: Outcome) -> None:
        """Add a batch."""
        self.downloaded += len(outcome.ordinals)
        self.downloaded_bytes += outcome.downloaded_bytes
        self.composites += outcome.composites
        self.composed_bytes += outcome.composed_bytes
        self.refetched += outcome.refetched
        self.resumed += outcome.resumed
        self.compose_s += outcome.compose_s
        self.read_s += outcome.read_s
        self.changed += outcome.changed
        through = len(batch.names) - outcome.fallback_objects
        self.objects_by_kind[batch.kind.value] += through
        if outcome.fallback_objects:
            self.objects_by_kind[BatchKind.DIRECT.value] += outcome.fallback_objects
            self.reasons[outcome.fell_back] += outcome.fallback_objects


@dataclass(slots=True)
class _Out:
    """A batch at a worker."""

    batch: Batch
    worker: int
    round_: int


class Dispatcher:
    """Runs the workers of one staging."""

    def __init__(
        self,
        workers: WorkerGroup,
        setup: Setup,
        *,
        cancel: CancelToken,
        on_outcome: Callable[[Batch, Outcome], None],
        on_pause: Callable[[], float],
    ) -> None:
        """Set up.

        Args:
            workers: a fresh group.
            setup: what each worker gets.
            cancel: the job's.
            on_outcome: called for each batch that was fetched.
            on_pause: called between events; returns how many seconds may pass until it wants to be called again.
        """
        self._workers = workers
        self._setup = setup
        self._cancel = cancel
        self._on_outcome = on_outcome
        self._on_pause = on_pause
        self._out: dict[int, _Out] = {}
        self._again: deque[tuple[Batch, int]] = deque()
        self._load = [0] * workers.count
        self._counts = [RequestCounts()] * workers.count
        self._lost_counts = RequestCounts()
        self._running = set(range(workers.count))
        self._lost_at: float | None = None
        self._reported_leftovers: list[str] = []
        self.totals = Totals()
        self.stop_composing: str = ""

    @property
    def in_flight(self) -> int:
        """Batches at workers."""
        return len(self._out)

    @property
    def unclean(self) -> bool:
        """Whether composites may be left that no worker accounts for."""
        return self._lost_at is not None or bool(self._reported_leftovers)

    @property
    def reported_leftovers(self) -> tuple[str, ...]:
        """Names of composites that workers could not delete."""
        return tuple(self._reported_leftovers)

    def counts(self) -> RequestCounts:
        """Return the requests that all workers have sent, as far as they have told."""
        return sum(self._counts, self._lost_counts)

    def run(self, batches: Iterator[Batch], *, stop_at_change: bool) -> None:
        """Fetch all batches, then let the workers finish.

        With `stop_at_change`, no more are handed out once an object turned out to have changed; those under way end.
        """
        for each in range(self._workers.count):
            self._workers.send(each, self._setup)
        exhausted = False
        while True:
            self._cancel.raise_if_cancelled()
            while not exhausted:
                worker = self._free_worker()
                if worker is None:
                    break
                if stop_at_change and self.totals.changed:
                    exhausted = True
                    self._again.clear()
                elif not self._hand_out(worker, batches):
                    exhausted = True
            if exhausted and not self._again and not self._out:
                break
            for event in self._workers.wait(self._on_pause()):
                if isinstance(event, WorkerEnded):
                    self._replace(event)
                    exhausted = exhausted and not self._again
                else:
                    self._take(event)
        self._finish(abandon=False, deadline=None)

    def stop(self) -> None:
        """End the workers after a failure or a cancel, and let them delete their composites."""
        self._cancel.cancel("the staging failed")
        self._finish(abandon=True, deadline=time.monotonic() + _STOP_S)

    def wait_for_late_composes(self) -> None:
        """Wait until no compose of a killed worker can come into being any more."""
        if self._lost_at is not None:
            time.sleep(max(0.0, self._lost_at + _LATE_COMPOSE_S - time.monotonic()))

    def _free_worker(self) -> int | None:
        if not self._running:
            return None
        worker = min(self._running, key=self._load.__getitem__)
        if self._load[worker] >= self._setup.threads * _AHEAD:
            return None
        return worker

    def _hand_out(self, worker: int, batches: Iterator[Batch]) -> bool:
        if self._again:
            batch, round_ = self._again.popleft()
        else:
            following = next(batches, None)
            if following is None:
                return False
            batch, round_ = following, 0
        self._out[batch.number] = _Out(batch, worker, round_)
        self._load[worker] += 1
        self._workers.send(worker, Assignment(batch, round_))
        return True

    def _take(self, event: WorkerMessage) -> None:
        message = event.message
        if isinstance(message, BatchDone):
            self._counts[event.worker] = message.counts
            out = self._out.pop(message.outcome.number)
            self._load[out.worker] -= 1
            self.totals.add(out.batch, message.outcome)
            if message.outcome.fell_back in (THROTTLED, NOT_ALLOWED):
                self.stop_composing = message.outcome.fell_back
            self._on_outcome(out.batch, message.outcome)
        elif isinstance(message, BatchFailed):
            raise message.error
        elif isinstance(message, WorkerFinished):
            self._take_finished(event.worker, message)

    def _take_finished(self, worker: int, message: WorkerFinished) -> None:
        self._running.discard(worker)
        self._counts[worker] = message.counts
        self._reported_leftovers += message.leftovers
        if message.process == os.getpid():
            return  # a thread of this process, whose usage the owner counts
        self.totals.processes.append((f"worker {worker}", message.usage))
        self.totals.cpu_s += message.usage.cpu_s
        self.totals.peak_rss_bytes = max(self.totals.peak_rss_bytes, message.usage.peak_rss_bytes)

    def _replace(self, ended: WorkerEnded) -> None:
        """Give the batches of a dead worker to others."""
        if isinstance(ended.error, DatafluxError):
            raise ended.error
        lost = [out for out in self._out.values() if out.worker == ended.worker]
        how = f"exit code {ended.exitcode}" if ended.error is None else repr(ended.error)
        _LOG.warning("Staging worker %d died (%s); its %d batches are fetched again.", ended.worker, how, len(lost))
        self.totals.workers_lost += 1
        self._note_lost(ended.worker)
        for out in lost:
            del self._out[out.batch.number]
            if out.round_ + 1 == _ROUNDS:
                raise EngineError(
                    f"{_ROUNDS} worker processes died while they fetched the same batch, from "
                    f"gs://{self._setup.bucket}/{out.batch.names[0]} on (the last with {how}). Look for the kernel's "
                    "out-of-memory messages, and give the task more memory or less max_in_flight."
                ) from ended.error
            self._again.append((out.batch, out.round_ + 1))
        self._load[ended.worker] = 0
        self._workers.replace(ended.worker)
        self._workers.send(ended.worker, self._setup)

    def _note_lost(self, worker: int) -> None:
        self._lost_at = time.monotonic()
        self._lost_counts += self._counts[worker]
        self._counts[worker] = RequestCounts()

    def _finish(self, *, abandon: bool, deadline: float | None) -> None:
        for worker in self._running:
            self._workers.send(worker, Finish(abandon))
        while self._running and (deadline is None or time.monotonic() < deadline):
            remaining_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            for event in self._workers.wait(remaining_s):
                if isinstance(event, WorkerEnded):
                    if event.worker in self._running:
                        self._running.discard(event.worker)
                        self._note_lost(event.worker)
                elif isinstance(event.message, WorkerFinished):
                    self._take_finished(event.worker, event.message)
        if self._running:
            self._lost_at = time.monotonic()
