"""Run one command in a fresh process tree and say what the whole tree used.

    python -m dataflux_bench.supervise '{"command": [...], "limit_s": 900}'

A SIGTERM ends the tree and this process.

This process becomes the reaper of the tree's orphans, so nothing that the command starts can leave the tree, however
it forks. The command finds a socket in BENCH_MARK_FD and writes one line of JSON to it the moment its work is done (the
mark); what it does afterwards, such as computing digests, is not measured.

- Wall: from just before the command is started to its mark.
- CPU: at the mark; the command's own and its waited-for children's by getrusage (which the mark carries), plus, from
  /proc, what is still alive below it, plus orphans that were reaped here.
- Memory: /proc sampled every 10 to 100 ms. `rss` is the sum of resident sets, which counts pages that forked
  processes share once for each of them; `pss` divides shared pages among those who share them (smaps_rollup) and is
  sampled at a quarter of that rate, because reading it costs time. Peaks shorter than an interval can be missed;
  the kernel's own peak (VmHWM) of the largest single process is a lower bound that is applied to both.

Only the standard library is imported, so that the supervisor itself is small and quick.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MARK_FD = "BENCH_MARK_FD"
MARK_TIME = "BENCH_STARTED"
MARK_SEEN = b"."
"""The answer to a mark."""


@dataclass(slots=True)
class Usage:
    """What the tree used up to the mark, and how the command ended."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    peak_pss_bytes: int = 0
    processes_peak: int = 0
    samples: int = 0
    exit_code: int | None = None
    left_running: int = 0
    timed_out: bool = False
    mark: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    complaint: str = ""


@dataclass(slots=True)
class _Stat:
    parent: int
    cpu_ticks: int
    children_ticks: int
    rss_bytes: int


@dataclass(slots=True)
class Tree:
    """All descendants of this process, seen through /proc."""

    usage: Usage
    orphan_cpu_s: float = 0.0
    _next_pss: int = 0
    _own: int = field(default_factory=os.getpid)

    def processes(self) -> dict[int, _Stat]:
        """Return the descendants alive now."""
        found: dict[int, _Stat] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (stat := _read_stat(int(entry))) is not None:
                found[int(entry)] = stat
        below: dict[int, _Stat] = {}
        frontier = [self._own]
        children: dict[int, list[int]] = {}
        for pid, stat in found.items():
            children.setdefault(stat.parent, []).append(pid)
        while frontier:
            for pid in children.get(frontier.pop(), []):
                below[pid] = found[pid]
                frontier.append(pid)
        return below

    def sample(self, *, with_pss: bool | None = None) -> None:
        """Look at the tree's memory now."""
        usage, processes = self.usage, self.processes()
        usage.samples += 1
        usage.processes_peak = max(usage.processes_peak, len(processes))
        usage.peak_rss_bytes = max(usage.peak_rss_bytes, sum(stat.rss_bytes for stat in processes.values()))
        if usage.samples % 4 == 1 if with_pss is None else with_pss:
            usage.peak_pss_bytes = max(usage.peak_pss_bytes, sum(map(_pss_bytes, processes)))
            largest = max((_high_water_bytes(pid) for pid in processes), default=0)
            usage.peak_rss_bytes = max(usage.peak_rss_bytes, largest)
            usage.peak_pss_bytes = max(usage.peak_pss_bytes, largest)

    def mark(self, top: int, line: dict[str, Any]) -> None:
        """Close the account: the command says that its work is done."""
        self.sample(with_pss=True)
        living = sum(stat.cpu_ticks + stat.children_ticks for pid, stat in self.processes().items() if pid != top)
        self.usage.cpu_s = line["cpu_s"] + living / TICKS_PER_S + self.orphan_cpu_s
        self.usage.mark = line

    def reap_orphans(self, top: int) -> int | None:
        """Wait for everything that has ended; return the status of the command itself once it has."""
        status_of_top = None
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return status_of_top
            if pid == 0:
                return status_of_top
            if pid == top:
                status_of_top = os.waitstatus_to_exitcode(status)
            elif self.usage.mark is None:
                self.orphan_cpu_s += used.ru_utime + used.ru_stime


def run(command: list[str], limit_s: float) -> Usage:
    """Run the command to its end and return what its tree used."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    usage = Usage()
    tree = Tree(usage)
    # Both ways: a command that has marked waits until its tree was looked at, or what it used could be gone by then.
    reader, writer = (end.detach() for end in socket.socketpair())
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        pass_fds=[writer],
        env={**os.environ, MARK_FD: str(writer), MARK_TIME: repr(began)},
        start_new_session=True,
    )
    os.close(writer)
    lines: list[bytes] = []
    buffered = b""
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        selector.register(wake_reader, selectors.EVENT_READ)
        exit_code = None
        next_sample = began
        while exit_code is None:
            now = time.monotonic()
            if now - began > limit_s:
                usage.timed_out = True
                break
            if usage.mark is None and now >= next_sample:
                tree.sample()
                next_sample = time.monotonic() + min(0.1, max(0.01, (now - began) / 40))
            timeout_s = max(0.0, next_sample - now) if usage.mark is None else 1.0
            for key, _ in selector.select(timeout_s):
                if key.fd == wake_reader:
                    os.read(wake_reader, 4096)
                    continue
                received = _received(reader)
                arrived = time.monotonic()
                if not received:
                    selector.unregister(reader)
                buffered += received
                *whole, buffered = buffered.split(b"\n")
                for line in whole:
                    if not lines:
                        usage.wall_s = arrived - began
                        tree.mark(process.pid, json.loads(line))
                        with contextlib.suppress(BrokenPipeError):
                            os.write(reader, MARK_SEEN)
                    lines.append(line)
            exit_code = tree.reap_orphans(process.pid)
    # What the command wrote just before it ended; something it left running may hold the pipe open.
    os.set_blocking(reader, False)
    with contextlib.suppress(BlockingIOError):
        while not usage.timed_out and (received := _received(reader)):
            buffered += received
    *whole, _ = buffered.split(b"\n")
    lines += whole
    if usage.mark is None:
        usage.wall_s = time.monotonic() - began
    usage.after = json.loads(lines[1]) if len(lines) > 1 else None
    usage.exit_code = exit_code
    usage.left_running = _end(tree)
    return usage


def _received(reader: int) -> bytes:
    try:
        return os.read(reader, 1 << 16)
    except ConnectionResetError:  # it ended without reading our answer
        return b""


def _end(tree: Tree) -> int:
    """Kill what the command left running, and return how many processes that was."""
    found: set[int] = set()
    while True:
        alive = tree.processes()
        for pid in alive:
            found.add(pid)
            os.kill(pid, signal.SIGKILL)
        try:
            os.wait4(-1, 0)
        except ChildProcessError:
            return len(found)


def _read_stat(pid: int) -> _Stat | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name, in parentheses, may hold anything.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _Stat(
        parent=int(fields[1]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        children_ticks=int(fields[13]) + int(fields[14]),
        rss_bytes=int(fields[21]) * PAGE_BYTES,
    )


def _pss_bytes(pid: int) -> int:
    return _kibibytes(f"/proc/{pid}/smaps_rollup", b"Pss:")


def _high_water_bytes(pid: int) -> int:
    return _kibibytes(f"/proc/{pid}/status", b"VmHWM:")


def _kibibytes(path: str, name: bytes) -> int:
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(name):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass  # it ended meanwhile
    return 0


def main(arguments: list[str]) -> None:
    """Run what the first argument says and print its usage as JSON."""
    task = json.loads(arguments[0])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        usage = run(task["command"], task["limit_s"])
    except SystemExit:
        _end(Tree(Usage()))
        raise
    sys.stdout.write(json.dumps(asdict(usage)))


if __name__ == "__main__":
    main(sys.argv[1:])
