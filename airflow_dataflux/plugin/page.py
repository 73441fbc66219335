"""Draw the plugin's pages (pure). Every value that comes from elsewhere is escaped by `markup`.

All addresses are relative: the pages are served at `<base>/dataflux/…`, so `../` is Airflow's own base.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from airflow_dataflux.core.report import wording
from airflow_dataflux.core.report.markup import Markup, join, tag
from airflow_dataflux.links.pages import Document, document_address
from airflow_dataflux.plugin.style import SCRIPT, STYLE
from airflow_dataflux.plugin.work import Figures, Place, TaskKey, Work

DAYS = (1, 7, 30, 90, 365)
STATES = ("running", "success", "failed", "up_for_retry", "skipped")

_COLUMNS = ("DAG", "Run", "Task", "What", "Started (UTC)", "Objects", "Bytes", "Time", "State", "Report")
_NUMBERS = frozenset({"Objects", "Bytes", "Time"})


def task_address(key: TaskKey) -> str:
    """Return where Airflow's UI shows a task instance."""
    names = [quote(part, safe="") for part in (key.dag_id, key.run_id, key.task_id)]
    address = f"../dags/{names[0]}/runs/{names[1]}/tasks/{names[2]}"
    return address if key.map_index < 0 else f"{address}/mapped/{key.map_index}"


def report_address(key: TaskKey) -> str:
    """Return where the plugin shows the report of a task instance, relative to its pages."""
    return document_address(
        "report", dag_id=key.dag_id, run_id=key.run_id, task_id=key.task_id, map_index=key.map_index
    )


def draw_list(rows: Sequence[Work], *, days: int, dag: str, state: str, number: int, more: bool, nonce: str) -> bytes:
    """Draw a page of work, the form that selects it, and the ways to newer and older work."""
    chosen = {"days": days, "dag": dag, "state": state}
    ways = [
        tag("a", label, href="?" + urlencode({**chosen, "page": page}), rel=rel)
        for label, page, rel, there in (
            ("← Newer", number - 1, "prev", number > 0),
            ("Older →", number + 1, "next", more),
        )
        if there
    ]
    table = tag(
        "table",
        tag("thead", tag("tr", *(tag("th", one, class_="n" if one in _NUMBERS else None) for one in _COLUMNS))),
        tag("tbody", *map(_row, rows)),
    )
    return _document(
        "Dataflux",
        nonce,
        tag("h1", "Dataflux"),
        tag("p", "Listings and stagings of this deployment, the latest first."),
        _form(days, dag, state),
        tag("div", table, class_="scroll") if rows else tag("p", "There are none in this time that you may see."),
        tag("nav", *ways, aria_label="Pages") if ways else None,
    )


def draw_unavailable(document: Document, key: TaskKey, place: Place, hostname: str, reason: str, nonce: str) -> bytes:
    """Say where a document is, and why it is not shown."""
    return _document(
        document.capitalize(),
        nonce,
        tag("h1", f"This {document} cannot be shown here"),
        tag("p", reason),
        tag(
            "dl",
            *(
                join(tag("dt", name), tag("dd", value))
                for name, value in (
                    (document.capitalize(), place.title or "untitled"),
                    ("Where it is", tag("code", place.uri)),
                    ("Worker", hostname or "unknown"),
                    ("Task", _task_link(key, f"{key.dag_id} · {key.run_id} · {key.task_id}")),
                )
            ),
        ),
        tag("a", "All listings and stagings", href="./"),
    )


def draw_refusal(title: str, words: str, nonce: str, login: str | None = None) -> bytes:
    """Say why there is nothing to see; `login` is where that may be changed."""
    way = tag("a", "Log in", href=login, data_out="here") if login else tag("a", "All listings and stagings", href="./")
    return _document(title, nonce, tag("h1", title), tag("p", words), way)


def _document(title: str, nonce: str, *content: Markup | None) -> bytes:
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title if title == "Dataflux" else f"{title} · Dataflux"),
        tag("style", STYLE, nonce=nonce),
    )
    body = join(tag("main", *content), tag("script", SCRIPT, nonce=nonce))
    return f"<!doctype html>\n{tag('html', tag('head', head), tag('body', body), lang='en')}\n".encode()


def _form(days: int, dag: str, state: str) -> Markup:
    def options(values: Sequence[tuple[str, str]], chosen: str) -> Markup:
        return join(
            *(tag("option", label, value=value, selected="" if value == chosen else None) for value, label in values)
        )

    spans = [(str(one), "1 day" if one == 1 else f"{one} days") for one in sorted({*DAYS, days})]
    states = [("", "any"), *((one, one.replace("_", " ")) for one in STATES)]
    return tag(
        "form",
        tag("label", "DAG contains", tag("input", name="dag", value=dag, type="search", size=28)),
        tag("label", "State", tag("select", options(states, state), name="state")),
        tag("label", "Runs of the last", tag("select", options(spans, str(days)), name="days")),
        tag("button", "Show", type="submit"),
        method="get",
        role="search",
    )


def _row(one: Work) -> Markup:
    key, figures = one.key, one.figures
    label = one.label or (f"map index {key.map_index}" if key.map_index >= 0 else "")
    cells = (
        tag("td", key.dag_id, class_="name"),
        tag("td", key.run_id, class_="name"),
        tag("td", _task_link(key, key.task_id), tag("small", label) if label else None, class_="name"),
        tag("td", one.kind),
        tag("td", _moment(one.started_at), class_="when"),
        *_figures(figures),
        tag("td", tag("span", one.state.replace("_", " "), class_=f"state {one.state}")),
        tag(
            "td",
            tag("a", "open", href=report_address(key), data_out="tab", title=one.report.title) if one.report else "",
            class_="open",
        ),
    )
    return tag("tr", *cells)


def _task_link(key: TaskKey, words: str) -> Markup:
    return tag("a", words, href=task_address(key), data_out="here")


def _figures(figures: Figures) -> tuple[Markup, ...]:
    shown = (
        wording.count(figures.object_count) if figures.object_count is not None else "",
        wording.size(figures.total_bytes) if figures.total_bytes is not None else "",
        wording.seconds(figures.seconds) if figures.seconds is not None else "",
    )
    return tuple(tag("td", one, class_="n") for one in shown)


def _moment(moment: datetime | None) -> Markup | None:
    if moment is None:
        return None
    utc = moment.astimezone(UTC)
    return tag("time", utc.strftime("%Y-%m-%d %H:%M:%S"), datetime=utc.isoformat())
