"""Find and end every process of one Airflow home on this machine, also when whoever started them was killed.

A process belongs to a home if it is in the session of one that was started for it, or carries its AIRFLOW_HOME (or one
below it) in its environment. Two marks, because each can be lost: Airflow renames its processes over their
environment, but they never leave the session of their component; what a task starts may open a session of its own, but
carries the environment.

As a program, `python reaper.py HOME OWNER`, started by `Reaper`, this is a small process that ends a deployment when
its owner was killed and could not. It reads the sessions to look after, one a line, and "done" once the owner has ended
everything by itself. If the owner is gone without that word (a signal, out of memory, a CI job that was cancelled), the
reaper kills every process of the home. It needs no Airflow and no package.

The owner's end shows twice: its pipe closes, and its pid ends. Either alone would do, but a child of the owner may hold
the pipe open, and an old kernel has no file descriptors for pids.

Linux only: it reads /proc. Processes of other users are invisible to it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

_DONE = b"done"
_LOOK_S = 0.05


def processes_of(home: Path | None, sessions: Collection[int]) -> list[int]:
    """Return the pids of a home (None: only of the sessions), without the caller's own. A zombie does not run."""
    own = f"AIRFLOW_HOME={home}".encode()
    below = own + b"/"
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            # proc_pid_stat(5): the name in parentheses may hold anything, so the fields count from its end.
            state, _parent, _group, session = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:4]
            environment = Path("/proc", entry, "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile, or is another user's
        marked = home is not None and any(one == own or one.startswith(below) for one in environment)
        if state != "Z" and (marked or int(session) in sessions):
            found.append(int(entry))
    return found


def kill_all(find: Callable[[], list[int]]) -> None:
    """Kill what `find` finds until it finds nothing: a process may start another one while it is looked for."""
    while found := find():
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_S)


class Reaper:
    """The owner's side. One owner thread; `close` is due once every process of the home has ended."""

    def __init__(self, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(home), str(os.getpid())],
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
