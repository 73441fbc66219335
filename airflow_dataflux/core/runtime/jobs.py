"""A job: one function that owns a group of workers, run in this process or in an engine process.

An Airflow task may not start multiprocessing children under most executors, so a large job runs *isolated*: in a
fresh process that imports neither Airflow nor DAG code (`engine.py`). A small one, and most tests, run the very same
functions here with threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.threads import ThreadGroup
from airflow_dataflux.core.runtime.tokens import TokenSource
from airflow_dataflux.core.runtime.workers import WorkerBody, WorkerGroup


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _InProcessContext:
    workers: WorkerGroup
    tokens: TokenSource
    cancel: CancelToken
    emit: Callable[[object], None]


def run_job(
    job: Job,
    *,
    tokens: TokenSource,
    cancel: CancelToken,
    on_event: Callable[[object], None],
    isolated: bool,
) -> Any:
    """Run a job and return its result.

    Args:
        job: what to run.
        tokens: where the job's requests get their access tokens; asked in the calling thread.
        cancel: stops the job; CancelledError is then raised within a few seconds.
        on_event: called in the calling thread for each event that the job emits.
        isolated: run in an engine process with real worker processes; else here, with threads.

    Raises:
        EngineError: the engine process died.
        CancelledError: `cancel` was set before the job was done.
        Exception: whatever left the job, as it was raised there.
    """
    if isolated:
        from airflow_dataflux.core.runtime.launch import run_in_engine

        return run_in_engine(job, tokens=tokens, cancel=cancel, on_event=on_event)
    group = ThreadGroup(job.worker_body, job.workers, tokens=tokens, cancel=cancel)
    try:
        context = _InProcessContext(workers=group, tokens=tokens, cancel=cancel, emit=on_event)
        return job.run(context, job.payload)
    except BaseException as error:
        # The workers must not go on with what nobody waits for any more.
        cancel.cancel(f"the job ended with {type(error).__name__}")
        raise
    finally:
        group.close()
