"""A task that fails says in its log what went wrong, why, and what to do, and at the end once more in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow_deployment import AirflowDeployment
from conftest import DAG, PATIENCE_MS, frame
from playwright.sync_api import Page, expect

RUN_S = 600.0

expect.set_options(timeout=PATIENCE_MS)


def test_the_log_of_a_failed_task_says_what_why_and_what_to_do_without_scrolling(
    opened: Page, airflow: AirflowDeployment, data: Path, photograph: Callable[..., Any]
) -> None:
    conf = {"bucket": "picures", "manifest_root": (data / "misspelt").as_uri()}
    run_id = airflow.trigger(DAG, conf=conf)
    assert airflow.wait(DAG, run_id, timeout_s=RUN_S) == "failed"
    opened.set_viewport_size({"width": 1400, "height": 850})
    try:
        opened.goto(f"/dags/{DAG}/runs/{quote(run_id, safe='')}/tasks/list")
        entry = opened.get_by_text(re.compile("^BucketNotFoundError: ")).first
        expect(entry).to_contain_text("Could not list objects gs://picures/")  # what
        expect(entry).to_contain_text(re.compile(r"The\s+specified\s+bucket\s+does\s+not\s+exist"))  # why
        expect(entry).to_contain_text(re.compile(r"Check\s+the\s+bucket's\s+name"))  # what to do
        box = entry.bounding_box()
        assert box is not None
        photograph("failed-task", height=415)  # above the traceback, with its paths
        assert box["x"] + box["width"] <= opened.evaluate("document.documentElement.clientWidth")
        assert box["height"] < 60
        last = opened.get_by_text(re.compile("^gs://picures/: no such bucket. ")).first
        expect(last).to_be_visible()  # so it is in no collapsed group
        box = last.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= opened.evaluate("document.documentElement.clientWidth")
        assert box["height"] < 30, "the last line of a failed task is wrapped"
    finally:
        opened.set_viewport_size({"width": 1360, "height": 850})


def test_the_page_says_why_a_task_failed(
    opened: Page, airflow: AirflowDeployment, data: Path, photograph: Callable[..., Any]
) -> None:
    run_id = airflow.trigger(DAG, conf={"bucket": "pictures", "prefix": "imges/"})
    assert airflow.wait(DAG, run_id, timeout_s=RUN_S) == "failed"
    opened.goto("/plugin/dataflux")
    told = frame(opened).get_by_role("rowgroup").filter(has_text=run_id).filter(has_text="EmptyListingError: ")
    expect(told).to_have_count(1)
    expect(told.get_by_role("link", name="manifest")).to_have_count(0)  # there is none
    photograph("failed-row", height=560)
