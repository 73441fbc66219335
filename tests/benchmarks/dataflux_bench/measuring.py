"""One measurement: a program in a fresh process tree against a server whose counts start at zero."""

from __future__ import annotations

import compileall
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dataflux_bench.paths import CHECKOUT, environment
from dataflux_bench.peers.catalogue import Peer
from dataflux_bench.server.process import BenchServer, ServerCounts


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run.

    Attributes:
        wall_s: from the start of the process to the result in hand.
        call_s: the call alone, without the start of Python and the imports.
        cpu_s, peak_pss_bytes, peak_rss_bytes, processes: of the process tree (`supervise.py`).
        requests, rejected, operations, statuses, in_flight_peak: as the server counted.
        server_cpu_s: what serving this run took of the same machine.
        problem: why the run does not count; empty if the result was right.
        details: what the program itself said.
    """

    wall_s: float
    call_s: float
    cpu_s: float
    peak_pss_bytes: int
    peak_rss_bytes: int
    processes: int
    requests: int
    rejected: int
    operations: dict[str, int]
    statuses: dict[str, int]
    in_flight_peak: int
    server_cpu_s: float
    problem: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def list_requests(self) -> int:
        """How many of the requests were for listing pages."""
        return self.operations.get("list", 0)


@dataclass(kw_only=True, slots=True)
class Cell:
    """All runs of one peer on one data set.

    Attributes:
        case: what was measured, such as style, count and page cap.
        peer: label.
        family: whose best counts.
        runs: in the order they were made.
        ideal_s: the bound for `call_s`, where there is one.
    """

    case: dict[str, Any]
    peer: str
    family: str
    runs: list[Run] = field(default_factory=list)
    ideal_s: float | None = None

    @property
    def right(self) -> list[Run]:
        """The runs whose result was right."""
        return [run for run in self.runs if not run.problem]

    def median(self, measure: str) -> float | None:
        """Return the median over the right runs, None if there was none."""
        found = [float(getattr(run, measure)) for run in self.right]
        return statistics.median(found) if found else None


def best_of(cells: Sequence[Cell], measure: str) -> Cell | None:
    """Return the cell with the smallest median, None if no run was right."""
    measured = [cell for cell in cells if cell.median(measure) is not None]
    return min(measured, key=lambda cell: cell.median(measure) or 0.0, default=None)


def interleaved(
    cells: list[Cell], peers: list[Peer], *, repeats: int, once_above_s: float
) -> Iterator[tuple[Cell, Peer]]:
    """Yield whose turn it is: all peers once, then all again from another one on, so that no one is always first.

    A cell whose first run took longer than `once_above_s` has no second turn.
    """
    pairs = list(zip(cells, peers, strict=True))
    for repeat in range(repeats):
        shift = repeat % len(pairs)
        for cell, peer in pairs[shift:] + pairs[:shift]:
            if not cell.runs or cell.runs[0].wall_s <= once_above_s:
                yield cell, peer


def measure(
    server: BenchServer,
    peer: Peer,
    task: dict[str, Any],
    *,
    limit_s: float,
    check: Callable[[dict[str, Any]], str],
    checkout: str = str(CHECKOUT),
) -> Run:
    """Run a peer once, with the programs of a checkout.

    `check` is given what the program reported after its mark and returns what is wrong with the result, if anything.
    """
    whole = {**task, "peer": peer.name, "options": peer.options}
    os.sync()  # what the run before this one wrote is not written back during this one
    server.reset()
    usage = supervised(
        [sys.executable, "-P", "-m", f"dataflux_bench.peers.{peer.program}", json.dumps(whole)],
        limit_s=limit_s,
        emulator=server.endpoint,
        checkout=checkout,
    )
    counts = server.counts()
    mark = usage["mark"] or {}
    return Run(
        wall_s=usage["wall_s"],
        call_s=mark.get("call_s", usage["wall_s"]),
        cpu_s=usage["cpu_s"],
        peak_pss_bytes=usage["peak_pss_bytes"],
        peak_rss_bytes=usage["peak_rss_bytes"],
        processes=usage["processes_peak"],
        requests=counts.requests,
        rejected=counts.rejected,
        operations=counts.operations,
        statuses=counts.statuses,
        in_flight_peak=counts.in_flight_peak,
        server_cpu_s=counts.cpu_s,
        problem=_problem(usage, counts, limit_s) or check(usage["after"] or {}),
        details={**{key: value for key, value in mark.items() if key not in ("call_s", "cpu_s")}, **_small(usage)},
    )


def checkout_of(peer: Peer, scratch: str) -> str:
    """Return the checkout whose programs a peer runs: this one, or that of its `commit`, made at its first run."""
    commit = peer.options.get("commit")
    if commit is None:
        return str(CHECKOUT)
    place = os.path.join(scratch, f"commit-{commit}")
    if os.path.isdir(place):
        return place
    os.mkdir(place)
    files = ["airflow_dataflux", "tests/benchmarks/dataflux_bench"]
    command = ["git", "-C", str(CHECKOUT), "archive", "--format=tar", commit, *files]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", place], input=archive, check=True)
    compileall.compile_dir(place, quiet=2)
    return place


def supervised(command: list[str], *, limit_s: float, emulator: str, checkout: str = str(CHECKOUT)) -> dict[str, Any]:
    """Run a command under `supervise.py`, with what a checkout has, and return its usage."""
    task = json.dumps({"command": command, "limit_s": limit_s})
    supervisor = subprocess.Popen(
        [sys.executable, "-P", "-m", "dataflux_bench.supervise", task],
        env=environment(checkout, STORAGE_EMULATOR_HOST=emulator),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with supervisor:
        try:
            output, complaint = supervisor.communicate()
        except BaseException:
            supervisor.terminate()  # it ends the command and all that this started
            raise
    if supervisor.returncode or not output:
        raise RuntimeError(f"The supervisor ended with {supervisor.returncode}: {complaint[-2000:]}")
    usage: dict[str, Any] = json.loads(output)
    usage["complaint"] = complaint[-2000:]
    return usage


def wait_until_quiet(most_s: float) -> float:
    """Wait, at most so long, until the machine's other work leaves its processors alone; return the load seen last.

    A benchmark beside other work measures that work, too. The load is the share of the processors that was busy.
    """
    ends = time.monotonic() + most_s
    while True:
        before = _processor_times()
        time.sleep(0.5)
        after = _processor_times()
        total = sum(after) - sum(before)
        idle = after[3] + after[4] - before[3] - before[4]
        busy = 1 - idle / total if total else 0.0
        if busy < 0.1 or time.monotonic() >= ends:
            return busy


def _processor_times() -> list[int]:
    with open("/proc/stat", encoding="ascii") as file:
        return [int(part) for part in file.readline().split()[1:]]


def _problem(usage: dict[str, Any], counts: ServerCounts, limit_s: float) -> str:
    if usage["timed_out"]:
        return f"not done after {limit_s:.0f} s"
    if usage["mark"] is None or usage["exit_code"] != 0:
        said = usage["complaint"].strip().splitlines()
        return f"ended with {usage['exit_code']}: {said[-1] if said else 'no message'}"[:300]
    if usage["left_running"]:
        return f"left {usage['left_running']} processes running"
    if counts.unprepared_pages:
        return f"invalid: {counts.unprepared_pages} pages were rendered during the run"
    return ""


def _small(usage: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"samples": usage["samples"]}
    if usage["complaint"]:
        found["complaint"] = usage["complaint"][-500:]
    report = usage["after"] or {}
    return found | {key: report[key] for key in ("count", "digest", "receipt") if key in report}
