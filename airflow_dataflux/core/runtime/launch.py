"""The task's side of an engine: start it, answer it, and never leave it behind.

Guarantees: when `run_in_engine` returns or raises, the engine process has ended. Assumption: called from one thread,
which may be interrupted by an exception at any line (Airflow raises its time-out into the task's main thread).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any

from airflow_dataflux.core.errors import CancelledError, EngineError
from airflow_dataflux.core.runtime.cancel import CancelToken, WakeUp
from airflow_dataflux.core.runtime.protocol import PACKAGE_LOGGER, Cancel, Done, Failed, Hello, Message, serve
from airflow_dataflux.core.runtime.threads import not_started, start_threads
from airflow_dataflux.core.runtime.timeouts import ENGINE_CANCEL_S
from airflow_dataflux.core.runtime.tokens import CachedTokens, TokenSource
from airflow_dataflux.core.runtime.workers import Job

logger = logging.getLogger(__name__)

_STDERR_LINES = 40
"""How many of the engine's last lines on stderr are kept to explain its death."""

ALLOCATOR = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
"""One small heap for many threads. With an arena a thread (Arrow's own allocator, and glibc's default), a listing of
1 M objects by 64 streams held 1.4 GB and took a third more CPU time; so 0.5 GB. A user's own setting goes before."""


def run_in_engine(
    job: Job,
    *,
    tokens: TokenSource,
    cancel: CancelToken,
    on_event: Callable[[object], None],
    engine: Engine | None = None,
) -> Any:
    """Run `job` in an engine process. See `run_job`, which this implements."""
    with engine or Engine() as engine, WakeUp() as wake, cancel.waking(wake.set):
        cancel.raise_if_cancelled()
        source = CachedTokens(tokens)
        engine.send(job)
        killed_at: float | None = None
        while True:
            timeout_s = None if killed_at is None else max(0.0, killed_at - time.monotonic())
            ready = wait([engine.source, wake.reader], timeout_s)
            if not ready:
                raise CancelledError(
                    f"Stopped ({cancel.reason}); the engine did not end within {ENGINE_CANCEL_S:.0f} s and was killed. "
                    "Temporary objects it could not delete are removed by the next try or by a sweep."
                )
            if wake.reader in ready and killed_at is None:
                wake.clear()
                killed_at = time.monotonic() + ENGINE_CANCEL_S
                engine.send(Cancel(cancel.reason))
            if engine.source not in ready:
                continue
            match engine.receive():
                case Done(result):
                    return result
                case Failed(error):
                    raise error
                case Message(event):
                    on_event(event)
                case frame:
                    serve(frame, source, engine.send)


class Engine:
    """The child process and its pipes, as a context manager that leaves nothing running.

    It waits for one job, and imports meanwhile what every job needs.
    """

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(
                # -P: a module of the working directory must not take the place of one of ours.
                [sys.executable, "-P", "-m", "airflow_dataflux.core.runtime.engine"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                bufsize=0,
            )
        except OSError as error:
            raise not_started("The engine process", error) from error
        self._last_lines: deque[str] = deque(maxlen=_STDERR_LINES)
        try:
            self.source = Connection(os.dup(_pipe(self._process.stdout).fileno()), writable=False)
            self._sink = Connection(os.dup(_pipe(self._process.stdin).fileno()), readable=False)
        except OSError as error:
            self._process.kill()
            self._process.communicate()
            raise not_started("The engine process", error) from error
        _pipe(self._process.stdout).close()
        _pipe(self._process.stdin).close()
        self._reader = threading.Thread(target=self._read_stderr, name="dataflux-engine-stderr", daemon=True)
        try:
            start_threads([self._reader])
        except BaseException:
            self.end()
            raise
        self.send(Hello([entry for entry in sys.path if entry], logging.getLogger(PACKAGE_LOGGER).getEffectiveLevel()))

    def send(self, frame: object) -> None:
        """Send a frame; the end of an engine that died is seen by `receive`."""
        with contextlib.suppress(OSError):
            self._sink.send(frame)

    def receive(self) -> object:
        """Return the next frame. Raises EngineError if the engine died."""
        try:
            return self.source.recv()
        except (EOFError, OSError):
            raise self._death() from None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the engine: it sees end-of-file, tidies up, and is killed if that takes too long. May be called again."""
        self._sink.close()
        self.source.close()
        try:
            self._process.wait(ENGINE_CANCEL_S)
        except subprocess.TimeoutExpired:
            logger.warning("The engine (pid %d) did not end in time and is killed", self._process.pid)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()

    def _read_stderr(self) -> None:
        with _pipe(self._process.stderr) as stream:
            for raw in iter(stream.readline, b""):
                line = raw.decode(errors="replace").rstrip()
                self._last_lines.append(line)
                logger.warning("engine: %s", line)

    def _death(self) -> EngineError:
        exitcode = self._process.wait()
        self._reader.join(1.0)
        how = f"exit code {exitcode}" if exitcode >= 0 else f"signal {signal.Signals(-exitcode).name}"
        hint = " SIGKILL usually means a lack of memory: give the task more." if exitcode == -9 else ""
        said = f" Its last lines: {' | '.join(self._last_lines)}" if self._last_lines else ""
        return EngineError(f"The engine process ended by {how} before its job was done.{hint}{said}", exitcode=exitcode)


_SECRET = ("AIRFLOW_CONN_", "AIRFLOW_VAR_", "AIRFLOW__")
"""Where deployments keep connections with their keys, variables, and the database's password (the names are those of
https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/). An engine needs none of them: it asks for a
token."""


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise EngineError("The engine was started without its pipes.")
    return stream


def _environment() -> dict[str, str]:
    """Return this process's environment without its secrets, and with this very package first to be found."""
    root = str(Path(os.path.abspath(__file__)).parents[3])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_SECRET)}
    environment = {**ALLOCATOR, **inherited}
    if not root.endswith("-packages"):  # a checkout or a zip, rather than an installed package
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    return environment
