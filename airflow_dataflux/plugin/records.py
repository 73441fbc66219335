"""Recent listings, stagings and packs of the deployment, from Airflow's database. Reads only.

Assumptions: the tables are large, so every query begins with the runs of the last days (indexes of Airflow's) and is
cut to one page; XComs may hold anything, and may be kept outside the database, where only a reference is found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.models.backfill import Backfill, BackfillDagRun
from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import String, and_, cast, exists, func, or_, select, tuple_, union
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import Subquery

from airflow_dataflux.addresses import ERROR_KEY, PROGRESS_KEY, Document, document_key
from airflow_dataflux.plugin.views import (
    KINDS,
    REPORT_KEY,
    Figures,
    Place,
    TaskKey,
    Work,
    error_of,
    figures_of,
    kind_of,
    place_of,
    progress_of,
)

try:
    from airflow.models.task_state_store import TaskStateStoreModel
except ImportError:  # 3.0 to 3.2
    TaskStateStoreModel = None  # type: ignore[assignment,misc]

PAGE_ROWS = 50

_MANIFEST_KEY = document_key("manifest")

_FAILED_STATES = frozenset({"failed", "up_for_retry"})

_FIGURE_KEYS = ("manifest", "return_value")
"""XComs that have the figures of a task without a report: a sharded listing leaves its whole reference in the first."""

_SHOWN_KEYS = (REPORT_KEY, _MANIFEST_KEY, PROGRESS_KEY, ERROR_KEY, *_FIGURE_KEYS)

_MOST_CHARACTERS = 65_536
"""Of an XCom that is looked into for figures; an inline listing is longer, and not worth its reading."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which work to show.

    Attributes:
        days: only of runs that were due in so many days, or that a backfill of so many days asked for.
        dag: part of the DAG's name; empty for all.
        state: Airflow's; empty for all.
        page: from 0.
    """

    days: int = 30
    dag: str = ""
    state: str = ""
    page: int = 0


def recent_work(session: Session, selection: Selection, dag_ids: Iterable[str]) -> tuple[list[Work], bool]:
    """Return one page of work of these DAGs, the latest first, and whether there is more.

    What XComs tell is part of it: the caller takes that away where it may not be shown.
    """
    found = list(session.scalars(_statement(selection, dag_ids)).unique())
    shown, more = found[:PAGE_ROWS], len(found) > PAGE_ROWS
    keys = [_key(one) for one in shown]
    told = _xcoms(session, keys) | _task_states(session, [_key(one) for one in shown if one.state == "running"])
    return [_work(one, told) for one in shown], more


def find_document(session: Session, key: TaskKey, document: Document) -> tuple[Place, str] | None:
    """Return where a document of a task instance is and the name of its worker; None if there is none."""
    found = session.scalars(select(TaskInstance).where(_is(TaskInstance, key))).unique().one_or_none()
    if found is None:
        return None
    name = document_key(document)
    place = place_of(_xcoms(session, [key], keys=(name,)).get((key, name)))
    return (place, found.hostname or "") if place else None


def connection_of(session: Session, key: TaskKey) -> tuple[str | None, str | list[str] | None]:
    """Return the connection and the impersonation chain that a task instance used, None where nothing tells."""
    fields = session.scalars(
        select(RenderedTaskInstanceFields.rendered_fields).where(_is(RenderedTaskInstanceFields, key))
    ).one_or_none()
    if not isinstance(fields, Mapping):
        return None, None
    name, chain = fields.get("gcp_conn_id"), fields.get("impersonation_chain")
    whole = isinstance(chain, str) or (isinstance(chain, list) and all(isinstance(one, str) for one in chain))
    return name if isinstance(name, str) and name else None, chain if whole and chain else None


def _statement(selection: Selection, dag_ids: Iterable[str]) -> Any:
    ours = or_(
        TaskInstance.operator.in_(KINDS),
        exists().where(
            XComModel.key == REPORT_KEY,
            XComModel.dag_id == TaskInstance.dag_id,
            XComModel.run_id == TaskInstance.run_id,
            XComModel.task_id == TaskInstance.task_id,
            XComModel.map_index == TaskInstance.map_index,
        ),
    )
    recent = _runs_since(datetime.now(UTC) - timedelta(days=selection.days))
    statement = (
        select(TaskInstance)
        .join(DagRun, and_(DagRun.dag_id == TaskInstance.dag_id, DagRun.run_id == TaskInstance.run_id))
        .join(recent, recent.c.id == DagRun.id)
        .where(
            TaskInstance.dag_id.in_(sorted(dag_ids)),
            TaskInstance.start_date.is_not(None),
            ours,
        )
        .order_by(TaskInstance.start_date.desc(), TaskInstance.id)
        .limit(PAGE_ROWS + 1)
        .offset(selection.page * PAGE_ROWS)
    )
    if selection.dag:
        statement = statement.where(TaskInstance.dag_id.contains(selection.dag, autoescape=True))
    if selection.state:
        statement = statement.where(TaskInstance.state == selection.state)
    return statement


def _runs_since(since: datetime) -> Subquery:
    """Select the ids of the runs that were due since then, and of those that a backfill since then asked for.

    A backfill's runs were due in the days that they fill. The two are a union, joined, because each half has an index,
    which an OR would not use.
    """
    due = select(DagRun.id.label("id")).where(DagRun.run_after >= since)
    filled = (
        select(BackfillDagRun.dag_run_id)
        .join(Backfill, Backfill.id == BackfillDagRun.backfill_id)
        .where(Backfill.created_at >= since, BackfillDagRun.dag_run_id.is_not(None))
    )
    return union(due, filled).subquery()


def _xcoms(
    session: Session,
    of: list[TaskKey],
    keys: tuple[str, ...] = _SHOWN_KEYS,
) -> dict[tuple[TaskKey, str], Any]:
    if not of:
        return {}
    columns = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index)
    rows = session.execute(
        select(*columns, XComModel.key, XComModel.value).where(
            tuple_(*columns).in_([(key.dag_id, key.run_id, key.task_id, key.map_index) for key in of]),
            XComModel.key.in_(keys),
            func.length(cast(XComModel.value, String)) <= _MOST_CHARACTERS,
        )
    )
    return {
        (TaskKey(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index), name): _decoded(value)
        for dag_id, run_id, task_id, map_index, name, value in rows
    }


def _task_states(session: Session, of: list[TaskKey]) -> dict[tuple[TaskKey, str], Any]:
    """Return what running tasks keep of their progress in Airflow's store of task states, which begins with 3.3."""
    if not of or TaskStateStoreModel is None:
        return {}
    table = TaskStateStoreModel
    columns = (table.dag_id, table.run_id, table.task_id, table.map_index)
    rows = session.execute(
        select(*columns, table.value).where(
            tuple_(*columns).in_([(key.dag_id, key.run_id, key.task_id, key.map_index) for key in of]),
            table.key == PROGRESS_KEY,
            func.length(table.value) <= _MOST_CHARACTERS,
        )
    )
    return {
        (TaskKey(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index), PROGRESS_KEY): _decoded(value)
        for dag_id, run_id, task_id, map_index, value in rows
    }


def _decoded(value: Any) -> Any:
    """Return an XCom's value: the database has it as JSON, which may hold JSON as text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return None
    return value


def _work(one: TaskInstance, told: Mapping[tuple[TaskKey, str], Any]) -> Work:
    key = _key(one)
    pushed = told.get((key, REPORT_KEY))
    report = place_of(pushed)
    figures = figures_of(pushed)
    for name in _FIGURE_KEYS:
        figures = _completed(figures, figures_of(told.get((key, name))))
    if figures.seconds is None:
        figures = replace(figures, seconds=one.duration or None)
    state = str(one.state or "")
    kind = kind_of(pushed) or KINDS.get(one.operator or "", "")
    # A listing says where its manifest will be before it is there.
    has_manifest = place_of(told.get((key, _MANIFEST_KEY))) is not None and (kind != "listing" or state == "success")
    return Work(
        key=key,
        kind=kind,
        label=_label(one),
        state=state,
        started_at=one.start_date,
        hostname=one.hostname or "",
        figures=figures,
        report=report,
        has_manifest=has_manifest,
        progress=progress_of(told.get((key, PROGRESS_KEY)), one.try_number) if state == "running" else None,
        error=error_of(told.get((key, ERROR_KEY))) if state in _FAILED_STATES else "",
    )


def _label(one: TaskInstance) -> str:
    """Return what the DAG calls a mapped instance; empty where it has no more than its number."""
    label = str(one.rendered_map_index or "") if one.map_index >= 0 else ""
    return "" if label == str(one.map_index) else label


def _completed(figures: Figures, more: Figures) -> Figures:
    """Return figures with what they lack from others of the same task instance."""
    known = {name: value for name, value in asdict(figures).items() if value is not None}
    return replace(more, **known)


def _key(one: TaskInstance) -> TaskKey:
    return TaskKey(dag_id=one.dag_id, run_id=one.run_id, task_id=one.task_id, map_index=one.map_index)


def _is(table: Any, key: TaskKey) -> Any:
    return and_(
        table.dag_id == key.dag_id,
        table.run_id == key.run_id,
        table.task_id == key.task_id,
        table.map_index == key.map_index,
    )
