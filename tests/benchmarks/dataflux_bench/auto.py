"""The benchmark of `auto`: regimes x sizes x strategies. `auto` should be as fast as the better of the two others."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from dataflux_bench.download import BUCKET, DownloadPlan, Work, download_once
from dataflux_bench.measuring import Cell, interleaved, wait_until_quiet
from dataflux_bench.peers.catalogue import Peer
from dataflux_bench.server.dataset import Dataset, DatasetSpec
from dataflux_bench.server.process import BenchServer

STRATEGIES = ("auto", "compose", "direct")

ONCE_ABOVE = 1.5
"""A way whose first run took so many times as long as that of the other is not the better one, and is not repeated."""

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Regime:
    """What a staging meets.

    Attributes:
        service: how Cloud Storage differs from the usual model.
        file_ms: what writing a file takes on a disk that writes one after the other.
        busy: processes that compute beside it.
    """

    service: dict[str, float] = field(default_factory=dict)
    file_ms: float = 0.0
    busy: int = 0

    def peers(self) -> list[Peer]:
        """Return the programs to compare: one for each strategy."""
        same = {"file_ms": str(self.file_ms), "busy": str(self.busy)}
        return [
            Peer(f"dataflux:strategy={strategy}", "dataflux", "download_dataflux", {"strategy": strategy, **same})
            for strategy in STRATEGIES
        ]


REGIMES = {
    "usual": Regime(),
    "near": Regime(service={"read_s": 0.005, "compose_s": 0.060}),
    "near, slow composes": Regime(service={"read_s": 0.005, "compose_s": 0.800}),
    "far": Regime(service={"read_s": 0.200, "compose_s": 0.300}),
    "far, slow composes": Regime(service={"read_s": 0.200, "compose_s": 0.800}),
    "50 writes/s, 2,000 reads/s": Regime(service={"writes_per_s": 50, "reads_per_s": 2000}),
    "50 writes/s, 200 reads/s": Regime(service={"writes_per_s": 50, "reads_per_s": 200}),
    "500 writes/s, 200 reads/s": Regime(service={"writes_per_s": 500, "reads_per_s": 200}),
    "500 writes/s, 2,000 reads/s": Regime(service={"writes_per_s": 500, "reads_per_s": 2000}),
    "slow disk": Regime(file_ms=0.7),
    "busy processors": Regime(busy=2),
    "1 % stalls": Regime(service={"stalls": 0.01}),
}

SIZES = {"1KiB": (11_098, KIB), "10KiB": (11_098, 10 * KIB), "100KiB": (4000, 100 * KIB), "1MiB": (600, MIB)}
"""How many objects of each size: enough that one has to learn, and not more than some seconds."""


def run_auto(
    plan: DownloadPlan,
    *,
    regimes: Sequence[str],
    sizes: Sequence[str],
    say: Callable[[str], None],
    save: Callable[[list[Cell]], None],
) -> list[Cell]:
    """Measure everything, saving after every run, and say how `auto` compares."""
    cells: list[Cell] = []
    for name in regimes:
        regime = REGIMES[name]
        with BenchServer(replace(plan.model, **regime.service), directory=plan.scratch) as server:
            for size in sizes:
                count, object_bytes = SIZES[size]
                spec = DatasetSpec(style="classes", count=count, sizes=str(object_bytes), readable=True)
                work = Work(Dataset(spec), plan.scratch)
                server.add_bucket(BUCKET, spec)
                case = {"workload": f"{size}, {name}", "objects": count, "bytes": count * object_bytes}
                group = [Cell(case=case, peer=strategy, family=strategy) for strategy in STRATEGIES]
                cells += group
                for cell, peer in interleaved(group, regime.peers(), repeats=plan.repeats, once_above_s=math.inf):
                    if not is_clearly_worse(cell, group):
                        wait_until_quiet(plan.quiet_s)
                        cell.runs.append(download_once(server, peer, plan, work))
                        save(cells)
                server.drop_bucket(BUCKET)
                work.remove()
                say(_line(group))
    ratios = [ratio for ratio in map(ratio_of, _groups(cells)) if ratio is not None]
    if ratios:
        say(
            f"auto to the better of both: worst {max(ratios):.2f}, median {statistics.median(ratios):.2f}, "
            f"{sum(ratio > 1.1 for ratio in ratios)} of {len(ratios)} above 1.1"
        )
    return cells


def is_clearly_worse(cell: Cell, group: Sequence[Cell]) -> bool:
    """Return whether a cell is that of a way which need not be repeated."""
    auto, *ways = group
    if cell is auto or not all(way.runs for way in ways):
        return False
    right = [way.runs[0].call_s for way in ways if not way.runs[0].problem]
    return cell.runs[0].call_s > ONCE_ABOVE * min(right, default=math.inf)


def ratio_of(group: Sequence[Cell]) -> float | None:
    """Return the time of `auto` to that of the better of the two others; None if one has no right run."""
    auto, *others = (cell.median("call_s") for cell in group)
    better = [seconds for seconds in others if seconds is not None]
    return auto / min(better) if auto is not None and better else None


def _groups(cells: Sequence[Cell]) -> list[Sequence[Cell]]:
    width = len(STRATEGIES)
    return [cells[start : start + width] for start in range(0, len(cells), width)]


def _line(group: Sequence[Cell]) -> str:
    told = ", ".join(
        f"{cell.peer} {seconds:.2f} s" if (seconds := cell.median("call_s")) is not None else f"{cell.peer} failed"
        for cell in group
    )
    problems = {run.problem for cell in group for run in cell.runs if run.problem}
    ratio = ratio_of(group)
    return (
        f"{group[0].case['workload']}: {told}; "
        + (f"{ratio:.2f}" if ratio else "-")
        + "".join(f"  ** {problem}" for problem in sorted(problems))
    )
