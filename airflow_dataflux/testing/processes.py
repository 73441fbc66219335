"""Find every process of one Airflow home on this machine, however deep, and end them all.

A process belongs to a home if it is in the session of one that was started for it, or carries its AIRFLOW_HOME (or one
below it) in its environment. Two marks, because each can be lost: Airflow renames its processes over their
environment, but they never leave the session of their component; what a task starts may open a session of its own, but
carries the environment.

Linux only: it reads /proc. Processes of other users are invisible to it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

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
