"""The listing benchmark: styles x sizes x page caps x peers x repeats."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_dataflux.core.config import usable_cores
from airflow_dataflux.core.listing.stream_count import streams_for
from dataflux_bench.manifests import write_manifest
from dataflux_bench.measuring import Cell, Run, checkout_of, interleaved, measure, wait_until_quiet
from dataflux_bench.peers.catalogue import Peer
from dataflux_bench.server.dataset import SHORT, Dataset, DatasetSpec
from dataflux_bench.server.latency import Model
from dataflux_bench.server.process import BenchServer

BUCKET = "bench"
STYLES = ("flat", "classes", "deep", "uuid", "unicode", "timestamps", SHORT)
SEEDED_FROM = 100_000
"""Seeds are measured from this size: a smaller listing is over before they matter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListingPlan:
    """What to measure.

    Attributes:
        styles, sizes, page_caps, peers: the matrix.
        repeats: runs of each cell.
        once_above_s: a cell whose first run took longer is not repeated.
        upstream_most, sequential_most: upstream and the sequential listing are left out above so many objects.
        limit_s: a run is ended after this long, and does not count.
        quiet_s: wait so long, at most, before each run for the machine to be idle.
        model: the service's latency.
        scratch: an existing directory for manifests and renderings.
    """

    styles: tuple[str, ...]
    sizes: tuple[int, ...]
    page_caps: tuple[int, ...]
    peers: tuple[Peer, ...]
    repeats: int
    once_above_s: float
    upstream_most: int
    sequential_most: int
    limit_s: float
    quiet_s: float
    model: Model
    scratch: str

    def peers_for(self, dataset: Dataset) -> list[Peer]:
        """Return the peers that take part in the listing of a data set."""
        size, prefix = dataset.count, common_prefix(dataset)
        return [
            peer
            for peer in self.peers
            if not (peer.name == "upstream" and size > self.upstream_most)
            and not (peer.name == "sequential" and size > self.sequential_most)
            and not ("seed" in peer.options and size < SEEDED_FROM)
            and not ("prefix" in peer.options and not prefix)
        ]


def common_prefix(dataset: Dataset) -> str:
    """Return the directory that all names share, with its slash; empty if there is none."""
    first, last = (dataset.name(index).decode() for index in (0, dataset.count - 1))
    shared = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return first[: first.rfind("/", 0, shared) + 1]


class _Work:
    """A data set's truth, and what the programs are told of it."""

    def __init__(self, dataset: Dataset, peers: Sequence[Peer], scratch: str) -> None:
        self.truth = (dataset.count, dataset.names_digest())
        self.prefix = common_prefix(dataset)
        self.seeds = _write_seeds(dataset, peers, scratch)

    def check(self, report: dict[str, Any]) -> str:
        """Return what is wrong with a program's result, if anything."""
        found = (report.get("count"), report.get("digest"))
        if found == self.truth:
            return ""
        wrong = "another digest" if found[0] == self.truth[0] else f"{self.truth[0]} expected"
        return f"wrong result: {found[0]} names, {wrong}"

    def remove(self) -> None:
        """Delete the seeds."""
        for uri in self.seeds.values():
            shutil.rmtree(uri.removeprefix("file://"))


def run_listing(plan: ListingPlan, *, say: Callable[[str], None], save: Callable[[list[Cell]], None]) -> list[Cell]:
    """Measure everything, saving after every run."""
    cells: list[Cell] = []
    with BenchServer(plan.model, directory=plan.scratch) as server:
        forms = _warm_up(server, plan, say)
        start_up_s = _start_up_s(server, plan, say)
        for style in plan.styles:
            for size in plan.sizes:
                dataset = Dataset(DatasetSpec(style=style, count=size))
                if any((cell.case["style"], cell.case["objects"]) == (style, dataset.count) for cell in cells):
                    say(f"{style}, {size:,} objects: there are {dataset.count:,} of them, which were measured")
                    continue
                server.add_bucket(BUCKET, dataset.spec)
                peers = plan.peers_for(dataset)
                say(f"{style}, {dataset.count:,} objects: rendering their listing for {len(peers)} peers")
                server.prepare(BUCKET, sorted({form for peer in peers for form in forms[peer.name]}))
                work = _Work(dataset, peers, plan.scratch)
                for cap in plan.page_caps:
                    server.set_page_cap(cap)
                    case = {"style": style, "objects": dataset.count, "page_cap": cap}
                    group = [Cell(case=case, peer=peer.label, family=peer.family) for peer in peers]
                    cells += group
                    for cell, peer in zip(group, peers, strict=True):
                        cell.ideal_s = _ideal_s(plan.model, dataset.count, cap, peer, start_up_s)
                    for cell, peer in interleaved(group, peers, repeats=plan.repeats, once_above_s=plan.once_above_s):
                        wait_until_quiet(plan.quiet_s)
                        cell.runs.append(_list_once(server, peer, plan, cap, work))
                        say(_line(cell))
                        save(cells)
                server.drop_bucket(BUCKET)
                work.remove()
    return cells


def _list_once(server: BenchServer, peer: Peer, plan: ListingPlan, cap: int, work: _Work) -> Run:
    scratch = os.path.join(plan.scratch, "run")
    os.makedirs(scratch)
    task = {
        "bucket": BUCKET,
        "endpoint": server.endpoint,
        "page_cap": cap,
        "scratch": scratch,
        "prefix": work.prefix if "prefix" in peer.options else "",
        "seed_manifest_uri": work.seeds.get(peer.options.get("seed", "")),
    }
    try:
        return measure(
            server, peer, task, limit_s=plan.limit_s, check=work.check, checkout=checkout_of(peer, plan.scratch)
        )
    finally:
        shutil.rmtree(scratch)


def _warm_up(server: BenchServer, plan: ListingPlan, say: Callable[[str], None]) -> dict[str, set[str]]:
    """Run every program once on a small bucket: learn which forms of pages it asks for, and fill the page cache."""
    found: dict[str, set[str]] = {}
    dataset = Dataset(DatasetSpec(count=2500))
    work = _Work(dataset, [], plan.scratch)
    for peer in plan.peers:
        if peer.name in found and "commit" not in peer.options:
            continue
        server.add_bucket(BUCKET, dataset.spec)
        server.forget_forms()
        run = _list_once(server, peer, plan, plan.page_caps[0], work)
        found.setdefault(peer.name, set()).update(server.forms())
        server.drop_bucket(BUCKET)
        if run.problem and not run.problem.startswith("invalid"):
            raise RuntimeError(f"{peer.label} does not work here: {run.problem} {run.details.get('complaint', '')}")
        say(f"{peer.name} asks for items as {', '.join(sorted(found[peer.name]))}")
    return found


def _start_up_s(server: BenchServer, plan: ListingPlan, say: Callable[[str], None]) -> float:
    """Return the median time that an engine with its workers takes to start and do nothing."""
    if not any(peer.name == "dataflux" for peer in plan.peers):
        return 0.0
    cell = Cell(case={}, peer="startup", family="startup")
    program = Peer("startup", "startup", "startup", {})
    for _ in range(max(3, plan.repeats)):
        wait_until_quiet(plan.quiet_s)
        cell.runs.append(measure(server, program, {}, limit_s=plan.limit_s, check=lambda report: ""))
    median = cell.median("call_s")
    if median is None:
        raise RuntimeError(f"An engine does not start here: {cell.runs[0].problem}")
    say(f"an engine starts in {median:.3f} s")
    return median


def _ideal_s(model: Model, size: int, cap: int, peer: Peer, start_up_s: float) -> float | None:
    """Return start-up + pages / streams x page latency; a listing of one page needs no start-up."""
    if peer.name != "dataflux":
        return None
    pages = math.ceil(size / cap)
    if pages <= 1:
        return model.page_s(size)
    chosen = peer.options.get("streams")
    streams = int(chosen) if chosen else streams_for(model.page_s(cap), processors=usable_cores())
    return start_up_s + max(1.0, pages / streams) * model.page_s(cap)


def _write_seeds(dataset: Dataset, peers: Sequence[Peer], scratch: str) -> dict[str, str]:
    """Write the manifests that seed listings: of the same names, and of a bucket half of whose names were others."""
    shares = {"same": 0.0, "half": 0.5}
    found = {}
    for kind in {peer.options["seed"] for peer in peers if "seed" in peer.options}:
        spec = DatasetSpec(style=dataset.spec.style, count=dataset.count, moved=shares[kind])
        found[kind] = f"file://{scratch}/seed-{kind}"
        write_manifest(Dataset(spec), bucket=BUCKET, uri=found[kind])
    return found


def _line(cell: Cell) -> str:
    run = cell.runs[-1]
    ideal = f", {run.call_s / cell.ideal_s:.2f}x ideal" if cell.ideal_s else ""
    return (
        f"{cell.case['style']} {cell.case['objects']:,} cap {cell.case['page_cap']:,} {cell.peer}: "
        f"{run.wall_s:.2f} s (call {run.call_s:.2f} s{ideal}), {run.cpu_s:.2f} CPU-s, "
        f"{run.peak_pss_bytes / 1e6:.0f} MB, {run.requests} requests, server {run.server_cpu_s:.2f} CPU-s"
        + (f"  ** {run.problem}" if run.problem else "")
    )
