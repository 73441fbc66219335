"""What a run that fetches objects hands over, from the task to its engine to its workers and back. Plain, picklable.

Stagings and packs use the same messages. Between the owner of the workers and each of them, in this order:
1. owner -> worker: a `WorkerSetup`.
2. owner -> worker: `Assignment`, as many as the owner likes; the worker answers each with one `WorkDone` or
   `WorkFailed`, in any order. In between it may send `WorkProgress`.
3. owner -> worker: `NoMoreWork`. With `abandon`, work that was not begun is dropped without an answer.
4. worker -> owner: `WorkerFinished`: its composites are deleted, or named in it.

The end of the link, or a cancel, is a `NoMoreWork(abandon=True)`; what is sent then reaches nobody if the owner is
gone, but the composites are deleted all the same.
"""

from __future__ import annotations

import os
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from airflow_dataflux.core.gcs.store import RequestCounts, StoreFactory
from airflow_dataflux.core.runtime.usage import Usage
from airflow_dataflux.core.staging.composites import CompositeNames

RequestT = TypeVar("RequestT")


class RunPayload(msgspec.Struct, Generic[RequestT], frozen=True, kw_only=True):
    """What travels from the task to the engine: the payload of the job.

    Attributes:
        reference: of the manifest.
        request: the staging's or the pack's.
        store_config: how to reach Cloud Storage.
        started: on the monotonic clock, which all processes of a machine share.
    """

    reference: dict[str, Any]
    request: RequestT
    store_config: StoreFactory
    started: float


class WorkerSetup(msgspec.Struct, Generic[RequestT], frozen=True, kw_only=True):
    """What each worker needs once; what a run needs besides is in its own kind of setup.

    Attributes:
        request: the staging's or the pack's.
        store_config: how to reach Cloud Storage.
        bucket: of the objects and the composites.
        names: of composites.
        threads: assignments that are worked on at once.
        fetches: requests in flight for the sake of them.
        budget_share: this worker's part of the bucket's request rates.
    """

    request: RequestT
    store_config: StoreFactory
    bucket: str
    names: CompositeNames
    threads: int
    fetches: int
    budget_share: float = 1.0


class WorkItem(Protocol):
    """Something to do for a worker: a batch of a staging, a shard of a pack."""

    @property
    def number(self) -> int:
        """Tells it from others of the same run."""
        ...


class Assignment(msgspec.Struct, frozen=True):
    """Something to do; `round_` counts how often it was handed out before."""

    work: Any
    round_: int


class NoMoreWork(msgspec.Struct, frozen=True):
    """Nothing more comes."""

    abandon: bool = False


class WorkDone(msgspec.Struct, frozen=True):
    """Work is done; `counts` are all requests of this worker so far."""

    number: int
    result: Any
    counts: RequestCounts


class WorkFailed(msgspec.Struct, frozen=True):
    """Work could not be done."""

    number: int
    error: Exception


class WorkProgress(msgspec.Struct, frozen=True):
    """How far work has come that is not done yet: so many more objects and bytes."""

    objects: int
    bytes: int


class WorkerFinished(msgspec.Struct, frozen=True):
    """The worker is done. `leftovers` are composites that it could not delete; `process` is where it lived."""

    leftovers: tuple[str, ...]
    counts: RequestCounts
    usage: Usage
    process: int = msgspec.field(default_factory=os.getpid)
