"""The story: three runs of the example DAG, and after each the proof that it did what it should."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_deployment import DeploymentError
from playground import BUCKET, DAG_ID, HOME, Playground, playground, ready_examples
from sources import compare
from telling import Clock, DemoError, ProgressLine, megabytes, say, table

from airflow_dataflux.core.config import DEFAULT_COMPOSITE_PREFIX

RUN_LIMIT_S = 480.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of the DAG did, by its own account and by the server's."""

    manifest: dict[str, Any]
    receipts: list[dict[str, Any]]
    verified: dict[str, Any]
    staging_s: float
    served: Counter[str]

    def total(self, figure: str) -> int:
        """Sum a figure over the shards."""
        return sum(receipt[figure] for receipt in self.receipts)

    @property
    def destination(self) -> Path:
        """Where it staged to."""
        return Path(self.verified["destination"])


def demonstrate() -> None:
    """Show the main job. Raises DemoError where something does not hold."""
    clock = Clock()
    with playground(clock) as world:
        # Runs of one day share a directory, so all three get a time of the same day, whatever the clock says.
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        first = run_dag(world, clock, "a first run", f"{day}T00:01:00Z")
        check_bytes(world, clock, first)
        expect("the first run downloads everything", first.total("downloaded"), len(world.sources.sizes))

        second = run_dag(world, clock, "a second run of the same day: nothing has changed", f"{day}T00:02:00Z")
        expect("the second run downloads nothing", second.total("downloaded"), 0)
        expect("the server served no object's content", second.served["read"] + second.served["compose"], 0)
        clock.step(f"The second run downloaded 0 objects and reused {second.total('reused'):,}")

        victim = pick_victim(world, first.destination)
        victim.unlink()
        clock.step(f"Removed one staged file: {victim.relative_to(first.destination)}")
        third = run_dag(world, clock, "a third run", f"{day}T00:03:00Z")
        expect("the third run downloads exactly the removed file", third.total("downloaded"), 1)
        clock.step("The third run downloaded exactly 1 object")
        check_bytes(world, clock, third)

        left = world.server.listing(BUCKET, DEFAULT_COMPOSITE_PREFIX).count
        expect("no temporary object is left in the bucket", left, 0)
    say("")
    say(table(["", "first run", "second run", "third run"], summary(first, second, third)))
    say("")
    say(f"All of it held. {clock.elapsed_s:.0f} s in all; everything is stopped.")
    say(f"Files and logs are in {HOME}; `make clean` removes them.")


def leave_running() -> None:
    """Start the deployment and leave it to the browser until a signal comes."""
    clock = Clock()
    with playground(clock) as world:
        ready_examples(world)
        say("")
        say(f"  Address:   {world.airflow.url}/dags")
        say(f"  User:      {world.airflow.username}")
        say(f"  Password:  {world.airflow.password}")
        say("")
        say("  Trigger any of the DAGs: its form is filled in, and there is data for it. Example DAGs without a")
        say("  deployment's setting stage below /var/tmp. For a backfill of daily_increment, choose days of January")
        say("  to March 2024. What ran is listed under Browse, Dataflux. Ctrl-C stops everything.")
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it, not a failure
            signal.pause()


def run_dag(world: Playground, clock: Clock, title: str, logical_date: str) -> Run:
    """Trigger the DAG, follow it, and collect what it did."""
    clock.step(f"Triggering {DAG_ID}: {title}")
    world.server.forget_requests()
    airflow = world.airflow
    try:
        run_id = airflow.trigger(DAG_ID, logical_date=logical_date)
        with ProgressLine(clock) as line:
            state = airflow.wait(
                DAG_ID, run_id, timeout_s=RUN_LIMIT_S, on_poll=lambda _: line.show(progress(world, run_id))
            )
        if state != "success":
            raise DemoError(f"{DAG_ID} {run_id} ended as {state!r}.\n{last_words(world, run_id)}")
        tasks = airflow.task_instances(DAG_ID, run_id)
        shards = sorted(one["map_index"] for one in tasks if one["task_id"] == "stage")
        times = [one for one in tasks if one["task_id"] == "stage"]
        began = min(datetime.fromisoformat(one["start_date"]) for one in times)
        ended = max(datetime.fromisoformat(one["end_date"]) for one in times)
        return Run(
            manifest=airflow.xcom(DAG_ID, run_id, "list", "manifest"),
            receipts=[airflow.xcom(DAG_ID, run_id, "stage", map_index=index) for index in shards],
            verified=airflow.xcom(DAG_ID, run_id, "verify"),
            staging_s=(ended - began).total_seconds(),
            served=Counter(world.server.requests().operations),
        )
    except DeploymentError as error:
        raise DemoError(f"{error}\nAirflow's logs are in {HOME / 'airflow'}.") from error


def progress(world: Playground, run_id: str) -> str:
    """Say in one line where a run is."""
    parts = []
    instances = world.airflow.task_instances(DAG_ID, run_id)
    for task in ("list", "stage", "verify"):
        states = Counter(one["state"] or "waiting" for one in instances if one["task_id"] == task)
        parts.append(f"{task}: " + (", ".join(f"{n} {state}" for state, n in sorted(states.items())) or "waiting"))
    counters = world.server.requests()
    served = sum(counters.operations.values())
    return " | ".join([*parts, f"server: {served:,} requests, {megabytes(counters.bytes_sent)} sent"])


def last_words(world: Playground, run_id: str) -> str:
    """Return the end of the log of every task instance that failed."""
    told = []
    for one in world.airflow.task_instances(DAG_ID, run_id):
        if one["state"] == "failed":
            log = world.airflow.logs(
                DAG_ID, run_id, one["task_id"], try_number=one["try_number"], map_index=one["map_index"]
            )
            told.append(f"--- {one['task_id']}[{one['map_index']}]\n" + "\n".join(log.splitlines()[-25:]))
    return "\n".join([*told, f"All logs are in {HOME / 'airflow' / 'logs'}."])


def check_bytes(world: Playground, clock: Clock, run: Run) -> None:
    """Compare the staged tree with its sources, byte for byte."""
    with ProgressLine(clock) as line:
        result = compare(
            world.sources,
            run.destination,
            lambda count: line.show(f"comparing every byte: {count:,} of {len(world.sources.sizes):,} files"),
        )
    if not result.perfect:
        raise DemoError(
            f"The staged tree is not its sources. Missing: {result.missing[:5]} ({len(result.missing)}), different: "
            f"{result.different[:5]} ({len(result.different)}), extra: {result.extra[:5]} ({len(result.extra)})."
        )
    expect("the DAG verified every file", run.verified["verified"], len(world.sources.sizes))
    clock.step(f"All {result.equal:,} staged files equal their sources byte for byte, and no other file is there")


def pick_victim(world: Playground, destination: Path) -> Path:
    """Choose a file to remove: a module of middling size."""
    modules = [name for name in world.sources.sizes if name.endswith(".py")]
    names = sorted(modules, key=lambda name: (world.sources.sizes[name], name))
    return destination / names[len(names) // 2]


def expect(what: str, found: int, wanted: int) -> None:
    """Raise DemoError unless a figure is what it must be."""
    if found != wanted:
        raise DemoError(
            f"Not true that {what}: expected {wanted:,}, found {found:,}. Logs: {HOME / 'airflow' / 'logs'}."
        )


def summary(*runs: Run) -> list[list[str]]:
    """Return the rows of the table."""

    def speed(run: Run) -> str:
        fetched = sum(receipt["total_bytes"] for receipt in run.receipts) if run.total("downloaded") > 1 else 0
        return f"{fetched / 1e6 / run.staging_s:,.1f}" if fetched else "-"

    return [
        ["objects", *(f"{run.manifest['object_count']:,}" for run in runs)],
        ["bytes", *(f"{run.manifest['total_bytes']:,}" for run in runs)],
        ["list seconds", *(f"{run.manifest['stats']['wall_s']:.1f}" for run in runs)],
        ["list requests", *(f"{run.manifest['stats']['requests']:,}" for run in runs)],
        ["downloaded", *(f"{run.total('downloaded'):,}" for run in runs)],
        ["reused", *(f"{run.total('reused'):,}" for run in runs)],
        ["composites", *(f"{run.total('composites'):,}" for run in runs)],
        ["staging seconds", *(f"{run.staging_s:.1f}" for run in runs)],
        ["MB/s", *map(speed, runs)],
        ["verified files", *(f"{run.verified['verified']:,}" for run in runs)],
    ]
