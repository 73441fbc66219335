"""A small process that ends a deployment when its owner was killed and could not.

`python -m airflow_dataflux.testing.keeper HOME`, started by `Keeper`. It reads the sessions to look after, one a line,
and "done" once the owner has ended everything by itself. If the owner is gone without that word (a signal, out of
memory, a CI job that was cancelled), the keeper kills every process of the home. It needs no Airflow.

The owner's end shows twice: its pipe closes, and its pid ends. Either alone would do, but a child of the owner may hold
the pipe open, and an old kernel has no file descriptors for pids.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from airflow_dataflux.testing.processes import kill_all, processes_of

_DONE = b"done"


class Keeper:
    """The owner's side. One owner thread; `close` is due once every process of the home has ended."""

    def __init__(self, home: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "airflow_dataflux.testing.keeper", str(home), str(os.getpid())],
            # Not the owner's AIRFLOW_HOME, or it would find itself among what it ends.
            env={name: value for name, value in os.environ.items() if name != "AIRFLOW_HOME"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # what ends its owner, a Ctrl-C or a kill of the group, must not end it first
        )

    def watch(self, session: int) -> None:
        """Look after a session, named by the pid of the process that leads it."""
        self._send(b"%d" % session)

    def close(self) -> None:
        """Let it go: the owner has ended everything."""
        self._send(_DONE)
        self._process.wait()

    def _send(self, line: bytes) -> None:
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.write(line + b"\n")


def main(home: Path, owner: int) -> None:
    """Wait for the owner's word or its end, and act on it."""
    poll = select.poll()
    poll.register(sys.stdin.fileno(), select.POLLIN)
    timeout_ms = None
    try:
        poll.register(os.pidfd_open(owner), select.POLLIN)
    except ProcessLookupError:
        timeout_ms = 0  # it ended before we could look: what it said is in the pipe, and no more will come
    except OSError:
        pass  # an old kernel: the pipe tells
    said = b""
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(timeout_ms)}
        heard = os.read(sys.stdin.fileno(), 65536) if sys.stdin.fileno() in ready else b""
        said += heard
        if _DONE in said.split(b"\n"):
            return
        if not heard:
            break
    sessions = {int(line) for line in said.split(b"\n")[:-1]}
    kill_all(lambda: processes_of(home, sessions))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
