"""The life of a staging worker: a few dozen threads that fetch batches, and one that deletes composites.

The protocol, in this order:
1. owner -> worker: `Setup`.
2. owner -> worker: `Assignment`, as many as the owner likes; the worker answers each with one `BatchDone` or
   `BatchFailed`, in any order.
3. owner -> worker: `Finish`. With `abandon`, batches that were not begun are dropped without an answer.
4. worker -> owner: `WorkerFinished`: its composites are deleted, or named in it.

The end of the link, or a cancel, is a `Finish(abandon=True)`; what is sent then reaches nobody if the owner is gone,
but the composites are deleted all the same.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_dataflux.core.config import StoreConfig
from airflow_dataflux.core.errors import StagingError
from airflow_dataflux.core.gcs.client import open_store
from airflow_dataflux.core.gcs.retry import RetryPolicy
from airflow_dataflux.core.gcs.store import RequestCounts
from airflow_dataflux.core.runtime.usage import Usage, process_usage
from airflow_dataflux.core.runtime.workers import WorkerLink
from airflow_dataflux.core.staging.composites import CompositeNames
from airflow_dataflux.core.staging.keeper import DELETING_THREADS, CompositeKeeper
from airflow_dataflux.core.staging.localfile import DestinationTree
from airflow_dataflux.core.staging.plan import Batch, BatchKind
from airflow_dataflux.core.staging.ranged import RangedObject
from airflow_dataflux.core.staging.reading import Reader
from airflow_dataflux.core.staging.transfer import Outcome, Transfer, cutting_at_once

_WRITES = RetryPolicy(attempts=6, deadline_s=20.0)
"""Less patient than reads (about 4 s of back-off): what cannot be composed soon is read directly, and what cannot be
deleted here the owner deletes."""

_TIDY_CONNECTIONS = DELETING_THREADS
"""The last look at composites of unknown outcome comes when these are done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What a worker needs once.

    Attributes:
        store_config: how to reach Cloud Storage.
        bucket: of the objects and the composites.
        root: existing directory to build in.
        scope: begins the names of temporary files.
        strip_prefix: what paths lack of names.
        names: of composites.
        threads: batches fetched at once.
        budget_share: this worker's part of the bucket's request rates.
    """

    store_config: StoreConfig
    bucket: str
    root: str
    scope: str
    strip_prefix: str
    names: CompositeNames
    threads: int
    budget_share: float = 1.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """A batch to fetch; `round_` counts how often it was handed out before."""

    batch: Batch
    round_: int


@dataclass(frozen=True, slots=True)
class Finish:
    """No more batches come."""

    abandon: bool = False


@dataclass(frozen=True, slots=True)
class BatchDone:
    """A batch was fetched; `counts` are all requests of this worker so far."""

    outcome: Outcome
    counts: RequestCounts


@dataclass(frozen=True, slots=True)
class BatchFailed:
    """A batch could not be fetched."""

    number: int
    error: BaseException


@dataclass(frozen=True, slots=True)
class WorkerFinished:
    """The worker is done. `leftovers` are composites that it could not delete; `process` is where it lived."""

    leftovers: tuple[str, ...]
    counts: RequestCounts
    usage: Usage
    process: int = field(default_factory=os.getpid)


def stage_worker(link: WorkerLink) -> None:
    """Run a staging worker until it is told to finish."""
    setup = link.receive()
    if not isinstance(setup, Setup):
        if isinstance(setup, Finish):
            link.send(WorkerFinished((), RequestCounts(), process_usage()))
            return
        raise TypeError(f"expected a Setup, got {type(setup).__name__}")
    store = open_store(
        setup.store_config,
        link.tokens,
        connections=setup.threads + _TIDY_CONNECTIONS,
        cancel=link.cancel,
        budget_share=setup.budget_share,
    )
    # No cancel ends a compose or a delete: what was begun in the bucket is brought to a known end.
    writer = open_store(
        setup.store_config,
        link.tokens,
        connections=setup.threads + _TIDY_CONNECTIONS,
        budget_share=setup.budget_share,
        policy=_WRITES,
        beside=store,  # a thread composes, then reads: one connection does for both
    )
    with contextlib.ExitStack() as closing:
        closing.callback(writer.close)
        closing.callback(store.close)
        tree = DestinationTree(setup.root, setup.scope)
        closing.callback(tree.close)
        keeper = CompositeKeeper(writer, setup.bucket, setup.names.attempt)
        transfer = Transfer(
            Reader(store, setup.bucket, link.cancel),
            writer,
            tree,
            keeper,
            setup.names,
            setup.strip_prefix,
            threading.Semaphore(cutting_at_once(tree.seconds_a_file())),
        )
        pool = _Pool(link, transfer, setup.threads)
        try:
            pool.serve()
        finally:
            leftovers = keeper.close()
            link.send(WorkerFinished(leftovers, transfer.counts(), process_usage()))


class _Pool:
    """The threads, and the queue they take from."""

    def __init__(self, link: WorkerLink, transfer: Transfer, threads: int) -> None:
        self._link = link
        self._transfer = transfer
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ranged = _Countdown()
        self._abandoned = False
        self._threads = [
            threading.Thread(target=self._work, name=f"dataflux-stage-{number}", daemon=True)
            for number in range(threads)
        ]

    def serve(self) -> None:
        """Obey the owner until it says finish; return when all threads have ended."""
        for thread in self._threads:
            thread.start()
        try:
            while True:
                message = self._link.receive()
                if isinstance(message, Finish):
                    self._abandoned = message.abandon
                    return
                if isinstance(message, Assignment):
                    self._enqueue(self._job(message))
        except EOFError:
            self._abandoned = True
        finally:
            if not self._abandoned:
                self._ranged.wait()
            for _ in self._threads:
                self._queue.put(None)
            for thread in self._threads:
                thread.join()

    def _job(self, assignment: Assignment) -> Callable[[], None]:
        return lambda: self._run(assignment)

    def _enqueue(self, job: Callable[[], None]) -> None:
        self._queue.put(job)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job()

    def _run(self, assignment: Assignment) -> None:
        batch = assignment.batch
        if self._abandoned:
            return
        try:
            if batch.kind is BatchKind.RANGED:
                self._ranged.up()
                try:
                    self._start_ranged(batch)
                except BaseException:
                    self._ranged.down()
                    raise
                return
            outcome = self._transfer.run(batch, assignment.round_)
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            self._failed(batch, error)
        else:
            self._link.send(BatchDone(outcome, self._transfer.counts()))

    def _start_ranged(self, batch: Batch) -> None:
        def on_done(result: Outcome | BaseException) -> None:
            if isinstance(result, Outcome):
                self._link.send(BatchDone(result, self._transfer.counts()))
            else:
                self._failed(batch, result)
            self._ranged.down()

        RangedObject(self._transfer, batch, enqueue=self._enqueue, on_done=on_done).start()

    def _failed(self, batch: Batch, error: BaseException) -> None:
        if not isinstance(error, Exception):
            error = StagingError(f"A staging thread was ended by {type(error).__name__}.")
        self._link.send(BatchFailed(batch.number, error))


class _Countdown:
    """Counts what is under way beyond the queue."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def up(self) -> None:
        with self._changed:
            self._count += 1

    def down(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0)
