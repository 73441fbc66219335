"""What the plugin's pages show, as plain data, and how it becomes HTML through `templates/` (pure).

Every value is escaped by the templates. All addresses are relative: the pages are served at `<base>/dataflux/…`, so
`../` is Airflow's own base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow_dataflux._version import __version__
from airflow_dataflux.addresses import Document, document_address, document_key
from airflow_dataflux.core.report.page import open_templates

if TYPE_CHECKING:
    from airflow_dataflux.plugin.manifest_page import ManifestView

DAYS = (1, 7, 30, 90, 365)
STATES = ("running", "success", "failed", "up_for_retry", "skipped")

_LIST_REQUEST_USD = 0.005 / 1000
"""A list request is one of class A, in the United States multi-region (https://cloud.google.com/storage/pricing)."""

REFRESH_S = 5
"""How often a page with running tasks is loaded anew; tasks tell of their progress as often."""

REPORT_KEY = document_key("report")
"""XCom key under which a task tells of its report."""

KINDS: Mapping[str, str] = {
    "FastListOperator": "listing",
    "ComposeDownloadOperator": "staging",
    "ComposePackOperator": "packing",
    "JoinPacksOperator": "packing",
}
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
    """What was listed, staged or packed, of which how much was fetched and reused, and an estimate of what it cost.

    None where it is not known.
    """

    object_count: int | None = None
    total_bytes: int | None = None
    seconds: float | None = None
    fetched: int | None = None
    reused: int | None = None
    usd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunProgress:
    """How far a running task is: a line, and the part that is done if that is known, 0 to 1."""

    text: str
    part: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a report, a manifest or a receipt of a task instance is."""

    uri: str
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One listing, staging or pack of a task instance.

    Attributes:
        kind: "listing", "staging", "packing", or empty where nothing tells.
        label: what Airflow shows of a mapped instance.
        state: Airflow's.
        started_at: of the latest try.
        hostname: of the worker.
        figures: of its report, else of what it returned; the task's own duration if neither has seconds.
        report: None without one, or if the reader may not see it.
        has_manifest: there is a page about its manifest.
        progress: of a task that runs; None if it is not known.
        error: why the task failed, as far as it said; empty otherwise.
    """

    key: TaskKey
    kind: str
    label: str
    state: str
    started_at: datetime | None
    hostname: str
    figures: Figures
    report: Place | None
    has_manifest: bool = False
    progress: RunProgress | None = None
    error: str = ""


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
    """Read the figures of a report, a manifest reference, a receipt or a pack; what is common has the same names."""
    if not isinstance(value, Mapping):
        return Figures()
    stats = value.get("stats")
    stats = stats if isinstance(stats, Mapping) else {}
    requests = _count(stats.get("requests"))
    return Figures(
        object_count=_count(value.get("object_count")),
        total_bytes=_count(value.get("total_bytes")),
        seconds=_amount(value.get("seconds", stats.get("wall_s"))),
        fetched=_count(value.get("downloaded", value.get("packed_objects"))),
        reused=_count(value.get("reused", value.get("reused_objects"))),
        usd=_amount(value.get("estimated_usd")) if requests is None else requests * _LIST_REQUEST_USD,
    )


_MOST_EXPECTED = 0.99
"""An earlier listing tells what to expect, not when all is done."""


def progress_of(value: Any, try_number: int) -> RunProgress | None:
    """Read what a try of a task told of how far it is; None if it told nothing, or another try did."""
    if not isinstance(value, Mapping) or value.get("try_number") != try_number:
        return None
    text = value.get("text")
    if not isinstance(text, str):
        return None
    for done, whole in (("bytes", "of_bytes"), ("objects", "of_objects")):
        amount, of = _count(value.get(done)), _count(value.get(whole))
        if amount is not None and of:
            return RunProgress(text=text, part=min(1.0, amount / of))
    amount, of = _count(value.get("objects")), _count(value.get("expected_objects"))
    if amount is not None and of:
        return RunProgress(text=text, part=min(_MOST_EXPECTED, amount / of))
    return RunProgress(text=text)


def error_of(value: Any) -> str:
    """Return the sentence with which a task failed, empty if it left none."""
    error = value.get("error") if isinstance(value, Mapping) else None
    return error if isinstance(error, str) else ""


def _amount(value: Any) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if usable else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def task_address(key: TaskKey) -> str:
    """Return where Airflow's UI shows a task instance."""
    names = [quote(part, safe="") for part in (key.dag_id, key.run_id, key.task_id)]
    address = f"../dags/{names[0]}/runs/{names[1]}/tasks/{names[2]}"
    return address if key.map_index < 0 else f"{address}/mapped/{key.map_index}"


def dag_address(key: TaskKey) -> str:
    """Return where Airflow's UI shows a DAG."""
    return f"../dags/{quote(key.dag_id, safe='')}"


def run_address(key: TaskKey) -> str:
    """Return where Airflow's UI shows a run of a DAG."""
    return f"{dag_address(key)}/runs/{quote(key.run_id, safe='')}"


def manifest_address(key: TaskKey) -> str:
    """Return where the plugin shows the manifest of a task instance, relative to its pages."""
    return document_address("manifest", **_fields(key))


def report_address(key: TaskKey) -> str:
    """Return where the plugin shows the report of a task instance, relative to its pages."""
    return document_address("report", **_fields(key))


def _fields(key: TaskKey) -> dict[str, Any]:
    return {"dag_id": key.dag_id, "run_id": key.run_id, "task_id": key.task_id, "map_index": key.map_index}


def draw_list(rows: Sequence[Work], *, days: int, dag: str, state: str, number: int, more: bool) -> bytes:
    """Draw a page of work, the form that selects it, and the links to newer and older work."""

    def page_address(page: int) -> str:
        return "?" + urlencode({"days": days, "dag": dag, "state": state, "page": page})

    return _render(
        "list.html",
        rows=rows,
        selected={"days": days, "dag": dag, "state": state},
        days=sorted({*DAYS, days}),
        states=STATES,
        refresh_s=REFRESH_S if any(row.state == "running" for row in rows) else 0,
        newer=page_address(number - 1) if number > 0 else "",
        older=page_address(number + 1) if more else "",
    )


def draw_unavailable(document: Document, key: TaskKey, place: Place, hostname: str, reason: str) -> bytes:
    """Say where a document is, and why it is not shown."""
    return _render(
        "unavailable.html", document=document, key=key, place=place, hostname=hostname or "unknown", reason=reason
    )


def draw_manifest(key: TaskKey, view: ManifestView) -> bytes:
    """Draw a page about a manifest: figures, rows from both ends or those that were searched for, its columns."""
    index = view.index
    asked = {
        name: value
        for name, value in index.request.items()
        if name != "identity" and value not in (None, "", [], {}, ())
    }
    return _render(
        "manifest.html",
        key=key,
        view=view,
        index=index,
        asked=asked,
        mean=index.total_bytes / index.object_count if index.object_count else 0,
        prefixes=[f"gs://{index.bucket}/{prefix}" for prefix in index.prefixes],
        download=f"{document_address('manifest', **_fields(key))}&download=true",
    )


def draw_refusal(title: str, reason: str, login: str = "") -> bytes:
    """Say why there is nothing to see; `login` is where that may be changed."""
    return _render("refusal.html", title=title, reason=reason, login=login)


def _render(template: str, **values: object) -> bytes:
    common = {
        "version": __version__,
        "dag_address": dag_address,
        "run_address": run_address,
        "task_address": task_address,
        "report_address": report_address,
        "manifest_address": manifest_address,
        "utc": _utc,
        "refresh_s": 0,
    }
    return open_templates(__package__).get_template(template).render({**common, **values}).encode()


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
