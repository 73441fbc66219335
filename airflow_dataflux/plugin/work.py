"""What the page shows: one task instance's listing or staging (pure data)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_dataflux.links.pages import document_key

REPORT_KEY = document_key("report")
"""XCom key under which a task tells of its report."""

KINDS: Mapping[str, str] = {"FastListOperator": "listing", "ComposeDownloadOperator": "staging"}
"""What the operators of this package do, by the name that Airflow keeps of their class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskKey:
    """Which task instance. Its names are whatever the DAG's author chose."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What was listed or staged; None where it is not known."""

    object_count: int | None = None
    total_bytes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a report, a manifest or a receipt of a task instance is."""

    uri: str
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One listing or staging of a task instance.

    Attributes:
        kind: "listing", "staging", or empty where nothing tells.
        label: what Airflow shows of a mapped instance.
        state: Airflow's.
        started_at: of the latest try.
        hostname: of the worker.
        figures: of its report, else of what it returned; the task's own duration if neither has seconds.
        report: None without one, or if the reader may not see it.
    """

    key: TaskKey
    kind: str
    label: str
    state: str
    started_at: datetime | None
    hostname: str
    figures: Figures
    report: Place | None


def place_of(value: Any) -> Place | None:
    """Read what a task told of a document; None if it is not of the form that this package pushes."""
    if not isinstance(value, Mapping):
        return None
    uri, title = value.get("uri"), value.get("title")
    return Place(uri=uri, title=title if isinstance(title, str) else "") if isinstance(uri, str) and uri else None


def kind_of(value: Any) -> str:
    """Return the kind that a report tells, empty if none."""
    kind = value.get("kind") if isinstance(value, Mapping) else None
    return kind if isinstance(kind, str) and kind in KINDS.values() else ""


def figures_of(value: Any) -> Figures:
    """Read the figures of a report, a manifest reference or a receipt; all of them have the same names."""
    if not isinstance(value, Mapping):
        return Figures()
    stats = value.get("stats")
    seconds = value.get("seconds", stats.get("wall_s") if isinstance(stats, Mapping) else None)
    return Figures(
        object_count=_count(value.get("object_count")),
        total_bytes=_count(value.get("total_bytes")),
        seconds=seconds if isinstance(seconds, int | float) and not isinstance(seconds, bool) else None,
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
