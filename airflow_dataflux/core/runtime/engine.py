"""The engine: a fresh process that runs one job for an Airflow task, `python -m airflow_dataflux.core.runtime.engine`.

It imports neither Airflow nor DAG code. It is handed its job over its standard input, a pipe, and answers over its
standard output, another pipe; nothing secret touches a command line, the environment or a disk.

How it ends, whatever happens:
1. The job returns or raises: it sends that as the last frame and exits.
2. The task cancels it (a frame), or SIGTERM reaches it (Airflow sends it to the whole process group, sometimes
   twice): the job's cancel token is set, the job tidies up and raises.
3. The task is gone (end-of-file of standard input): as 2, with nobody to tell.
4. After 2 or 3, a job that does not end in time: the process exits, and its workers see end-of-file in turn.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.process_workers import ProcessGroup
from airflow_dataflux.core.runtime.protocol import (
    PACKAGE_LOGGER,
    Done,
    Failed,
    Hello,
    ParentLink,
    logging_to,
    portable_error,
)
from airflow_dataflux.core.runtime.timeouts import ENGINE_ORPHAN_S
from airflow_dataflux.core.runtime.tokens import CachedTokens
from airflow_dataflux.core.runtime.workers import Job, WorkerGroup
from airflow_dataflux.lazy_exports import without_numpy


class _EngineContext:
    """The context of a job in the engine."""

    def __init__(self, workers: WorkerGroup, link: ParentLink) -> None:
        self.workers = workers
        self._link = link

    @property
    def tokens(self) -> CachedTokens:
        return self._link.tokens

    @property
    def cancel(self) -> CancelToken:
        return self._link.cancel

    def emit(self, event: object) -> None:
        self._link.send(event)


def _take_standard_streams() -> tuple[Connection, Connection]:
    """Keep the two pipes for frames alone: a stray print or read of anything imported must not disturb them."""
    source, sink = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return source, sink


def _run(job: Job, link: ParentLink, inherited: list[Connection], log_level: int) -> Any:
    # The order matters: the workers are forked before this process has a second thread.
    logging.getLogger(PACKAGE_LOGGER).setLevel(log_level)
    group = ProcessGroup(job.worker_body, job.workers, tokens=link.tokens, cancel=link.cancel, inherited=inherited)
    link.start_listening()
    try:
        with logging_to(link.post, log_level):
            return job.run(_EngineContext(group, link), job.payload)
    except BaseException as error:
        link.cancel.cancel(f"the job ended with {type(error).__name__}")
        raise
    finally:
        group.close()


def main() -> int:
    """Run one job and return the exit code."""
    source, sink = _take_standard_streams()
    cancel = CancelToken()
    signal.signal(signal.SIGTERM, lambda _number, _frame: cancel.cancel("SIGTERM"))
    signal.signal(signal.SIGINT, lambda _number, _frame: cancel.cancel("SIGINT"))
    hello: Hello = source.recv()
    known = set(sys.path)
    sys.path.extend(entry for entry in hello.sys_path if entry not in known)
    with without_numpy():
        import pyarrow._compute
        import pyarrow.parquet  # noqa: F401
    try:
        job: Job = source.recv()
    except EOFError:
        return 0  # started ahead, and there was nothing to do in the end
    link = ParentLink(source, sink, cancel, orphan_s=ENGINE_ORPHAN_S)
    try:
        link.post(Done(_run(job, link, [source, sink], hello.log_level)))
    except BaseException as error:  # noqa: BLE001 - handed to the task, which raises it
        link.post(Failed(portable_error(error)))
        return 1
    return 0


if __name__ == "__main__":
    # Frames were written synchronously; interpreter shutdown has nothing to add but time.
    os._exit(main())
