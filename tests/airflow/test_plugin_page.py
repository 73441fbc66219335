"""The page "Dataflux" in Airflow's real API application: what it shows, to whom, and what it never does."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dag_runs import AIRFLOW_3, FinishedRun, run_dag
from sqlalchemy import delete, select

from airflow_dataflux._version import __version__
from airflow_dataflux.addresses import PROGRESS_KEY, Document, document_key

pytestmark = [
    pytest.mark.usefixtures("airflow_database"),
    pytest.mark.skipif(not AIRFLOW_3, reason="the page is one of Airflow 3"),
]

DOCUMENTS: tuple[Document, ...] = ("report", "manifest", "receipt")
HOSTILE = "\"'><script>alert(1)</script>&amp;\u202e"


@pytest.fixture(scope="module")
def application(airflow_database: Path) -> Iterator[Any]:
    """Airflow's API application with the page in it, and an auth manager that can say no."""
    from airflow.api_fastapi.app import create_app, purge_cached_app
    from narrow_auth import PATH

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", PATH)
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a secret of the tests that is long enough for its purpose " * 2)
        purge_cached_app()
        yield create_app(apps="core")
    purge_cached_app()


@pytest.fixture(scope="module")
def visit(application: Any) -> Callable[..., Any]:
    """Return a function that asks for an address as a user, or as nobody."""
    from narrow_auth import token
    from starlette.testclient import TestClient

    def get(address: str, user: str | None = "*", method: str = "GET", **params: Any) -> Any:
        headers = {"Authorization": f"Bearer {token(application.state.auth_manager, user)}"} if user else {}
        # A client for each request: cookies must not carry one user's session to the next.
        with TestClient(application, base_url="http://testserver", follow_redirects=False) as client:
            return client.request(method, f"/dataflux/{address}", params=params or None, headers=headers)

    return get


@pytest.fixture
def listed(gcs_server: Any, tmp_path: Path) -> FinishedRun:
    """A run of `list_only` that listed 40 objects of 780 bytes in all."""
    gcs_server.create_bucket("data")
    gcs_server.put_many("data", {f"train/{n:03}.txt": b"x" * n for n in range(40)})
    run = run_dag("list_only", {"bucket": "data", "manifest_uri": (tmp_path / "manifest").as_uri()})
    assert run.state == "success"
    return run


def push(run: FinishedRun, task_id: str, value: Any, document: Document = "report") -> None:
    """Tell of a report or another document in the task's name, as anyone can who may write XComs."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    ti = run.task(task_id)
    with create_session() as session:
        XComModel.set(
            key=document_key(document),
            value=value,
            dag_id=ti.dag_id,
            task_id=task_id,
            run_id=ti.run_id,
            map_index=ti.map_index,
            session=session,
        )


def report_fields(run: FinishedRun, task_id: str = "list") -> dict[str, Any]:
    ti = run.task(task_id)
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": task_id, "map_index": ti.map_index}


def notice(uri: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "listing",
        "uri": uri,
        "title": "gs://data",
        "object_count": 40,
        "total_bytes": 780,
        "seconds": 0.25,
        "finished_at": "2026-01-01T00:00:00Z",
        **more,
    }


def report_file(path: Path, content: bytes = b"<p>a report</p>") -> str:
    from airflow_dataflux.core.report.page import REPORT_BEGINS

    path.write_bytes(REPORT_BEGINS + content)
    return path.as_uri()


def only(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


def row_of(page: str, run: FinishedRun) -> str:
    """Return the table row of a run, and the one below it that tells of its progress or its failure."""
    rows = [row for row in re.findall(r"<tbody>.*?</tbody>", page, re.DOTALL) if run.run.run_id in row]
    assert len(rows) == 1
    return rows[0]


def test_nobody_sees_anything_without_a_token(visit: Callable[..., Any], listed: FinishedRun) -> None:
    documents = [(document, report_fields(listed)) for document in DOCUMENTS]
    for address, params in (("", {}), *documents, ("nothing", {})):
        answer = visit(address, user=None, **params)
        assert answer.status_code == (404 if address == "nothing" else 401)
        assert listed.run.run_id not in answer.text


def test_a_forged_token_is_refused(visit: Callable[..., Any], application: Any) -> None:
    from starlette.testclient import TestClient

    with TestClient(application) as client:
        answer = client.get("/dataflux/", headers={"Authorization": "Bearer e30.e30.e30"})
    assert answer.status_code in (401, 403)


def test_a_run_is_listed_with_its_figures_and_a_link_to_its_task(
    visit: Callable[..., Any], listed: FinishedRun
) -> None:
    row = row_of(visit("", dag="list_only").text, listed)
    assert ">40<" in row
    assert ">780 B<" in row
    assert ">listing<" in row
    assert "success" in row
    *_, address = re.findall(r'href="(\.\./dags/[^"]+)"', row)
    assert address.startswith("../dags/list_only/runs/manual__")
    assert "+" not in address  # a time zone would become a space
    assert address.endswith("/tasks/list")


def test_a_backfill_is_work_of_the_days_when_it_was_made_not_of_those_that_it_fills(
    visit: Callable[..., Any], listed: FinishedRun
) -> None:
    from airflow.models.backfill import Backfill, BackfillDagRun
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    long_ago, now = datetime(2024, 1, 2, tzinfo=UTC), datetime.now(UTC)
    with create_session() as session:
        run = session.scalars(select(DagRun).where(DagRun.run_id == listed.run.run_id)).one()
        run.run_after = long_ago
        filling = Backfill(dag_id="list_only", from_date=long_ago, to_date=long_ago, created_at=now - timedelta(days=3))
        session.add(filling)
        session.flush()
        key, run_key = filling.id, run.id
    assert listed.run.run_id not in visit("", dag="list_only").text
    with create_session() as session:
        session.add(BackfillDagRun(backfill_id=key, dag_run_id=run_key, logical_date=long_ago, sort_ordinal=1))
    assert ">40<" in row_of(visit("", dag="list_only").text, listed)
    assert listed.run.run_id not in visit("", dag="list_only", days=1).text


def test_a_reader_sees_only_the_dags_that_they_may_read(visit: Callable[..., Any], listed: FinishedRun) -> None:
    assert listed.run.run_id in visit("", user="list_only").text
    for user in ("stage_only", "another,stage_only", "list_only/TASK_INSTANCE"):
        answer = visit("", user=user)
        assert answer.status_code == 200
        assert listed.run.run_id not in answer.text


def test_figures_and_reports_are_for_those_who_may_read_xcoms(
    visit: Callable[..., Any], listed: FinishedRun, tmp_path: Path
) -> None:
    push(listed, "list", notice(report_file(tmp_path / "report.html")))
    assert "report?" in row_of(visit("").text, listed)
    row = row_of(visit("", user="list_only/XCOM").text, listed)
    assert "report?" not in row
    assert ">40<" not in row
    for document in DOCUMENTS:
        for user in ("list_only/XCOM", "stage_only"):
            assert visit(document, user=user, **report_fields(listed)).status_code == 403
    for document in ("report", "manifest"):
        assert visit(document, user="list_only", **report_fields(listed)).status_code == 200
    assert visit("receipt", user="list_only", **report_fields(listed)).status_code == 404


def test_a_report_is_shown_as_it_is_and_can_run_nothing(
    visit: Callable[..., Any], listed: FinishedRun, tmp_path: Path
) -> None:
    push(listed, "list", notice(report_file(tmp_path / "report.html")))
    answer = visit("report", **report_fields(listed))
    assert (answer.status_code, answer.content) == (200, (tmp_path / "report.html").read_bytes())
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert not any(rule.startswith(("script-src", "connect-src")) for rule in policy)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in answer.headers["Cache-Control"]


def test_the_links_of_tasks_lead_to_what_they_left(
    visit: Callable[..., Any], listed: FinishedRun, tmp_path: Path
) -> None:
    """As the UI would: it resolves an address against its base, which is the parent of the page's own."""
    index = tmp_path / "manifest" / "manifest.json"
    staged = run_dag("stage_only", {"manifest": index.parent.as_uri(), "destination": str(tmp_path / "sta ged")})
    receipt = tmp_path / "sta ged" / ".dataflux" / "receipt.json"
    for run, task, link, more, file, kind in (
        (listed, "list", "Report", "", only(index.parent / "reports"), "text/html; charset=utf-8"),
        (listed, "list", "Manifest", "&download=true", index, "application/json"),
        (staged, "stage", "Manifest", "&download=true", index, "application/json"),
        (staged, "stage", "Receipt", "", receipt, "application/json"),
        (staged, "stage", "Report", "", only(receipt.parent / "reports"), "text/html; charset=utf-8"),
    ):
        address = run.xcom(task, f"_link_{link}Link")
        assert address.startswith("dataflux/")
        answer = visit(address.removeprefix("dataflux/") + more)
        assert (answer.status_code, answer.content) == (200, file.read_bytes()), address
        assert answer.headers["Content-Type"] == kind
        assert "sandbox" in answer.headers["Content-Security-Policy"].split("; ")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "no-store" in answer.headers["Cache-Control"]


def names_on(page: str) -> list[str]:
    """Return the names of the objects that a page about a manifest shows."""
    return re.findall(r'<tr><td class="name">([^<]*)</td>', page)


def test_a_manifest_is_a_page_with_figures_rows_and_columns(visit: Callable[..., Any], listed: FinishedRun) -> None:
    page = visit("manifest", **report_fields(listed)).text
    assert "<dd>40</dd>" in page
    assert "780 B (780 bytes), 20 B an object" in page
    assert "<dt>generation</dt><dd>int64</dd>" in page
    assert names_on(page) == [f"train/{n:03}.txt" for n in range(40)]


def test_a_manifest_is_searched_by_the_front_of_names(visit: Callable[..., Any], listed: FinishedRun) -> None:
    page = visit("manifest", prefix="train/01", **report_fields(listed)).text
    assert names_on(page) == [f"train/{n:03}.txt" for n in range(10, 20)]
    assert 'value="train/01"' in page
    nothing = visit("manifest", prefix=HOSTILE, **report_fields(listed)).text
    assert names_on(nothing) == []
    assert "<script>alert" not in nothing
    assert "No object" in nothing


def test_a_report_in_a_bucket_is_read_through_the_hook(
    visit: Callable[..., Any], listed: FinishedRun, gcs_server: Any, tmp_path: Path
) -> None:
    report_file(tmp_path / "report.html")
    gcs_server.put("data", "reports/a b/report.html", (tmp_path / "report.html").read_bytes())
    push(listed, "list", notice("gs://data/reports/a b/report.html"))
    answer = visit("report", **report_fields(listed))
    assert (answer.status_code, answer.content) == (200, (tmp_path / "report.html").read_bytes())


def unshowable(tmp_path: Path) -> dict[str, str]:
    """Return addresses of what is no report, or is not to be read."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link.html").symlink_to(secret)
    with open(report_file(tmp_path / "huge.html").removeprefix("file://"), "ab") as file:
        file.truncate(17 * 1024 * 1024)
    return {
        "a file": secret.as_uri(),
        "a symbolic link": (tmp_path / "link.html").as_uri(),
        "a way up": f"file://{tmp_path}/below/../secret.txt",
        "a directory": tmp_path.as_uri(),
        "a FIFO": (tmp_path / "fifo").as_uri(),
        "a device": "file:///dev/zero",
        "this process": "file:///proc/self/environ",
        "too large": (tmp_path / "huge.html").as_uri(),
        "a missing file": (tmp_path / "missing.html").as_uri(),
        "a web address": "http://127.0.0.1:1/report.html",
        "a chained address": "s3::http://127.0.0.1:1/report.html",
        "a relative path": "report.html",
        "a host": "file://elsewhere/report.html",
        "a script": "javascript:alert(1)",
        "a null": "file:///tmp/\0report.html",
        "a missing object": "gs://data/missing.html",
        "a missing bucket": "gs://nowhere-at-all/report.html",
        "another object": "gs://data/train/001.txt",
        "no bucket": "gs:///report.html",
    }


def test_what_is_not_a_report_is_not_shown_and_the_page_says_where_it_is(
    visit: Callable[..., Any], listed: FinishedRun, tmp_path: Path
) -> None:
    for what, uri in unshowable(tmp_path).items():
        push(listed, "list", notice(uri))
        answer = visit("report", **report_fields(listed))
        assert answer.status_code == 404, what
        assert "cannot be shown here" in answer.text, what
        assert "the secret" not in answer.text, what
        assert uri.replace("\0", "\ufffd") in answer.text, what
    push(listed, "list", notice((tmp_path / "missing.html").as_uri()))
    assert "has no such file" in visit("report", **report_fields(listed)).text


@pytest.mark.parametrize("document", ["manifest", "receipt"])
def test_json_is_shown_only_if_it_is_what_is_asked_for(
    visit: Callable[..., Any], listed: FinishedRun, tmp_path: Path, document: Document
) -> None:
    others = {
        "of another format": b'{"format": "dataflux-other/1", "password": "the secret"}',
        "of the other format": b'{"format": "dataflux-%s/1", "password": "the secret"}'
        % (b"receipt" if document == "manifest" else b"manifest"),
        "of no format": b'{"password": "the secret"}',
        "of a format that is no text": b'{"format": ["dataflux-manifest/1"], "password": "the secret"}',
        "a list": b'[{"format": "dataflux-manifest/1"}, "the secret"]',
        "no JSON": b'{"format": "dataflux-manifest/1", the secret',
        "no UTF-8": b'{"format": "dataflux-manifest/1\xff", "password": "the secret"}',
        "too deep": b'{"format": ' + b"[" * 1_000_000,
        "nothing": b"",
    }
    uris = unshowable(tmp_path)
    for number, (what, content) in enumerate(others.items()):
        (tmp_path / f"{number}.json").write_bytes(content)
        uris[what] = (tmp_path / f"{number}.json").as_uri()
    for what, uri in uris.items():
        push(listed, "list", {"uri": uri}, document)
        answer = visit(document, **report_fields(listed))
        assert answer.status_code == 404, what
        assert f"This {document} cannot be shown here" in answer.text, what
        assert "the secret" not in answer.text, what


@pytest.mark.parametrize("value", ["gs://data/x", 7, [], {}, {"uri": 7}, {"uri": ""}, {"uri": None}, None], ids=repr)
def test_an_xcom_of_another_form_is_no_report(visit: Callable[..., Any], listed: FinishedRun, value: Any) -> None:
    push(listed, "list", value)
    assert "report?" not in row_of(visit("").text, listed)
    assert visit("report", **report_fields(listed)).status_code == 404


def test_hostile_words_are_words(visit: Callable[..., Any], listed: FinishedRun) -> None:
    push(listed, "list", notice(f"file:///{HOSTILE}", title=HOSTILE, object_count=-1, total_bytes=HOSTILE))
    for answer in (
        visit("", dag=HOSTILE),
        visit("", state=HOSTILE[:20]),
        visit("", dag="list_only"),
        visit("report", **report_fields(listed)),
        visit("report", **{**report_fields(listed), "run_id": HOSTILE}),
    ):
        assert answer.status_code in (200, 404)
        assert "<script>alert" not in answer.text
        policy = answer.headers["Content-Security-Policy"]
        assert "'unsafe-inline'" not in policy
        assert policy.endswith("style-src 'self'; script-src 'self'")
        assert re.findall("<script[^>]*>", answer.text) == [f'<script src="static/dataflux.js?v={__version__}">']


def test_the_style_and_the_script_are_files_that_anybody_may_read_and_nothing_beside_them(
    visit: Callable[..., Any],
) -> None:
    for name, kind in (("dataflux.css", "text/css"), ("dataflux.js", "text/javascript")):
        answer = visit(f"static/{name}", user=None)
        assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (200, kind)
    for elsewhere in ("static/", "static/../app.py", "static/%2e%2e/app.py", "static/..%2fapp.py"):
        assert visit(elsewhere).status_code == 404


def test_a_failed_task_says_why(visit: Callable[..., Any], gcs_server: Any, tmp_path: Path) -> None:
    run = run_dag("list_only", {"bucket": "nowhere-at-all", "manifest_uri": (tmp_path / "manifest").as_uri()})
    assert run.state == "failed"
    row = row_of(visit("", dag="list_only").text, run)
    assert "BucketNotFoundError: " in row
    assert "nowhere-at-all" in row
    assert ">manifest</a>" not in row, "there is none"
    assert "BucketNotFoundError" not in row_of(visit("", user="list_only/XCOM").text, run)


def test_a_running_task_shows_how_far_it_is(visit: Callable[..., Any], listed: FinishedRun) -> None:
    pytest.importorskip("airflow.models.task_state_store", reason="tasks have no such store before Airflow 3.3")
    from airflow.models.dagrun import DagRun
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    def tell(value: Any) -> None:
        run_id = listed.run.run_id
        with create_session() as session:
            dag_run = session.scalars(select(DagRun).where(DagRun.run_id == run_id)).one()
            session.execute(delete(TaskStateStoreModel).where(TaskStateStoreModel.run_id == run_id))
            session.add(
                TaskStateStoreModel(
                    dag_run_id=dag_run.id,
                    dag_id="list_only",
                    run_id=run_id,
                    task_id="list",
                    map_index=-1,
                    key=PROGRESS_KEY,
                    value=json.dumps(value),
                )
            )

    with create_session() as session:
        ti = session.scalars(select(TaskInstance).where(TaskInstance.run_id == listed.run.run_id)).unique().one()
        ti.state, tries = "running", ti.try_number
    tell({"text": "a third <b>", "try_number": tries, "objects": 10, "of_objects": 30})
    row = row_of(visit("", dag="list_only").text, listed)
    assert '<progress max="100" value="33">' in row
    assert "a third &lt;b&gt;" in row
    assert "<progress" not in row_of(visit("", user="list_only/XCOM").text, listed)
    tell({"text": "of an earlier try", "try_number": tries + 1, "objects": 10, "of_objects": 30})
    assert "earlier try" not in row_of(visit("", dag="list_only").text, listed)
    for other in ("text", 7, [], {"text": 7, "try_number": tries}):
        tell(other)
        assert "<progress" not in row_of(visit("", dag="list_only").text, listed)


def test_the_page_links_a_run_its_dag_its_task_and_its_manifest(visit: Callable[..., Any], listed: FinishedRun) -> None:
    row = row_of(visit("", dag="list_only").text, listed)
    addresses = re.findall(r'href="([^"]+)"', row)
    assert addresses[0] == "../dags/list_only"
    assert addresses[1].startswith("../dags/list_only/runs/manual__")
    assert addresses[2].endswith("/tasks/list")
    assert [address.partition("?")[0] for address in addresses[3:]] == ["report", "manifest"]


def test_what_was_fetched_reused_and_paid_is_shown(
    visit: Callable[..., Any], listed: FinishedRun, tmp_path: Path
) -> None:
    conf = {"manifest": (tmp_path / "manifest").as_uri(), "destination": str(tmp_path / "staged")}
    first = run_dag("stage_only", conf)
    cells = re.findall(r'<td class="n">([^<]*)</td>', row_of(visit("", dag="stage_only").text, first))
    assert cells[:4] == ["40", "780 B", "40", "0"]
    assert cells[4].startswith("$0")
    again = run_dag("stage_only", conf)
    cells = re.findall(r'<td class="n">([^<]*)</td>', row_of(visit("", dag="stage_only").text, again))
    assert cells[:4] == ["40", "780 B", "0", "40"]


def test_the_parts_of_a_pack_and_their_join_are_on_the_page(
    visit: Callable[..., Any], listed: FinishedRun, tmp_path: Path
) -> None:
    conf = {
        "bucket": "data",
        "manifest_uri": (tmp_path / "packed-manifest").as_uri(),
        "output": str(tmp_path / "pack"),
        "tasks": 2,
    }
    run = run_dag("pack_training_data", conf)
    rows = [row for row in visit("", dag="pack_training_data").text.split("<tr>") if run.run.run_id in row]
    packs = [row for row in rows if "<td>packing</td>" in row]
    whole, *parts = packs
    assert [">shard 2 of 2: " in row or ">shard 1 of 2: " in row for row in parts] == [True, True]
    assert "shard " not in whole
    cells = re.findall(r'<td class="n">([^<]*)</td>', whole)
    assert cells[:4] == ["40", "780 B", "40", "0"]
    assert "Joined of 2 parts" in visit("report", **report_fields(run, "join")).text


def test_a_pack_is_listed_with_what_it_wrote_and_its_report_opens(
    visit: Callable[..., Any], listed: FinishedRun, tmp_path: Path
) -> None:
    conf = {"manifest": (tmp_path / "manifest").as_uri(), "output": str(tmp_path / "pack")}
    for written in (["40", "0"], ["0", "40"]):
        packed = run_dag("pack_only", conf)
        row = row_of(visit("", dag="pack_only").text, packed)
        assert "<td>packing</td>" in row
        cells = re.findall(r'<td class="n">([^<]*)</td>', row)
        assert cells[2:4] == written
        page = visit("report", **report_fields(packed, "pack"))
        assert page.status_code == 200
        assert "Phases of the pack" in page.text


def test_one_dag_cannot_be_asked_for_in_the_name_of_another(
    visit: Callable[..., Any], listed: FinishedRun, tmp_path: Path
) -> None:
    push(listed, "list", notice(report_file(tmp_path / "report.html")))
    asked = report_fields(listed)
    twice = f"report?dag_id=stage_only&run_id={asked['run_id'].replace('+', '%2B')}&task_id=list&dag_id=list_only"
    assert visit(twice, user="stage_only").status_code == 403
    for dag_id, status in (("~", 403), ("", 400), ("stage_only/../list_only", 403)):
        assert visit("report", user="stage_only", **{**asked, "dag_id": dag_id}).status_code == status


@pytest.mark.parametrize("params", [{"days": 0}, {"days": "x"}, {"page": -1}, {"dag": "x" * 300}], ids=str)
def test_what_cannot_be_is_not_understood(visit: Callable[..., Any], params: dict[str, Any]) -> None:
    assert visit("", **params).status_code == 400


def test_nothing_can_be_changed(visit: Callable[..., Any]) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert visit("", method=method).status_code == 405
        for document in DOCUMENTS:
            assert visit(document, method=method).status_code == 405


def test_a_filter_is_text_and_not_a_pattern(visit: Callable[..., Any], listed: FinishedRun) -> None:
    assert listed.run.run_id in visit("", dag="st_on").text
    assert listed.run.run_id not in visit("", dag="l%y").text
    assert listed.run.run_id not in visit("", dag="list_only", state="failed").text
