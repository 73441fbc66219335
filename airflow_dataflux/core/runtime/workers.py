"""A job and its workers: what a job is, and the two sides of a group of workers.

`process_workers.py` and `thread_workers.py` are the two implementations; code written against these protocols runs in
either.

Guarantees:
- Messages of one worker arrive in the order in which it sent them, and its `WorkerEnded` comes last, once.
- A worker that dies is noticed at once (through its sentinel and the end of its pipe), never by a time-out.
- A worker whose owner is gone sees `cancel` set and `receive` raise EOFError; it cannot outlive its owner for long.
- An exception that leaves a worker's body arrives in its `WorkerEnded`.

Assumption: one thread of the owner uses the group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import TokenSource


class WorkerLink(Protocol):
    """What a worker's body gets: its owner, where tokens come from, and whether to stop."""

    @property
    def tokens(self) -> TokenSource:
        """Tokens of the owner, cached in the worker."""
        ...

    @property
    def cancel(self) -> CancelToken:
        """Set when the owner cancels or is gone."""
        ...

    def send(self, message: object) -> None:
        """Send a picklable message to the owner. Thread-safe. To an owner that is gone: does nothing."""
        ...

    def receive(self) -> object:
        """Wait for the owner's next message. Raises EOFError once the owner closed the link or is gone."""
        ...


WorkerBody = Callable[[WorkerLink], None]
"""A module-level function: the whole life of a worker. It receives its work as messages and returns at EOFError."""


class WorkerMessage(msgspec.Struct, frozen=True):
    """A message that the worker of this index sent."""

    worker: int
    message: object


class WorkerEnded(msgspec.Struct, frozen=True):
    """The worker of this index has ended and sends no more.

    Attributes:
        worker: its index.
        exitcode: of its process: 0 for a normal end, -9 for SIGKILL; None for a thread.
        error: what left its body, if anything did and could be sent.
    """

    worker: int
    exitcode: int | None
    error: BaseException | None


WorkerEvent = WorkerMessage | WorkerEnded


class WorkerGroup(Protocol):
    """The owner's side of workers 0 to `count - 1`."""

    @property
    def count(self) -> int:
        """How many workers the group was made with."""
        ...

    def send(self, worker: int, message: object) -> None:
        """Send a picklable message to a worker. To one that has ended: does nothing, its WorkerEnded tells."""
        ...

    def wait(self, timeout_s: float | None = None) -> list[WorkerEvent]:
        """Wait for events and return all there are; an empty list after `timeout_s` seconds or on a cancel.

        A cancel is passed on to all workers here. After it, go on waiting only for what the workers still send.
        """
        ...

    def replace(self, worker: int) -> None:
        """Start a new worker in place of one whose WorkerEnded was returned."""
        ...

    def close(self) -> None:
        """Close all links and wait for the workers to end; a process that does not is killed."""
        ...


class JobContext(Protocol):
    """What a running job has."""

    @property
    def workers(self) -> WorkerGroup:
        """The job's workers, started and waiting for their first message."""
        ...

    @property
    def tokens(self) -> TokenSource:
        """Tokens of the caller, cached."""
        ...

    @property
    def cancel(self) -> CancelToken:
        """Set when the caller cancels or is gone. The job then tidies up and raises CancelledError, within seconds."""
        ...

    def emit(self, event: object) -> None:
        """Send a picklable event to the caller's `on_event`."""
        ...


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to run.

    Attributes:
        run: module-level function of a context and the payload; its result must pickle.
        worker_body: the life of each worker.
        workers: how many.
        payload: picklable, without credentials.
    """

    run: Callable[[JobContext, Any], Any]
    worker_body: WorkerBody
    workers: int
    payload: Any
