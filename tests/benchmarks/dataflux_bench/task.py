"""What a task costs, not the core: real Airflow tasks, each in a process of its own as an executor starts it.

    make bench-task SIZES=1k,10k REPEATS=3

One deployment of Airflow runs DAGs of one task (`task_dags/`), one at a time, against the benchmark's server. Beside
this project's operators stand `GCSListObjectsOperator` and a Python task that reads with `GCSHook`, object after
object; the latter only up to `--one-by-one-most` objects, since it takes a read's latency for each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_deployment import AirflowDeployment

from dataflux_bench.machine import describe
from dataflux_bench.manifests import write_manifest
from dataflux_bench.server.dataset import Dataset, DatasetSpec
from dataflux_bench.server.latency import Model
from dataflux_bench.server.process import BenchServer

DAGS = Path(__file__).parent / "task_dags"
BUCKET = "bench"
WAYS = ("list_ours", "list_google", "stage_ours", "stage_google")
ANONYMOUS = '{"conn_type": "google_cloud_platform", "extra": {"is_anonymous": true, "project": "bench"}}'
COLUMNS = ("task_s", "execute_s", "core_s", "cpu_s", "peak_rss_mb")


@dataclass(kw_only=True, slots=True)
class TaskCell:
    """The runs of one way at one size; each run has the figures of `COLUMNS`, in seconds and MiB."""

    way: str
    objects: int
    runs: list[dict[str, float | None]] = field(default_factory=list)

    def median(self, figure: str) -> float | None:
        """Return the middle of a figure over the runs; None where the way does not tell it."""
        values = [value for run in self.runs if (value := run[figure]) is not None]
        return statistics.median(values) if values else None


def run_tasks(
    *,
    sizes: Sequence[int],
    ways: Sequence[str],
    repeats: int,
    one_by_one_most: int,
    scratch: str,
    say: Callable[[str], None],
) -> list[TaskCell]:
    """Measure every way at every size, in turn. Raises RuntimeError where a task fails or gives a wrong count."""
    cells: list[TaskCell] = []
    with BenchServer(Model(), directory=scratch) as server:
        environment = {"STORAGE_EMULATOR_HOST": server.endpoint, "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": ANONYMOUS}
        with AirflowDeployment(Path(scratch) / "airflow", DAGS, environment=environment, parallelism=1) as airflow:
            for size in sizes:
                dataset = Dataset(DatasetSpec(style="classes", count=size, sizes=str(10 << 10), readable=True))
                server.add_bucket(BUCKET, dataset.spec)
                manifest = write_manifest(dataset, bucket=BUCKET, uri=f"file://{scratch}/manifest")
                taking_part = [way for way in ways if way != "stage_google" or size <= one_by_one_most]
                group = [TaskCell(way=way, objects=size) for way in taking_part]
                cells += group
                for _ in range(repeats):
                    for cell in group:
                        cell.runs.append(_run_once(airflow, cell, manifest, scratch))
                        say(_line(cell))
                server.drop_bucket(BUCKET)
                shutil.rmtree(f"{scratch}/manifest")
    return cells


def _run_once(
    airflow: AirflowDeployment, cell: TaskCell, manifest: dict[str, Any], scratch: str
) -> dict[str, float | None]:
    place = tempfile.mkdtemp(prefix="task-", dir=scratch)
    conf = {
        "bucket": BUCKET,
        "manifest": manifest,
        "manifest_uri": f"file://{place}/manifest",
        "destination": f"{place}/files",
    }
    # What it leaves is deleted at the end of everything: for five minutes after many files were deleted, ext4 searches
    # for the inodes that it may use, and 100,000 new files take 40 seconds of processor time more.
    run_id = airflow.trigger(cell.way, conf)
    state = airflow.wait(cell.way, run_id, timeout_s=1800)
    if state != "success":
        raise RuntimeError(f"{cell.way} failed: {airflow.logs(cell.way, run_id, 'task')[-2000:]}")
    measured = airflow.xcom(cell.way, run_id, "task", "measured")
    if measured["objects"] != cell.objects:
        raise RuntimeError(f"{cell.way} found {measured['objects']} objects of {cell.objects}")
    instance = airflow.task_instance(cell.way, run_id, "task")
    return {"task_s": instance["duration"], **{name: measured[name] for name in COLUMNS[1:]}}


def _line(cell: TaskCell) -> str:
    return f"{cell.way} {cell.objects:,}: " + ", ".join(
        f"{name} {value:.2f}" for name, value in cell.runs[-1].items() if value is not None
    )


def tasks_markdown(cells: Sequence[TaskCell], command: str) -> str:
    """Return the table, with each way's whole task beside that of Airflow's own provider."""
    whole = {(cell.way, cell.objects): cell.median("task_s") for cell in cells}
    lines = [
        "# What a task costs",
        "",
        f"`{command}`, medians. {describe()['date']}, commit {describe()['commit']}.",
        "",
        "| task | objects | task s | times faster | `execute` s | core s | beyond the core s | CPU s | peak MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for cell in cells:
        job, side = cell.way.split("_")
        ours, theirs = whole[cell.way, cell.objects], whole.get((f"{job}_google", cell.objects))
        faster = f"{theirs / ours:.2f}" if side == "ours" and ours and theirs else ""
        execute, core = cell.median("execute_s"), cell.median("core_s")
        beyond = f"{execute - core:.2f}" if execute is not None and core is not None else ""
        figures = [f"{value:.2f}" if (value := cell.median(name)) is not None else "" for name in COLUMNS]
        lines.append(
            f"| {cell.way} | {cell.objects:,} | {figures[0]} | {faster} | {figures[1]} | {figures[2]} | {beyond} "
            f"| {figures[3]} | {figures[4]} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="bench-task", description=__doc__)
    parser.add_argument("--sizes", default="1k,10k,100k")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one-by-one-most", type=int, default=1000)
    parser.add_argument("--output", default="build/benchmarks")
    parser.add_argument("--scratch", help="existing directory for data; the default is the system's")
    options = parser.parse_args(arguments)
    scratch = tempfile.mkdtemp(prefix="dataflux-bench-", dir=options.scratch)
    try:
        cells = run_tasks(
            sizes=[int(size.replace("k", "000")) for size in options.sizes.split(",")],
            ways=options.ways.split(","),
            repeats=options.repeats,
            one_by_one_most=options.one_by_one_most,
            scratch=scratch,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
    finally:
        shutil.rmtree(scratch)
    os.makedirs(options.output, exist_ok=True)
    page = tasks_markdown(cells, f"make bench-task SIZES={options.sizes} REPEATS={options.repeats}")
    Path(options.output, "task.md").write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
