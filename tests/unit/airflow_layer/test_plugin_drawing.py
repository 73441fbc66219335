"""Drawing the plugin's pages, and reading what tasks told."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from airflow_dataflux.plugin.page import draw_list, draw_refusal, draw_unavailable, report_address, task_address
from airflow_dataflux.plugin.work import Figures, Place, TaskKey, Work, figures_of, kind_of, place_of

HOSTILE = [
    "</title><script>alert(1)</script>",
    "\"' onload=alert(1) x='",
    "../../auth/logout?x=y#z&amp;",
    "javascript:alert(1)",
    "\x00\x1b[31m\u202egnp.exe",
    "日本/\U0001f600" * 60,
]


class Found(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def addresses(self) -> list[str]:
        return [str(attrs["href"]) for _, attrs in self.tags if "href" in attrs]


def work(name: str) -> Work:
    key = TaskKey(dag_id=name, run_id=name, task_id=name, map_index=3)
    return Work(
        key=key,
        kind=name,
        label=name,
        state=name,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        hostname=name,
        figures=Figures(object_count=1_000_000, total_bytes=10_240, seconds=61.5),
        report=Place(uri=name, title=name),
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_wherever_they_stand(name: str) -> None:
    one = work(name)
    assert one.report is not None
    pages = [
        draw_list([one], days=30, dag=name, state=name, number=1, more=True, nonce="n"),
        draw_unavailable("report", one.key, one.report, name, name, "n"),
        draw_refusal(name, name, "n"),
    ]
    for page in pages:
        found = Found(page)
        assert [attrs for tag, attrs in found.tags if tag == "script"] == [{"nonce": "n"}]
        assert not [key for _, attrs in found.tags for key in attrs if key.startswith("on")]
        assert name.replace("\x00", "\ufffd").replace("\x1b", "\ufffd") in found.words
        assert all(address.startswith(("../dags/", "report?", "?", "./")) for address in found.addresses())


def test_addresses_hold_names_as_single_parts() -> None:
    key = TaskKey(dag_id="a/../b", run_id="manual__2026-01-01T00:00:00+00:00", task_id="t#1?x")
    assert task_address(key) == "../dags/a%2F..%2Fb/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00/tasks/t%231%3Fx"
    mapped = TaskKey(dag_id="a&dag_id=b", run_id="r", task_id="t", map_index=2)
    assert task_address(mapped).endswith("/tasks/t/mapped/2")
    assert report_address(mapped) == "report?dag_id=a%26dag_id%3Db&run_id=r&task_id=t&map_index=2"


def test_a_page_says_what_is_not_known_by_leaving_it_out() -> None:
    one = work("dag")
    bare = Work(
        key=TaskKey(dag_id="dag", run_id="run", task_id="task"),
        kind="",
        label="",
        state="running",
        started_at=None,
        hostname="",
        figures=Figures(),
        report=None,
    )
    full = draw_list([one], days=30, dag="", state="", number=0, more=False, nonce="n").decode()
    assert "1,000,000" in full
    assert "10 KiB" in full
    page = draw_list([bare], days=30, dag="", state="", number=0, more=False, nonce="n").decode()
    assert "report?" not in page
    assert "None" not in page
    empty = draw_list([], days=7, dag="", state="", number=0, more=False, nonce="n").decode()
    assert "There are none" in empty


@pytest.mark.parametrize("value", ["text", 7, None, [], [{}], {}, {"uri": 7}, {"uri": ""}], ids=repr)
def test_what_has_another_form_is_no_report_and_has_no_figures(value: Any) -> None:
    assert place_of(value) is None
    assert kind_of(value) == ""
    assert figures_of(value) == Figures()


def test_figures_are_read_from_reports_references_and_receipts() -> None:
    assert figures_of({"object_count": 3, "total_bytes": 30, "seconds": 1.5}) == Figures(
        object_count=3, total_bytes=30, seconds=1.5
    )
    assert figures_of({"object_count": 3, "total_bytes": 30, "stats": {"wall_s": 2.0}}).seconds == 2.0
    assert figures_of({"object_count": True, "total_bytes": -1, "seconds": "1"}) == Figures()
    assert kind_of({"kind": "staging"}) == "staging"
    assert kind_of({"kind": "<b>"}) == ""
