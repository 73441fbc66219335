"""What it costs to start an engine with its workers and do nothing: the start-up of the ideal line."""

from __future__ import annotations

import json
import sys
from typing import Any

# What a listing imports, so that this process, the engine and its workers start as those of a listing.
from airflow_dataflux.core.listing import list_objects  # noqa: F401
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.jobs import run_job
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.runtime.workers import Job, JobContext, WorkerLink
from dataflux_bench.peers.marking import Stopwatch


def work(link: WorkerLink) -> None:
    """Say that the worker is there."""
    link.send("ready")


def wait_for_workers(context: JobContext, payload: Any) -> int:
    """Wait until every worker has said so."""
    ready = 0
    while ready < payload:
        ready += sum(hasattr(event, "message") for event in context.workers.wait())
    return ready


def main(task: dict[str, Any]) -> None:
    """Start, and mark."""
    workers = int(task["options"].get("workers", 2))
    stopwatch = Stopwatch()
    # This module is __main__ here; the engine must find the functions under their importable name.
    from dataflux_bench.peers import startup

    job = Job(run=startup.wait_for_workers, worker_body=startup.work, workers=workers, payload=workers)
    run_job(job, tokens=AnonymousTokens(), cancel=CancelToken(), on_event=lambda event: None, isolated=True)
    stopwatch.done()
    stopwatch.report(count=0, digest="")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
