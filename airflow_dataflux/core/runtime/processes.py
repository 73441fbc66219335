"""Workers as processes, each joined to its owner by one pipe.

How a worker ends, whatever happens:
1. Its owner closes the link (`close`): the reader thread sees end-of-file, `receive` raises, the body returns.
2. Its owner is killed: the same end-of-file. It comes only because no other process holds the owner's end of the
   pipe open: every child closes the ends it inherited from its siblings.
3. SIGTERM to the whole process group: ignored here. The owner gets it too, cancels, and so gives the workers the
   time to remove what they made.
4. It hangs on after 1 or 2: a watchdog ends it after `_GRACE_S`.

Processes are forked on Linux: cheap, with the modules of the job already imported, and safe because a group is made
before its owner starts any thread. Elsewhere they are spawned.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final

from airflow_dataflux.core.errors import AuthenticationError, DatafluxError
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.logs import RecordHandler, forward_records
from airflow_dataflux.core.runtime.portable import portable_error
from airflow_dataflux.core.runtime.tokens import CachedTokens, Token
from airflow_dataflux.core.runtime.wakeup import WakeUp
from airflow_dataflux.core.runtime.workers import WorkerBody, WorkerEnded, WorkerEvent, WorkerMessage

_GRACE_S = 8.0
"""How long a worker may tidy up after its owner is gone; nothing may run 10 s after a kill."""

_JOIN_S = 10.0
"""How long `close` waits for a worker before it kills it: longer than the worker's own watchdog."""


@dataclass(frozen=True, slots=True)
class _Payload:
    """A message of the job, either way."""

    message: object


@dataclass(frozen=True, slots=True)
class _TokenWanted:
    """A worker asks for a token."""


@dataclass(frozen=True, slots=True)
class _TokenRefused:
    """A worker's token was refused: the owner must not hand it out again."""


@dataclass(frozen=True, slots=True)
class _TokenAnswer:
    """The owner's answer: a token, anonymous (None), or why there is none."""

    token: Token | None
    error: DatafluxError | None = None


@dataclass(frozen=True, slots=True)
class _Cancel:
    """The owner tells the worker to stop."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Failed:
    """The worker's last words: what left its body."""

    error: BaseException


class _Closed:
    """The last item of an inbox."""


_CLOSED: Final = _Closed()


class _ProcessLink:
    """A worker's side: the pipe, read by one thread, written by any."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[_TokenAnswer] = queue.SimpleQueue()
        self.cancel = CancelToken()
        self.tokens = CachedTokens(self)
        threading.Thread(target=self._read, name="dataflux-link", daemon=True).start()

    def send(self, message: object) -> None:
        self.post(_Payload(message))

    def post(self, frame: object) -> None:
        """Send a frame of this module; an owner that is gone has already been noticed by the reader."""
        with self._sending, contextlib.suppress(OSError):
            self._connection.send(frame)

    def receive(self) -> object:
        item = self._inbox.get()
        if item is _CLOSED:
            self._inbox.put(_CLOSED)
            raise EOFError("the owner closed the link")
        return item

    def fetch(self) -> Token | None:
        """Ask the owner for a token. Called under the lock of CachedTokens, so one question is open at a time."""
        self.post(_TokenWanted())
        answer = self._answers.get()
        if answer.error is not None:
            raise answer.error
        return answer.token

    def discard(self) -> None:
        """Tell the owner that its token was refused."""
        self.post(_TokenRefused())

    def _read(self) -> None:
        """Drain the pipe at all times, so that an owner's send never waits for a busy worker."""
        try:
            while True:
                frame = self._connection.recv()
                if isinstance(frame, _Payload):
                    self._inbox.put(frame.message)
                elif isinstance(frame, _TokenAnswer):
                    self._answers.put(frame)
                elif isinstance(frame, _Cancel):
                    self.cancel.cancel(frame.reason)
        except (EOFError, OSError):
            self._inbox.put(_CLOSED)
            self._answers.put(_TokenAnswer(None, AuthenticationError("The owner of this worker is gone.")))
            self.cancel.cancel("the owner of this worker process ended")
        time.sleep(_GRACE_S)
        os._exit(1)


def _live(body: WorkerBody, connection: Connection, inherited: list[Connection], log_level: int) -> None:
    """Run a worker process from its first to its last line."""
    for other in inherited:
        other.close()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = _ProcessLink(connection)
    with RecordHandler(link.post).installed(log_level):
        try:
            body(link)
        except EOFError:
            pass  # the owner closed the link: a normal end
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            link.post(_Failed(portable_error(error)))
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
        self._log_level = logging.getLogger("airflow_dataflux").getEffectiveLevel()
        self._connections: list[Connection | None] = []
        self._processes: list[BaseProcess] = []
        self._errors: dict[int, BaseException] = {}
        self._told_to_cancel = False
        self._wake = WakeUp()
        self._waking = cancel.waking(self._wake.set)
        self._waking.__enter__()
        for worker in range(count):
            self._connections.append(None)
            connection, process = self._start(worker)
            self._connections[worker] = connection
            self._processes.append(process)

    @property
    def count(self) -> int:
        """How many workers the group was made with."""
        return len(self._processes)

    def pid(self, worker: int) -> int | None:
        """Return the process id of a worker."""
        return self._processes[worker].pid

    def send(self, worker: int, message: object) -> None:
        """Send a message of the job to a worker."""
        self._post(worker, _Payload(message))

    def wait(self, timeout_s: float | None = None) -> list[WorkerEvent]:
        """Wait on all pipes at once; a dead worker's pipe is at its end and so wakes this at once."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._cancel.cancelled and not self._told_to_cancel:
                self._told_to_cancel = True
                for worker in range(self.count):
                    self._post(worker, _Cancel(self._cancel.reason))
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
                    self._post(worker, _Cancel(self._cancel.reason))
                connection.close()
                self._connections[worker] = None
        deadline = time.monotonic() + _JOIN_S
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._waking.__exit__(None, None, None)
        self._wake.__exit__(None, None, None)

    def _start(self, worker: int) -> tuple[Connection, BaseProcess]:
        ours, theirs = self._context.Pipe()
        inherited = [*self._inherited, ours, *(c for c in self._connections if c is not None)]
        if self._context.get_start_method() != "fork":
            inherited = []
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_live,
            args=(self._body, theirs, inherited, self._log_level),
            name=f"dataflux-worker-{worker}",
            daemon=True,
        )
        process.start()
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
                frame = connection.recv()
                if isinstance(frame, _Payload):
                    found.append(WorkerMessage(worker, frame.message))
                elif isinstance(frame, _TokenWanted):
                    self._answer(worker)
                elif isinstance(frame, _TokenRefused):
                    self._tokens.discard()
                elif isinstance(frame, _Failed):
                    self._errors[worker] = frame.error
                else:
                    forward_records(frame)
        except (EOFError, OSError):
            connection.close()
            self._connections[worker] = None
            process = self._processes[worker]
            process.join(_JOIN_S)
            found.append(WorkerEnded(worker, process.exitcode, self._errors.pop(worker, None)))
        return found

    def _answer(self, worker: int) -> None:
        try:
            answer = _TokenAnswer(self._tokens.fetch())
        except DatafluxError as error:
            answer = _TokenAnswer(None, error)
        self._post(worker, answer)
