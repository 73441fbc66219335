"""A DAG of one task, which tells what its `execute` took."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from airflow.sdk import DAG

BUCKET = "{{ dag_run.conf['bucket'] }}"
DESTINATION = "{{ dag_run.conf['destination'] }}"

_BEGAN: ContextVar[float] = ContextVar("began")


def begin(_context: Any) -> None:
    """Note when `execute` begins."""
    _BEGAN.set(time.perf_counter())


def end(context: Any, result: Any = None) -> None:
    """Push what `execute` took, and what it says of its core."""
    execute_s = time.perf_counter() - _BEGAN.get()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    context["ti"].xcom_push(
        key="measured",
        value={
            "execute_s": execute_s,
            "core_s": core_seconds(result),
            "cpu_s": sum(each.ru_utime + each.ru_stime for each in used),
            "peak_rss_mb": sum(each.ru_maxrss for each in used) / 1024,
            "objects": result if isinstance(result, int) else object_count(result),
        },
    )


def core_seconds(result: Any) -> float | None:
    """Return the seconds that a summary gives for the run itself, without what surrounds it in the task."""
    if not isinstance(result, Mapping):
        return None
    if "seconds" in result:
        return float(result["seconds"])
    from airflow_dataflux import Manifest

    return float(Manifest.from_reference(dict(result)).stats["wall_s"])


def object_count(result: Any) -> int:
    """Return how many objects a task listed or staged."""
    if isinstance(result, Mapping):
        return int(result["object_count"])
    return len(result)


def dag(dag_id: str, task: Callable[..., Any], **arguments: Any) -> DAG:
    """Return a DAG of one measured task."""
    with DAG(dag_id, schedule=None) as made:
        task(task_id="task", pre_execute=begin, post_execute=end, **arguments)
    return made
