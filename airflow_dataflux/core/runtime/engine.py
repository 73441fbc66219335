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

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from airflow_dataflux.core.errors import AuthenticationError
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.jobs import Job
from airflow_dataflux.core.runtime.logs import RecordHandler
from airflow_dataflux.core.runtime.portable import portable_error
from airflow_dataflux.core.runtime.processes import ProcessGroup
from airflow_dataflux.core.runtime.protocol import (
    CancelJob,
    Event,
    Hello,
    JobDone,
    JobFailed,
    TokenAnswer,
    TokenRefused,
    TokenWanted,
)
from airflow_dataflux.core.runtime.tokens import CachedTokens, Token
from airflow_dataflux.core.runtime.workers import WorkerGroup

_GRACE_S = 7.0
"""How long a job may tidy up once its task is gone, before the process exits; nothing may run 10 s after a kill."""


class _TaskLink:
    """The engine's side of the pipes to its task: read by one thread, written by any."""

    def __init__(self, source: Connection, sink: Connection, cancel: CancelToken) -> None:
        self.source = source
        self.sink = sink
        self._cancel = cancel
        self._sending = threading.Lock()
        self._answers: queue.SimpleQueue[TokenAnswer] = queue.SimpleQueue()

    def post(self, frame: object) -> None:
        """Send a frame; a task that is gone is noticed by the reader."""
        with self._sending, contextlib.suppress(OSError):
            self.sink.send(frame)

    def fetch(self) -> Token | None:
        """Ask the task for a token. Called under the lock of CachedTokens, so one question is open at a time."""
        self.post(TokenWanted())
        answer = self._answers.get()
        if answer.error is not None:
            raise answer.error
        return answer.token

    def discard(self) -> None:
        """Tell the task that its token was refused."""
        self.post(TokenRefused())

    def read(self) -> None:
        """Obey the task until it is gone; then give the job a little time and end the process."""
        try:
            while True:
                frame = self.source.recv()
                if isinstance(frame, TokenAnswer):
                    self._answers.put(frame)
                elif isinstance(frame, CancelJob):
                    self._cancel.cancel(frame.reason)
        except (EOFError, OSError):
            self._cancel.cancel("the Airflow task of this engine ended")
            self._answers.put(
                TokenAnswer(None, AuthenticationError("The Airflow task that holds the credentials is gone."))
            )
        time.sleep(_GRACE_S)
        os._exit(1)


class _EngineContext:
    """The context of a job in the engine."""

    def __init__(self, workers: WorkerGroup, tokens: CachedTokens, cancel: CancelToken, link: _TaskLink) -> None:
        self.workers = workers
        self.tokens = tokens
        self.cancel = cancel
        self._link = link

    def emit(self, event: object) -> None:
        self._link.post(Event(event))


def _take_standard_streams() -> tuple[Connection, Connection]:
    """Keep the two pipes for frames alone: a stray print or read of anything imported must not disturb them."""
    source, sink = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return source, sink


def _run(job: Job, link: _TaskLink, cancel: CancelToken, log_level: int) -> Any:
    tokens = CachedTokens(link)
    # The order matters: the workers are forked before this process has a second thread.
    logging.getLogger("airflow_dataflux").setLevel(log_level)
    group = ProcessGroup(job.worker_body, job.workers, tokens=tokens, cancel=cancel, inherited=[link.source, link.sink])
    threading.Thread(target=link.read, name="dataflux-task-link", daemon=True).start()
    try:
        with RecordHandler(link.post).installed(log_level):
            return job.run(_EngineContext(group, tokens, cancel, link), job.payload)
    except BaseException as error:
        cancel.cancel(f"the job ended with {type(error).__name__}")
        raise
    finally:
        group.close()


def _import_arrow_alone() -> None:
    """Import Arrow as where NumPy is not installed, which it bears from version 18 on.

    No job has a use for NumPy, and it is 0.1 CPU-seconds and 12 MB for the engine, and a thread of its linear algebra
    that waits busily. Who imports NumPy later gets it.
    """
    if "numpy" in sys.modules:
        return
    sys.modules["numpy"] = None  # type: ignore[assignment]  # what makes an import fail (Python's import system, 5.3.1)
    try:
        import pyarrow._compute
        import pyarrow.parquet  # noqa: F401
    finally:
        del sys.modules["numpy"]


def main() -> int:
    """Run one job and return the exit code."""
    source, sink = _take_standard_streams()
    cancel = CancelToken()
    signal.signal(signal.SIGTERM, lambda _number, _frame: cancel.cancel("SIGTERM"))
    signal.signal(signal.SIGINT, lambda _number, _frame: cancel.cancel("SIGINT"))
    hello: Hello = source.recv()
    known = set(sys.path)
    sys.path.extend(entry for entry in hello.sys_path if entry not in known)
    _import_arrow_alone()
    job: Job = source.recv()
    link = _TaskLink(source, sink, cancel)
    try:
        link.post(JobDone(_run(job, link, cancel, hello.log_level)))
    except BaseException as error:  # noqa: BLE001 - handed to the task, which raises it
        link.post(JobFailed(portable_error(error)))
        return 1
    return 0


if __name__ == "__main__":
    # Frames were written synchronously; interpreter shutdown has nothing to add but time.
    os._exit(main())
