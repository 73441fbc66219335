"""The web application behind the page: two routes that read, and no other.

Guarantees: a request without a valid token of Airflow's is answered with 401; a reader sees task instances of the DAGs
they may read, and figures and reports only where they may read the DAG's XComs; every answer forbids the browser to
load anything, a report also to run anything (`sandbox`), so that what a DAG's author wrote into a page cannot act as
whoever opens it; nothing is kept by caches.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from airflow_dataflux.plugin import page, records
from airflow_dataflux.plugin.access import CurrentReader, Reader, login_address
from airflow_dataflux.plugin.reports import ReportUnavailableError, read_report
from airflow_dataflux.plugin.work import Figures, TaskKey, Work

if TYPE_CHECKING:
    from airflow_dataflux.core.gcs.store import Store

log = logging.getLogger(__name__)

_HEADERS = {
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_NOTHING = "default-src 'none'; base-uri 'none'; frame-ancestors 'self'"
_REPORT_POLICY = f"{_NOTHING}; form-action 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


def make_app() -> FastAPI:
    """Return the application that Airflow's API server mounts."""
    app = FastAPI(title="Dataflux", openapi_url=None, docs_url=None, redoc_url=None)
    app.add_api_route("/", show_list, methods=["GET"], response_class=Response)
    app.add_api_route("/report", show_report, methods=["GET"], response_class=Response)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _misunderstood)
    return app


def show_list(
    reader: CurrentReader,
    session: SessionDep,
    days: Annotated[int, Query(ge=1, le=3650)] = 30,
    dag: Annotated[str, Query(max_length=250)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
    number: Annotated[int, Query(alias="page", ge=0, le=10_000)] = 0,
) -> Response:
    """Answer with recent listings and stagings."""
    selection = records.Selection(days=days, dag=dag, state=state, page=number)
    rows, more = records.recent_work(session, selection, reader.dag_ids())
    shown = [_readable(one, reader) for one in rows if reader.may_read_tasks(one.key.dag_id)]
    return _page(
        lambda nonce: page.draw_list(shown, days=days, dag=dag, state=state, number=number, more=more, nonce=nonce)
    )


def show_report(
    reader: CurrentReader,
    session: SessionDep,
    dag_id: Annotated[str, Query(min_length=1)],
    run_id: Annotated[str, Query(min_length=1)],
    task_id: Annotated[str, Query(min_length=1)],
    map_index: Annotated[int, Query(ge=-1)] = -1,
) -> Response:
    """Answer with the report of a task instance, or with where it is."""
    key = TaskKey(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
    if not reader.may_read_xcoms(dag_id):
        # The same for a DAG that does not exist: what is there is nobody's business who may not read it.
        raise HTTPException(HTTPStatus.FORBIDDEN, "You may not read the XComs of this DAG, and a report is one.")
    found = records.find_report(session, key)
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "This task instance told of no report.")
    report, hostname = found
    connection, chain = records.connection_of(session, key)

    def open_store() -> Store:
        from airflow_dataflux.hooks.dataflux import DatafluxHook

        named = {} if connection is None else {"gcp_conn_id": connection}
        return DatafluxHook(impersonation_chain=chain, **named).get_conn()

    try:
        content = read_report(report.uri, open_store)
    except ReportUnavailableError as error:
        log.info("The report of %s at %s is not shown: %s", key, report.uri, error, exc_info=error.__cause__)
        reason = error.message
        return _page(
            lambda nonce: page.draw_unavailable(key, report, hostname, reason, nonce), status=HTTPStatus.NOT_FOUND
        )
    return Response(
        content,
        media_type="text/html",
        headers={**_HEADERS, "Content-Security-Policy": _REPORT_POLICY},
    )


def _readable(one: Work, reader: Reader) -> Work:
    if reader.may_read_xcoms(one.key.dag_id):
        return one
    return replace(one, report=None, label="", figures=Figures())


def _page(draw: Callable[[str], bytes], status: int = HTTPStatus.OK) -> Response:
    nonce = secrets.token_urlsafe(18)
    policy = f"{_NOTHING}; form-action 'self'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
    return Response(
        draw(nonce), status, media_type="text/html", headers={**_HEADERS, "Content-Security-Policy": policy}
    )


def _refused(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", HTTPStatus.INTERNAL_SERVER_ERROR)
    if status == HTTPStatus.UNAUTHORIZED:
        login = login_address(str(request.url))
        return _page(lambda nonce: page.draw_refusal("Not logged in", "Log in to Airflow first.", nonce, login), status)
    words = str(getattr(error, "detail", ""))
    return _page(lambda nonce: page.draw_refusal(HTTPStatus(status).phrase, words, nonce), status)


def _misunderstood(request: Request, error: Exception) -> Response:
    words = "The address lacks a field or has one that cannot be."
    return _page(lambda nonce: page.draw_refusal("Not understood", words, nonce), HTTPStatus.BAD_REQUEST)
