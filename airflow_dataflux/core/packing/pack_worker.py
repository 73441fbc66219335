"""What a worker of a pack does: a few threads write a shard each, and many fetch what goes into them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec

from airflow_dataflux.core.config import PackRequest
from airflow_dataflux.core.packing.pack_index import INDEX_NAME
from airflow_dataflux.core.packing.pack_output import PackOutput
from airflow_dataflux.core.packing.shard_plan import ShardPlan
from airflow_dataflux.core.packing.shard_writer import (
    FetchedPiece,
    Piece,
    PieceFetcher,
    PieceWriter,
    ShardWriter,
)
from airflow_dataflux.core.runtime.threads import ThreadPool
from airflow_dataflux.core.runtime.workers import WorkerLink
from airflow_dataflux.core.staging.batching import BatchRules
from airflow_dataflux.core.staging.fetch_worker import BucketAccess, WorkAnswer, WorkerThreads, run_worker
from airflow_dataflux.core.staging.messages import Assignment, WorkerSetup, WorkProgress
from airflow_dataflux.core.staging.transfer import BatchResult, ComposeRefusals, Cutting, Transfer

SHARDS_AT_ONCE = 3
"""Shards that a worker writes side by side: an upload is one connection, and one waits while another sends."""

_WINDOW_BYTES = 24 << 20
"""What a worker has under way of objects that are not written yet; a piece takes twice its bytes while it is joined."""

_TELL_EVERY_S = 1.0

_CUTTING = Cutting(2)
"""Cutting a composite copies memory under the interpreter's lock: more threads at it only take it from each other."""


class PackSetup(WorkerSetup[PackRequest], frozen=True, kw_only=True):
    """The setup of a pack's worker; its threads write a shard each.

    Attributes:
        rules: what is composed.
        fetching_threads: pieces fetched at once.
    """

    rules: BatchRules
    fetching_threads: int


_PLAN = msgspec.msgpack.Decoder(ShardPlan)


class ShardToWrite(msgspec.Struct, frozen=True):
    """A shard, encoded: pickling its members one by one takes ten times as long."""

    number: int
    encoded: bytes

    @classmethod
    def of(cls, plan: ShardPlan) -> ShardToWrite:
        """Encode a plan."""
        return cls(plan.index, msgspec.msgpack.encode(plan))

    def plan(self) -> ShardPlan:
        """Decode it."""
        return _PLAN.decode(self.encoded)


def pack_worker(link: WorkerLink) -> None:
    """Run a packing worker until there are no more shards."""
    run_worker(link, PackSetup, _pack)


def _pack(setup: PackSetup, access: BucketAccess, threads: WorkerThreads) -> None:
    output = PackOutput(setup.request.output, access.store)
    output.prepare()
    composing = _Composing(setup.rules)
    progress = _ProgressTeller(threads.tell)

    def transfer(open_writer: Callable[[], PieceWriter]) -> Transfer:
        return Transfer(access.reader, access.composing_store, open_writer, access.registry, setup.names, "", _CUTTING)

    fetcher = PieceFetcher(transfer, composing.rules)

    def fetch(shard_index: int, piece: Piece, round_: int) -> FetchedPiece:
        fetched = fetcher.fetch(shard_index, piece, round_)
        for result in fetched.results:
            composing.learn(result)
        return fetched

    with ThreadPool(setup.fetching_threads, "dataflux-fetch") as fetching:
        writer = ShardWriter(
            bucket=setup.bucket,
            output=output,
            fetch=fetch,
            submit=fetching.submit,
            window_bytes=_WINDOW_BYTES // setup.threads,
            window_pieces=max(2, setup.fetching_threads // setup.threads),
            on_changed_object=setup.request.on_changed_object,
            on_written=progress.add,
            on_replace=_IndexRemoval(output).remove,
            check=access.cancel.raise_if_cancelled,
        )

        def work(assignment: Assignment, answer: WorkAnswer) -> None:
            result = writer.write(assignment.work.plan(), assignment.round_)
            progress.flush()
            answer.done(result)

        try:
            threads.serve(work)
        finally:
            output.close()


class _IndexRemoval:
    """Takes back the index of an earlier pack before a shard changes: it would describe what is not there."""

    def __init__(self, output: PackOutput) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._removed = False

    def remove(self) -> None:
        with self._lock:
            if not self._removed:
                self._output.delete(INDEX_NAME)
                self._removed = True


class _Composing:
    """What is composed: as the owner said, until Cloud Storage will not. Thread-safe."""

    def __init__(self, rules: BatchRules) -> None:
        self._rules = rules
        self._lock = threading.Lock()
        self._refusals = ComposeRefusals()

    def rules(self) -> BatchRules:
        return self._rules

    def learn(self, result: BatchResult) -> None:
        """Stop composing once composes were refused often enough."""
        with self._lock:
            self._refusals.count(result)
            if self._refusals.stop_reason and self._rules.compose:
                self._rules = msgspec.structs.replace(
                    self._rules, compose=False, no_compose_reason=self._refusals.stop_reason
                )


class _ProgressTeller:
    """Tells the owner once a second what went into shards. Thread-safe."""

    def __init__(self, tell: Callable[[WorkProgress], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._objects = self._bytes = 0
        self._next = time.monotonic() + _TELL_EVERY_S

    def add(self, objects: int, size: int) -> None:
        with self._lock:
            self._objects += objects
            self._bytes += size
            due = time.monotonic() >= self._next
        if due:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            progress = WorkProgress(self._objects, self._bytes)
            self._objects = self._bytes = 0
            self._next = time.monotonic() + _TELL_EVERY_S
        if progress.objects or progress.bytes:
            self._tell(progress)
