"""What the UI says of runs is true of each: a link leads to the report of its own run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow_deployment import AirflowDeployment
from conftest import DAG, PATIENCE_MS
from playwright.sync_api import Page, expect

from airflow_dataflux.testing import GCSServer

RUN_S = 600.0

expect.set_options(timeout=PATIENCE_MS)


def address(run_id: str, task: str) -> str:
    return f"/dags/{DAG}/runs/{quote(run_id, safe='')}/tasks/{task}"


def test_three_runs_of_one_day_have_three_reports(
    opened: Page, airflow: AirflowDeployment, server: GCSServer, data: Path, photograph: Callable[..., Any]
) -> None:
    """They list into the same manifest and stage into the same directory."""
    conf = {
        "prefix": "three/",
        "manifest_root": (data / "three-listed").as_uri(),
        "destination_root": str(data / "three"),
        "shards": 1,
    }
    runs = []
    for count in (11, 12, 13):
        server.put("pictures", f"three/{count}.jpg", b"x" * count)
        runs.append(airflow.trigger(DAG, conf=conf))
        assert airflow.wait(DAG, runs[-1], timeout_s=RUN_S) == "success"
    for objects, run_id in enumerate(runs, start=1):
        for task, number in (("list", objects), ("stage/mapped/0", objects)):
            opened.goto(f"{address(run_id, task)}/details")
            opened.get_by_role("link", name="Report", exact=True).click()
            opened.wait_for_url(re.compile("/dataflux/report"))
            facts = opened.locator("dl.facts div").filter(has_text="Objects")
            expect(facts.locator("dd").first).to_contain_text(str(number))
        photograph(f"report-of-run-{objects}")
