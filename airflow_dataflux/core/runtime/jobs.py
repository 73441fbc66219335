"""Run a job, one function that owns a group of workers, in this process or in an engine process.

An Airflow task may not start multiprocessing children under most executors, so a large job runs *isolated*: in a
fresh process that imports neither Airflow nor DAG code (`engine.py`). A small one, and most tests, run the very same
functions here with threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.thread_workers import ThreadGroup
from airflow_dataflux.core.runtime.tokens import TokenSource
from airflow_dataflux.core.runtime.workers import Job, WorkerGroup

if TYPE_CHECKING:
    from airflow_dataflux.core.runtime.launch import Engine


class _InProcessContext(msgspec.Struct, frozen=True, kw_only=True):
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
    engine: Engine | None = None,
) -> Any:
    """Run a job and return its result.

    Args:
        job: what to run.
        tokens: where the job's requests get their access tokens; asked in the calling thread.
        cancel: stops the job; CancelledError is then raised within a few seconds.
        on_event: called in the calling thread for each event that the job emits.
        isolated: run in an engine process with real worker processes; else here, with threads.
        engine: one that was started ahead for this job; None: a new one, if the job is isolated.

    Raises:
        EngineError: the engine process died.
        CancelledError: `cancel` was set before the job was done.
        Exception: whatever left the job, as it was raised there.
    """
    if isolated:
        from airflow_dataflux.core.runtime.launch import run_in_engine

        return run_in_engine(job, tokens=tokens, cancel=cancel, on_event=on_event, engine=engine)
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
