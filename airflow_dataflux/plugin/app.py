"""The web application behind the page: routes that read, and no other.

Guarantees: a request without a valid token of Airflow's is answered with 401, except for the style and the script that
all pages share (`static/`); a reader sees task instances of the DAGs they may read, and figures and documents only
where they may read the DAG's XComs; every answer forbids the browser to load anything but these two files, a document
also those and to run anything (`sandbox`), so that what a DAG's author wrote into a page cannot act as whoever opens
it; no page is kept by caches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from airflow_dataflux.addresses import Document
from airflow_dataflux.plugin import records, views
from airflow_dataflux.plugin.access import CurrentReader, Reader, login_address
from airflow_dataflux.plugin.documents import MEDIA_TYPES, DocumentUnavailableError, read_document
from airflow_dataflux.plugin.views import Figures, TaskKey, Work

if TYPE_CHECKING:
    from airflow_dataflux.core.gcs.store import Store

log = logging.getLogger(__name__)

OpenStore = Callable[[], "Store"]
Answer = Callable[[bytes, str, OpenStore], Response]
"""Makes an answer of a document's bytes, its URI, and what opens the store of its task."""

_HEADERS = {
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_NOTHING = "default-src 'none'; base-uri 'none'; frame-ancestors 'self'"
_PAGE_POLICY = f"{_NOTHING}; form-action 'self'; style-src 'self'; script-src 'self'"
_DOCUMENT_POLICY = f"{_NOTHING}; form-action 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


def make_app() -> FastAPI:
    """Return the application that Airflow's API server mounts."""
    app = FastAPI(title="Dataflux", openapi_url=None, docs_url=None, redoc_url=None)
    app.add_api_route("/", show_list, methods=["GET"], response_class=Response)
    for name, show in (("report", show_report), ("manifest", show_manifest), ("receipt", show_receipt)):
        app.add_api_route(f"/{name}", show, methods=["GET"], response_class=Response)
    app.mount("/static", StaticFiles(packages=[(__package__, "static")]))
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
    """Answer with recent listings, stagings and packs."""
    selection = records.Selection(days=days, dag=dag, state=state, page=number)
    rows, more = records.recent_work(session, selection, reader.dag_ids())
    shown = [_readable(one, reader) for one in rows if reader.may_read_tasks(one.key.dag_id)]
    return _page(views.draw_list(shown, days=days, dag=dag, state=state, number=number, more=more))


def asked_key(
    dag_id: Annotated[str, Query(min_length=1)],
    run_id: Annotated[str, Query(min_length=1)],
    task_id: Annotated[str, Query(min_length=1)],
    map_index: Annotated[int, Query(ge=-1)] = -1,
) -> TaskKey:
    """Return the task instance that an address names."""
    return TaskKey(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)


AskedKey = Annotated[TaskKey, Depends(asked_key)]


def show_report(reader: CurrentReader, session: SessionDep, key: AskedKey) -> Response:
    """Answer with the report of a task instance, or with where it is."""
    return _show("report", reader, session, key, _as_it_is("report"))


def show_manifest(
    reader: CurrentReader,
    session: SessionDep,
    key: AskedKey,
    prefix: Annotated[str, Query(max_length=1024)] = "",
    download: bool = False,
) -> Response:
    """Answer with a page about a task instance's manifest, its index as a file, or where it is."""

    def answer(content: bytes, uri: str, open_store: OpenStore) -> Response:
        if download:
            return _as_it_is("manifest")(content, uri, open_store)
        from airflow_dataflux.plugin.manifest_page import read_manifest  # which reads Parquet: for who looks at one

        return _page(views.draw_manifest(key, read_manifest(content, uri, prefix, open_store)))

    return _show("manifest", reader, session, key, answer)


def show_receipt(reader: CurrentReader, session: SessionDep, key: AskedKey) -> Response:
    """Answer with the receipt of a task instance, or with where it is."""
    return _show("receipt", reader, session, key, _as_it_is("receipt"))


def _as_it_is(document: Document) -> Answer:
    """Return what answers with a document's own bytes, of which JSON is offered as a file."""

    def answer(content: bytes, uri: str, _open_store: OpenStore) -> Response:
        headers = {**_HEADERS, "Content-Security-Policy": _DOCUMENT_POLICY}
        if document == "manifest":
            headers["Content-Disposition"] = 'attachment; filename="manifest.json"'
        return Response(content, media_type=MEDIA_TYPES[document], headers=headers)

    return answer


def _show(document: Document, reader: Reader, session: SessionDep, key: TaskKey, answer: Answer) -> Response:
    if not reader.may_read_xcoms(key.dag_id):
        # The same for a DAG that does not exist: what is there is nobody's business who may not read it.
        words = f"You may not read the XComs of this DAG, and where its {document} is, is one."
        raise HTTPException(HTTPStatus.FORBIDDEN, words)
    found = records.find_document(session, key, document)
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"This task instance told of no {document}.")
    place, hostname = found
    connection, chain = records.connection_of(session, key)

    def open_store() -> Store:
        from airflow_dataflux.hooks.dataflux import DatafluxHook

        named: dict[str, Any] = {} if connection is None else {"gcp_conn_id": connection}
        return DatafluxHook(impersonation_chain=chain, **named).get_conn()

    try:
        return answer(read_document(document, place.uri, open_store), place.uri, open_store)
    except DocumentUnavailableError as error:
        log.info("The %s of %s at %s is not shown: %s", document, key, place.uri, error, exc_info=error.__cause__)
        return _page(views.draw_unavailable(document, key, place, hostname, error.message), HTTPStatus.NOT_FOUND)


def _readable(one: Work, reader: Reader) -> Work:
    if reader.may_read_xcoms(one.key.dag_id):
        return one
    return replace(one, report=None, label="", figures=Figures(), has_manifest=False, progress=None, error="")


def _page(content: bytes, status: int = HTTPStatus.OK) -> Response:
    headers = {**_HEADERS, "Content-Security-Policy": _PAGE_POLICY}
    return Response(content, status, media_type="text/html", headers=headers)


def _refused(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", HTTPStatus.INTERNAL_SERVER_ERROR)
    if status == HTTPStatus.UNAUTHORIZED:
        login = login_address(str(request.url))
        return _page(views.draw_refusal("Not logged in", "Log in to Airflow first.", login), status)
    return _page(views.draw_refusal(HTTPStatus(status).phrase, str(getattr(error, "detail", ""))), status)


def _misunderstood(request: Request, error: Exception) -> Response:
    reason = "The address lacks a field or has one that cannot be."
    return _page(views.draw_refusal("Not understood", reason), HTTPStatus.BAD_REQUEST)
