"""Workers as processes, each joined to its owner by one pipe.

How a worker ends, whatever happens:
1. Its owner closes the link (`close`): the reader thread sees end-of-file, `receive` raises, the body returns.
2. Its owner is killed: the same end-of-file. It comes only because no other process holds the owner's end of the
   pipe open: every child closes the ends it inherited from its siblings.
3. SIGTERM to the whole process group: ignored here. The owner gets it too, cancels, and so gives the workers the
   time to remove what they made.
4. It hangs on after 1 or 2: its link ends it after `WORKER_ORPHAN_S`.

Processes are forked on Linux: cheap, with the modules of the job already imported, and safe because a group is made
before its owner starts any thread. Elsewhere they are spawned.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from airflow_dataflux.core.runtime.cancel import CancelToken, WakeUp
from airflow_dataflux.core.runtime.protocol import (
    PACKAGE_LOGGER,
    Cancel,
    Failed,
    Message,
    ParentLink,
    logging_to,
    portable_error,
    serve,
)
from airflow_dataflux.core.runtime.threads import not_started
from airflow_dataflux.core.runtime.timeouts import WORKER_JOIN_S, WORKER_ORPHAN_S
from airflow_dataflux.core.runtime.tokens import CachedTokens
from airflow_dataflux.core.runtime.workers import WorkerBody, WorkerEnded, WorkerEvent, WorkerMessage


def _live(body: WorkerBody, connection: Connection, inherited: list[Connection], log_level: int) -> None:
    """Run a worker process from its first to its last line."""
    for other in inherited:
        other.close()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = ParentLink(connection, connection, CancelToken(), orphan_s=WORKER_ORPHAN_S)
    with logging_to(link.post, log_level):
        try:
            link.start_listening()
            body(link)
        except EOFError:
            pass  # the owner closed the link: a normal end
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            link.post(Failed(portable_error(error)))
    sys.stderr.flush()
    # Threads of the body are joined by the body. Interpreter shutdown would only run what the fork inherited.
    connection.close()
    os._exit(0)


class ProcessGroup:
    """Workers as processes. See `WorkerGroup`. Make it before the first thread of the process that owns it."""

    def __init__(
        self,
        body: WorkerBody,
        count: int,
        *,
        tokens: CachedTokens,
        cancel: CancelToken,
        inherited: list[Connection] | None = None,
    ) -> None:
        """Start `count` workers; `inherited` are connections of the owner that a forked child must not keep open."""
        self._body = body
        self._tokens = tokens
        self._cancel = cancel
        self._inherited = list(inherited or ())
        self._context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._log_level = logging.getLogger(PACKAGE_LOGGER).getEffectiveLevel()
        self._connections: list[Connection | None] = []
        self._processes: list[BaseProcess] = []
        self._errors: dict[int, BaseException] = {}
        self._told_to_cancel = False
        self._wake = WakeUp()
        self._waking = cancel.waking(self._wake.set)
        self._waking.__enter__()
        try:
            for worker in range(count):
                self._connections.append(None)
                connection, process = self._start(worker)
                self._connections[worker] = connection
                self._processes.append(process)
        except BaseException:
            self.close()
            raise

    @property
    def count(self) -> int:
        """How many workers the group was made with."""
        return len(self._processes)

    def send(self, worker: int, message: object) -> None:
        """Send a message of the job to a worker."""
        self._post(worker, Message(message))

    def wait(self, timeout_s: float | None = None) -> list[WorkerEvent]:
        """Wait on all pipes at once; a dead worker's pipe is at its end and so wakes this at once."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._cancel.cancelled and not self._told_to_cancel:
                self._told_to_cancel = True
                for worker in range(self.count):
                    self._post(worker, Cancel(self._cancel.reason))
            open_connections = {c: worker for worker, c in enumerate(self._connections) if c is not None}
            remaining_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = wait([*open_connections, self._wake.reader], remaining_s)
            woken = self._wake.reader in ready
            if woken:
                self._wake.clear()
            found: list[WorkerEvent] = []
            for connection, worker in open_connections.items():
                if connection in ready:
                    found.extend(self._drain(worker, connection))
            if found or not ready or (woken and self._told_to_cancel):
                return found

    def replace(self, worker: int) -> None:
        """Start a new process in place of one that has ended."""
        self._connections[worker], self._processes[worker] = self._start(worker)

    def close(self) -> None:
        """Close all links and join the processes; kill those that do not end."""
        for worker, connection in enumerate(self._connections):
            if connection is not None:
                if self._cancel.cancelled:
                    self._post(worker, Cancel(self._cancel.reason))
                connection.close()
                self._connections[worker] = None
        deadline = time.monotonic() + WORKER_JOIN_S
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._waking.__exit__(None, None, None)
        self._wake.__exit__(None, None, None)

    def _start(self, worker: int) -> tuple[Connection, BaseProcess]:
        what = f"Worker process {worker}"
        try:
            ours, theirs = self._context.Pipe()
        except OSError as error:
            raise not_started(what, error) from error
        inherited = [*self._inherited, ours, *(c for c in self._connections if c is not None)]
        if self._context.get_start_method() != "fork":
            inherited = []
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_live,
            args=(self._body, theirs, inherited, self._log_level),
            name=f"dataflux-worker-{worker}",
            daemon=True,
        )
        try:
            process.start()
        except OSError as error:
            ours.close()
            raise not_started(what, error) from error
        finally:
            theirs.close()
        return ours, process

    def _post(self, worker: int, frame: object) -> None:
        connection = self._connections[worker]
        if connection is not None:
            with contextlib.suppress(OSError):  # it died: the end of its pipe is about to be seen
                connection.send(frame)

    def _drain(self, worker: int, connection: Connection) -> list[WorkerEvent]:
        found: list[WorkerEvent] = []
        try:
            while connection.poll():
                match connection.recv():
                    case Message(content):
                        found.append(WorkerMessage(worker, content))
                    case Failed(error):
                        self._errors[worker] = error
                    case frame:
                        serve(frame, self._tokens, functools.partial(self._post, worker))
        except (EOFError, OSError):
            connection.close()
            self._connections[worker] = None
            process = self._processes[worker]
            process.join(WORKER_JOIN_S)
            found.append(WorkerEnded(worker, process.exitcode, self._errors.pop(worker, None)))
        return found
