"""The harness counts a whole process tree, says when a result is wrong, and writes what it measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import pytest
from dataflux_bench.auto import is_clearly_worse
from dataflux_bench.measuring import Cell, Run, best_of, interleaved, supervised
from dataflux_bench.paths import CHECKOUT, environment
from dataflux_bench.peers.catalogue import LISTINGS, parse_peer, parse_peers
from dataflux_bench.report import as_csv, download_markdown, from_csv, listing_markdown

MACHINE: dict[str, Any] = {
    "date": "2026-01-01",
    "commit": "abc",
    "uncommitted": False,
    "cores": 2,
    "processor": "x",
    "memory_bytes": 1 << 34,
    "kernel": "6",
    "python": "3",
    "versions": {"obstore": "1"},
}
PROGRAM = """
import json, multiprocessing, os, sys, time
from dataflux_bench.peers.marking import Stopwatch

def burn(seconds, megabytes, said):
    block = b"x" * (megabytes << 20)
    ends = time.process_time() + seconds
    while time.process_time() < ends:
        pass
    said.send(len(block))
    said.recv()

if __name__ == "__main__":
    stopwatch = Stopwatch()
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    child = fork.Process(target=burn, args=(0.3, 64, there))
    child.start()
    here.recv()
    if sys.argv[1] == "joined":
        here.send(None)
        child.join()
    stopwatch.done()
    stopwatch.report(count=7)
    if sys.argv[1] == "abandoned":
        os._exit(0)
    if sys.argv[1] == "alive":
        here.send(None)
"""


def run_program(tmp_path: Any, how: str) -> dict[str, Any]:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    return supervised([sys.executable, str(path), how], limit_s=100, emulator="http://127.0.0.1:9")


@pytest.mark.parametrize("how", ["joined", "alive"])
def test_a_child_is_counted_whether_it_has_ended_or_not(tmp_path: Any, how: str) -> None:
    usage = run_program(tmp_path, how)
    assert usage["cpu_s"] >= 0.29  # a living child is counted in ticks of 10 ms
    assert usage["peak_pss_bytes"] >= 64 << 20
    assert usage["peak_rss_bytes"] >= usage["peak_pss_bytes"] * 0.9
    assert usage["processes_peak"] == 2
    assert (usage["exit_code"], usage["after"], usage["left_running"]) == (0, {"count": 7}, 0)


def test_what_a_program_leaves_running_is_ended_and_told(tmp_path: Any) -> None:
    usage = run_program(tmp_path, "abandoned")
    assert usage["left_running"] == 1
    assert usage["cpu_s"] >= 0.29


def test_a_program_that_never_ends_is_ended_at_its_limit() -> None:
    program = "import time; time.sleep(1000)"
    usage = supervised([sys.executable, "-c", program], limit_s=0.5, emulator="http://127.0.0.1:9")
    assert usage["timed_out"]
    assert usage["left_running"] == 1


def test_who_interrupts_a_benchmark_leaves_no_program_running(tmp_path: Any) -> None:
    started = tmp_path / "pid"
    program = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    task = json.dumps({"command": [sys.executable, "-c", program], "limit_s": 900})
    supervisor = subprocess.Popen([sys.executable, "-m", "dataflux_bench.supervise", task], env=environment())
    while not (started.exists() and started.read_text()):
        assert supervisor.poll() is None
        time.sleep(0.02)
    supervisor.terminate()
    assert supervisor.wait() == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_of_two_ways_the_one_that_is_clearly_slower_is_measured_once() -> None:
    _auto, compose, direct = group = [Cell(case={}, peer=way, family=way) for way in ("auto", "compose", "direct")]
    assert not any(is_clearly_worse(cell, group) for cell in group)
    for cell, seconds in zip(group, (9.0, 2.0, 3.1), strict=True):
        cell.runs.append(run_of(seconds))
    assert [is_clearly_worse(cell, group) for cell in group] == [False, False, True]
    direct.runs = [run_of(2.9)]
    assert not is_clearly_worse(direct, group)
    compose.runs = [run_of(1.0, "wrong result")]
    assert not is_clearly_worse(direct, group)


def test_a_program_that_fails_has_no_mark(tmp_path: Any) -> None:
    usage = supervised([sys.executable, "-c", "raise SystemExit(3)"], limit_s=100, emulator="http://127.0.0.1:9")
    assert (usage["mark"], usage["exit_code"]) == (None, 3)


def test_turns_are_interleaved_and_slow_cells_have_only_one() -> None:
    peers = parse_peers("dataflux,sequential,obstore", LISTINGS)
    cells = [Cell(case={}, peer=peer.label, family=peer.family) for peer in peers]
    turns = []
    for cell, peer in interleaved(cells, peers, repeats=3, once_above_s=10):
        turns.append(peer.label)
        cell.runs.append(run_of(100.0 if peer.label == "obstore" else 1.0))
    assert turns == ["dataflux", "sequential", "obstore", "sequential", "dataflux", "dataflux", "sequential"]


def test_members_of_a_family_differ_only_in_how_much_they_do_at_once() -> None:
    families = {parse_peer(label, LISTINGS).family for label in ("upstream:workers=4", "upstream:workers=16")}
    assert families == {"upstream"}
    assert parse_peer("dataflux:seed=half", LISTINGS).family == "dataflux:seed=half"
    with pytest.raises(ValueError, match="no peer 'gsutil'"):
        parse_peer("gsutil", LISTINGS)


def test_a_wrong_result_is_no_result() -> None:
    cell = Cell(case={}, peer="p", family="p", runs=[run_of(1.0, problem="wrong result"), run_of(5.0)])
    assert cell.median("wall_s") == 5.0
    assert best_of([Cell(case={}, peer="q", family="q", runs=[run_of(1.0, problem="wrong")])], "wall_s") is None


def test_results_survive_saving_and_become_tables() -> None:
    case = {"style": "flat", "objects": 1000, "page_cap": 1000}
    cells = [
        Cell(case=case, peer="dataflux", family="dataflux", runs=[run_of(2.0)], ideal_s=1.0),
        Cell(case=case, peer="upstream:workers=4", family="upstream", runs=[run_of(40.0)]),
        Cell(case=case, peer="upstream:workers=8", family="upstream", runs=[run_of(30.0)]),
        Cell(case=case, peer="sequential", family="sequential", runs=[run_of(60.0)]),
    ]
    again, plan, machine = from_csv(as_csv(cells, plan={"command": "make bench-list"}, machine=MACHINE))
    assert again == cells
    page = listing_markdown(again, machine=machine, command=plan["command"])
    ratios = next(line for line in page.splitlines() if line.startswith("| flat | 1,000"))
    assert "30.00" in ratios  # sequential
    assert "15.00" in ratios  # upstream at its best worker count
    assert "2.00" in ratios  # over the ideal


@pytest.mark.parametrize(("kind", "page"), [("listing", listing_markdown), ("download", download_markdown)])
def test_the_published_page_is_that_of_the_published_runs(kind: str, page: Callable[..., str]) -> None:
    published = CHECKOUT / "docs" / "performance"
    cells, plan, machine = from_csv((published / f"{kind}.csv").read_text("utf-8"))
    written = page(cells, machine=machine, command=plan["command"])
    assert written == (published / f"{kind}.md").read_text("utf-8")


def test_the_download_page_compares_with_every_family() -> None:
    case = {"workload": "w", "objects": 1, "bytes": 1}
    cells = [
        Cell(case=case, peer="dataflux:strategy=auto", family="dataflux:strategy=auto", runs=[run_of(1.0)]),
        Cell(case=case, peer="dataflux:strategy=direct", family="dataflux:strategy=direct", runs=[run_of(2.0)]),
        Cell(case=case, peer="upstream:threads=2", family="upstream:threads", runs=[run_of(4.0)]),
    ]
    page = download_markdown(cells, machine=MACHINE, command="make bench-download")
    assert "| w | auto | 0.50 | 4.00 | 1.00 | 0 |" in page


def run_of(wall_s: float, problem: str = "") -> Run:
    return Run(
        wall_s=wall_s,
        call_s=wall_s,
        cpu_s=1.0,
        peak_pss_bytes=1,
        peak_rss_bytes=1,
        processes=1,
        requests=1,
        rejected=0,
        operations={"list": 1},
        statuses={"200": 1},
        in_flight_peak=1,
        server_cpu_s=0.0,
        problem=problem,
    )
