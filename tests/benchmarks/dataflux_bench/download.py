"""The download benchmark: workloads x peers x repeats, files on disk for everyone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import google_crc32c

from dataflux_bench.manifests import write_manifest
from dataflux_bench.measuring import Cell, Run, checkout_of, interleaved, measure, wait_until_quiet
from dataflux_bench.peers.catalogue import Peer
from dataflux_bench.server.dataset import Dataset, DatasetSpec
from dataflux_bench.server.latency import Model
from dataflux_bench.server.process import BenchServer

BUCKET = "bench"
KIB, MIB = 1 << 10, 1 << 20
WORKLOADS = {
    "111x10KiB": DatasetSpec(style="classes", count=111, sizes=str(10 * KIB), readable=True),
    "1111x10KiB": DatasetSpec(style="classes", count=1111, sizes=str(10 * KIB), readable=True),
    "11098x10KiB": DatasetSpec(style="classes", count=11098, sizes=str(10 * KIB), readable=True),
    "100000x10KiB": DatasetSpec(style="classes", count=100_000, sizes=str(10 * KIB), readable=True),
    "5000x100KiB": DatasetSpec(style="classes", count=5000, sizes=str(100 * KIB), readable=True),
    "500x3MiB": DatasetSpec(style="classes", count=500, sizes=str(3 * MIB), readable=True),
    "20x150MiB": DatasetSpec(style="classes", count=20, sizes=str(150 * MIB), readable=True),
    # Median 48 KiB, mean about 240 KiB: many small objects, most bytes in a few large ones.
    "3000xlognormal": DatasetSpec(
        style="classes", count=3000, sizes=f"lognormal:{48 * KIB}:1.8:{150 * MIB}", readable=True
    ),
}
LARGE_BYTES = 1 * MIB
"""Peers with parallel ranges of one object take part where the mean object is larger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadPlan:
    """What to measure; see `ListingPlan` for the fields that both have."""

    workloads: tuple[str, ...]
    peers: tuple[Peer, ...]
    repeats: int
    once_above_s: float
    limit_s: float
    quiet_s: float
    model: Model
    scratch: str

    def peers_for(self, dataset: Dataset) -> list[Peer]:
        """Return the peers that take part in a workload."""
        large = dataset.sizes.mean() > LARGE_BYTES
        return [
            peer for peer in self.peers if large or not ("range_bytes" in peer.options or "chunked" in peer.options)
        ]


def run_download(plan: DownloadPlan, *, say: Callable[[str], None], save: Callable[[list[Cell]], None]) -> list[Cell]:
    """Measure everything, saving after every run."""
    cells: list[Cell] = []
    with BenchServer(plan.model, directory=plan.scratch) as server:
        forms = _warm_up(server, plan, say)
        for workload in plan.workloads:
            work = Work(Dataset(WORKLOADS[workload]), plan.scratch)
            server.add_bucket(BUCKET, work.dataset.spec)
            server.prepare(BUCKET, forms)
            case = {"workload": workload, "objects": work.dataset.count, "bytes": int(work.dataset.sizes.sum())}
            peers = plan.peers_for(work.dataset)
            group = [Cell(case=case, peer=peer.label, family=peer.family) for peer in peers]
            cells += group
            for cell, peer in interleaved(group, peers, repeats=plan.repeats, once_above_s=plan.once_above_s):
                wait_until_quiet(plan.quiet_s)
                cell.runs.append(download_once(server, peer, plan, work))
                say(_line(cell))
                save(cells)
            server.drop_bucket(BUCKET)
            work.remove()
    return cells


class Work:
    """A workload's truth, and the files that hand it to the programs."""

    def __init__(self, dataset: Dataset, scratch: str) -> None:
        self.dataset = dataset
        self.names = [name.decode() for name in dataset.names(0, dataset.count)]
        self.objects_file = os.path.join(scratch, "objects.json")
        with open(self.objects_file, "w", encoding="utf-8") as file:
            json.dump(list(zip(self.names, dataset.sizes.tolist(), strict=True)), file)
        self._manifest_directory = os.path.join(scratch, "manifest")
        self.manifest = write_manifest(dataset, bucket=BUCKET, uri=f"file://{self._manifest_directory}")

    def remove(self) -> None:
        """Delete the files."""
        os.unlink(self.objects_file)
        shutil.rmtree(self._manifest_directory)

    def check(self, destination: str) -> str:
        """Compare every file with its object, byte for byte by CRC32C; return what is wrong."""
        checksums = self.dataset.checksums.tolist()
        for name, size, checksum in zip(self.names, self.dataset.sizes.tolist(), checksums, strict=True):
            try:
                found, found_size = _checksum(f"{destination}/{name}")
            except FileNotFoundError:
                return f"{name} is missing"
            if (found, found_size) != (checksum, size):
                return f"{name} has wrong bytes"
        # What a program keeps beside the files, such as a receipt, has a name that starts with a dot.
        present = sum(not name.startswith(".") for _, directories, names in _walk(destination) for name in names)
        return "" if present == len(self.names) else f"{present} files, {len(self.names)} expected"


def _walk(top: str) -> Iterator[tuple[str, list[str], list[str]]]:
    for directory, directories, names in os.walk(top):
        directories[:] = [name for name in directories if not name.startswith(".")]
        yield directory, directories, names


def _checksum(path: str) -> tuple[int, int]:
    value, size = 0, 0
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(1 << 22):
            value = google_crc32c.extend(value, piece)
            size += len(piece)
    return value, size


def download_once(server: BenchServer, peer: Peer, plan: DownloadPlan, work: Work) -> Run:
    """Run a peer once, into a fresh directory, and compare all bytes."""
    scratch = os.path.join(plan.scratch, "run")
    destination = os.path.join(scratch, "files")
    os.makedirs(scratch)
    if peer.name != "dataflux":  # which makes its destination itself
        os.makedirs(destination)
    task = {
        "bucket": BUCKET,
        "endpoint": server.endpoint,
        "destination": destination,
        "objects": work.objects_file,
        "manifest": work.manifest,
    }

    def check(report: dict[str, Any]) -> str:
        composites = server.counts().composites
        return f"left {composites} composites" if composites else work.check(destination)

    try:
        checkout = checkout_of(peer, plan.scratch)
        return measure(server, peer, task, limit_s=plan.limit_s, check=check, checkout=checkout)
    finally:
        shutil.rmtree(scratch)


def _warm_up(server: BenchServer, plan: DownloadPlan, say: Callable[[str], None]) -> list[str]:
    """Run every program once on a few objects: does it work here, and fill the page cache with what it imports.

    Returns the forms of listings that are asked for by programs that list the bucket themselves.
    """
    work = Work(Dataset(DatasetSpec(style="classes", count=40, readable=True)), plan.scratch)
    seen = set()
    for peer in plan.peers:
        program = (peer.name, peer.options.get("commit"))
        if program in seen:
            continue
        seen.add(program)
        server.add_bucket(BUCKET, work.dataset.spec)
        run = download_once(server, peer, plan, work)
        server.drop_bucket(BUCKET)
        if run.problem and not run.problem.startswith("invalid"):  # it tells which form it asks for
            raise RuntimeError(f"{peer.label} does not work here: {run.problem} {run.details.get('complaint', '')}")
        say(f"{peer.family} works: {run.operations}")
    work.remove()
    return server.forms()


def _line(cell: Cell) -> str:
    run = cell.runs[-1]
    return (
        f"{cell.case['workload']} {cell.peer}: {run.wall_s:.2f} s (call {run.call_s:.2f} s), {run.cpu_s:.2f} CPU-s, "
        f"{run.peak_pss_bytes / 1e6:.0f} MB, {run.requests} requests, server {run.server_cpu_s:.2f} CPU-s"
        + (f"  ** {run.problem}" if run.problem else "")
    )
