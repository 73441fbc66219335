"""Drawing the plugin's pages, and reading what tasks told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from airflow_dataflux.plugin.views import (
    Figures,
    Place,
    RunProgress,
    TaskKey,
    Work,
    draw_list,
    draw_refusal,
    draw_unavailable,
    error_of,
    figures_of,
    kind_of,
    place_of,
    progress_of,
    report_address,
    task_address,
)

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
        figures=Figures(object_count=1_000_000, total_bytes=10_240, seconds=61.5, fetched=7, reused=3, usd=0.4),
        report=Place(uri=name, title=name),
        has_manifest=True,
        progress=RunProgress(text=name, part=0.5),
        error=name,
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_wherever_they_stand(name: str) -> None:
    one = work(name)
    assert one.report is not None
    pages = [
        draw_list([one], days=30, dag=name, state=name, number=1, more=True),
        draw_unavailable("report", one.key, one.report, name, name),
        draw_refusal(name, name),
    ]
    for page in pages:
        found = Found(page)
        assert [str(attrs["src"])[:20] for tag, attrs in found.tags if tag == "script"] == ["static/dataflux.js?v"]
        assert not [key for _, attrs in found.tags for key in attrs if key.startswith("on")]
        assert name.replace("\x00", "\ufffd").replace("\x1b", "\ufffd") in found.words
        assert all(
            address.startswith(("../dags/", "report?", "manifest?", "?", "./", "static/dataflux.css?v="))
            for address in found.addresses()
        )


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
    full = draw_list([one], days=30, dag="", state="", number=0, more=False).decode()
    assert "1,000,000" in full
    assert "10 KiB" in full
    page = draw_list([bare], days=30, dag="", state="", number=0, more=False).decode()
    assert "report?" not in page
    assert "None" not in page
    empty = draw_list([], days=7, dag="", state="", number=0, more=False).decode()
    assert "There are no runs" in empty


@pytest.mark.parametrize("value", ["text", 7, None, [], [{}], {}, {"uri": 7}, {"uri": ""}], ids=repr)
def test_what_has_another_form_is_no_report_and_has_no_figures(value: Any) -> None:
    assert place_of(value) is None
    assert kind_of(value) == ""
    assert figures_of(value) == Figures()
    assert progress_of(value, 1) is None
    assert error_of(value) == ""


def test_figures_are_read_from_reports_references_and_receipts() -> None:
    assert figures_of({"object_count": 3, "total_bytes": 30, "seconds": 1.5}) == Figures(
        object_count=3, total_bytes=30, seconds=1.5
    )
    assert figures_of({"object_count": 3, "total_bytes": 30, "stats": {"wall_s": 2.0}}).seconds == 2.0
    assert figures_of({"object_count": True, "total_bytes": -1, "seconds": "1"}) == Figures()
    assert [kind_of({"kind": kind}) for kind in ("staging", "packing")] == ["staging", "packing"]
    assert kind_of({"kind": "<b>"}) == ""


def test_what_was_fetched_and_what_it_cost_is_read_from_a_receipt() -> None:
    told = {"object_count": 3, "downloaded": 2, "reused": 1, "estimated_usd": 0.25}
    assert figures_of(told) == Figures(object_count=3, fetched=2, reused=1, usd=0.25)
    pack = {"object_count": 3, "packed_objects": 2, "reused_objects": 1, "estimated_usd": 0.25, "seconds": 1.5}
    assert figures_of(pack) == Figures(object_count=3, fetched=2, reused=1, usd=0.25, seconds=1.5)
    assert figures_of({"object_count": 3, "stats": {"requests": 200_000}}).usd == 1.0
    assert figures_of({"estimated_usd": float("nan"), "reused": -1, "seconds": True}) == Figures()


def test_progress_is_that_of_the_try_that_runs() -> None:
    told = {"text": "half", "try_number": 2, "bytes": 5, "of_bytes": 10, "objects": 1, "of_objects": 10}
    assert progress_of(told, 2) == RunProgress(text="half", part=0.5)
    assert progress_of(told, 3) is None
    assert progress_of({"text": "listed", "try_number": 1, "objects": 9}, 1) == RunProgress(text="listed")
    assert progress_of({"text": "x", "try_number": 1, "bytes": 9, "of_bytes": 3}, 1) == RunProgress(text="x", part=1.0)
    assert progress_of({"text": 7, "try_number": 1}, 1) is None


def test_an_earlier_listing_tells_the_total_of_a_listing_but_not_its_end() -> None:
    told = {"text": "listed", "try_number": 1, "objects": 30, "expected_objects": 40}
    assert progress_of(told, 1) == RunProgress(text="listed", part=0.75)
    assert progress_of({**told, "objects": 40}, 1) == RunProgress(text="listed", part=0.99)


def test_a_page_with_running_tasks_is_loaded_anew_and_shows_how_far_they_are() -> None:
    running = replace(work("dag"), state="running")
    page = draw_list([running], days=30, dag="", state="", number=0, more=False).decode()
    assert 'data-refresh="5"' in page
    assert '<progress max="100" value="50">50 %</progress>' in page
    done = replace(running, state="success", progress=None, error="")
    page = draw_list([done], days=30, dag="", state="", number=0, more=False).decode()
    assert "data-refresh" not in page
    assert "<progress" not in page
