"""The life of a worker that fetches: it opens what it needs, and its threads do what the owner hands out.

Stagings (`stage_worker.py`) and packs (`core.packing.pack_worker`) differ in what they do with an assignment, and in
nothing else that is here. `messages.py` has what owner and worker say to each other.

Guarantees: each assignment is answered once, unless it was abandoned; when `run_worker` returns, its threads have ended
and its composites are deleted, or named in the last message.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from airflow_dataflux.core.errors import StagingError
from airflow_dataflux.core.gcs.retry import RetryPolicy
from airflow_dataflux.core.gcs.store import RequestCounts, Store, StoreOptions
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.threads import join_started, start_threads
from airflow_dataflux.core.runtime.usage import process_usage
from airflow_dataflux.core.runtime.workers import WorkerLink
from airflow_dataflux.core.staging.composite_registry import DELETING_THREADS, CompositeRegistry
from airflow_dataflux.core.staging.messages import (
    Assignment,
    NoMoreWork,
    WorkDone,
    WorkerFinished,
    WorkerSetup,
    WorkFailed,
)
from airflow_dataflux.core.staging.transfer import ObjectReader

_WRITES = RetryPolicy(attempts=6, deadline_s=20.0, answer_s=9.0)
"""Less patient than reads (about 4 s of back-off): what cannot be composed soon is read directly, and what cannot be
deleted here the owner deletes. An answer stays out for nine seconds at most, after which a cancel is heard."""

SetupT = TypeVar("SetupT", bound=WorkerSetup[Any])


class BucketAccess(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has to do with the bucket.

    Attributes:
        store: for reads and for what is written elsewhere; a cancel ends its requests.
        composing_store: for composites; no cancel ends a delete, or a compose that was sent, so that what was begun in
            the bucket is brought to a known end.
        reader: reads objects and composites.
        registry: keeps track of composites.
        cancel: the worker's.
    """

    store: Store
    composing_store: Store
    reader: ObjectReader
    registry: CompositeRegistry
    cancel: CancelToken

    def counts(self) -> RequestCounts:
        """Return the requests sent so far."""
        return self.store.counts() + self.composing_store.counts()


class WorkAnswer:
    """How an assignment is answered: call one of the two, once, from any thread."""

    def __init__(self, number: int, send: Callable[[object], None], counts: Callable[[], RequestCounts]) -> None:
        self._number = number
        self._send = send
        self._counts = counts

    def done(self, result: object) -> None:
        """Send the result."""
        self._send(WorkDone(self._number, result, self._counts()))

    def failed(self, error: BaseException) -> None:
        """Send what went wrong."""
        if not isinstance(error, Exception):
            error = StagingError(f"A worker's thread was ended by {type(error).__name__}.")
        self._send(WorkFailed(self._number, error))


class WorkerThreads:
    """The threads of a worker, and the queue they take from."""

    def __init__(self, link: WorkerLink, count: int, counts: Callable[[], RequestCounts]) -> None:
        self._link = link
        self._counts = counts
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._unanswered = 0
        self._abandoned = False
        self._threads = [
            threading.Thread(target=self._live, name=f"dataflux-worker-{number}", daemon=True)
            for number in range(count)
        ]

    def enqueue(self, job: Callable[[], None]) -> None:
        """Have a part of an assignment done, behind all that waits already. It must not raise."""
        self._queue.put(job)

    def tell(self, message: object) -> None:
        """Send the owner a message that answers nothing."""
        self._link.send(message)

    def serve(self, work: Callable[[Assignment, WorkAnswer], None]) -> None:
        """Obey the owner until it says that no more comes; return when all threads have ended.

        `work` does an assignment, in one of the threads, and answers it, then or later.
        """
        try:
            start_threads(self._threads)
            while True:
                message = self._link.receive()
                if isinstance(message, NoMoreWork):
                    self._abandoned = message.abandon
                    return
                if isinstance(message, Assignment):
                    self._take(message, work)
        except EOFError:
            self._abandoned = True
        finally:
            if not self._abandoned:
                with self._changed:
                    self._changed.wait_for(lambda: self._unanswered == 0)
            for _ in self._threads:
                self._queue.put(None)
            join_started(self._threads)

    def _take(self, assignment: Assignment, work: Callable[[Assignment, WorkAnswer], None]) -> None:
        answer = WorkAnswer(assignment.work.number, self._answer, self._counts)

        def job() -> None:
            if self._abandoned:
                return
            try:
                work(assignment, answer)
            except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
                answer.failed(error)

        with self._changed:
            self._unanswered += 1
        self._queue.put(job)

    def _answer(self, message: object) -> None:
        self._link.send(message)
        with self._changed:
            self._unanswered -= 1
            self._changed.notify_all()

    def _live(self) -> None:
        while (job := self._queue.get()) is not None:
            job()


def run_worker(
    link: WorkerLink, kind: type[SetupT], serve: Callable[[SetupT, BucketAccess, WorkerThreads], None]
) -> None:
    """Live as a worker whose setup is of this kind: `serve` gets its threads to work (`WorkerThreads.serve`)."""
    setup = link.receive()
    if isinstance(setup, NoMoreWork):
        link.send(WorkerFinished((), RequestCounts(), process_usage()))
        return
    if not isinstance(setup, kind):
        raise TypeError(f"expected a {kind.__name__}, got {type(setup).__name__}")
    connections = setup.fetches + DELETING_THREADS
    store = setup.store_config.open(
        link.tokens,
        StoreOptions(connections=connections, cancel=link.cancel, budget_share=setup.budget_share),
    )
    with contextlib.ExitStack() as closing:
        closing.callback(store.close)
        composing_store = setup.store_config.open(
            link.tokens,
            StoreOptions(
                connections=connections,
                budget_share=setup.budget_share,
                policy=_WRITES,
                cancel_composes=link.cancel,
                beside=store,  # a thread composes, then reads: one connection does for both
            ),
        )
        closing.callback(composing_store.close)
        access = BucketAccess(
            store=store,
            composing_store=composing_store,
            reader=ObjectReader(store, setup.bucket, link.cancel),
            registry=CompositeRegistry(composing_store, setup.bucket, setup.names.attempt),
            cancel=link.cancel,
        )
        try:
            serve(setup, access, WorkerThreads(link, setup.threads, access.counts))
        finally:
            leftovers = access.registry.close()
            link.send(WorkerFinished(leftovers, access.counts(), process_usage()))
