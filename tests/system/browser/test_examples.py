"""Every example DAG runs from its form as it stands, in the deployment that `make ui` leaves to the browser."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from conftest import PATIENCE_MS, ROOT, ask_for_backfill, frame, logged_in
from playwright.sync_api import Browser, Page, expect

sys.path.insert(1, str(ROOT / "tests" / "demo"))

from playground import EXAMPLES, Playground, playground, ready_examples
from telling import Clock

ALL_S = 1800.0

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def world() -> Iterator[Playground]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with playground(Clock()) as running:
        ready_examples(running)
        yield running
    for number, handler in handlers.items():  # the demo, which ends here, ignores them
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def page(world: Playground, browser: Browser) -> Iterator[Page]:
    with logged_in(browser, world.airflow) as opened:
        yield opened


def approve(world: Playground, page: Page, run_id: str) -> None:
    """Wait until the example asks what a staging may cost, and say yes in the UI."""
    asking = ("approve_cost", run_id, "approve")
    world.airflow.wait_for_task(*asking, states=("awaiting_input",), timeout_s=ALL_S)
    page.goto(f"/dags/approve_cost/runs/{quote(run_id, safe='')}/tasks/approve/required_actions")
    expect(
        page.get_by_text(re.compile(r"Stage [0-9]+ objects of gs://my-training-data for about")).first
    ).to_be_visible()
    page.get_by_role("button", name="Approve", exact=True).click()
    world.airflow.wait_for_task(*asking, states=("success",), timeout_s=ALL_S)


@pytest.mark.timeout(3600)
def test_every_example_runs_from_its_form_as_it_stands(
    world: Playground, page: Page, photograph: Callable[..., Any]
) -> None:
    runs = {}
    for dag in EXAMPLES:
        page.goto(f"/dags/{dag}")
        page.get_by_test_id("trigger-dag-button").first.click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("Run Parameters")).to_be_visible()
        dialog.get_by_role("button", name="Trigger", exact=True).click()
        page.wait_for_url(re.compile("/runs/manual__"))
        (runs[dag],) = [run["dag_run_id"] for run in world.airflow.dag_runs(dag) if run["run_type"] == "manual"]
    approve(world, page, runs["approve_cost"])
    states = {dag: world.airflow.wait(dag, run_id, timeout_s=ALL_S) for dag, run_id in runs.items()}
    assert states == dict.fromkeys(EXAMPLES, "success")
    page.goto("/plugin/dataflux")
    for run_id in runs.values():
        expect(frame(page).get_by_role("row").filter(has_text=run_id).first).to_be_visible()
    photograph("examples", page)


@pytest.mark.timeout(3600)
def test_a_backfill_from_the_dialog_stages_three_days(world: Playground, page: Page) -> None:
    dialog = ask_for_backfill(page, "daily_increment", "2024/02/01", "2024/02/03", 3)
    dialog.get_by_role("button", name="Run Backfill").click()
    expect(dialog).to_have_count(0)
    world.airflow.wait_for_backfills("daily_increment", timeout_s=ALL_S)
    days = sorted(path.name for path in (world.data / "increments").glob("2024-02-*"))
    assert days == ["2024-02-01", "2024-02-02", "2024-02-03"]
    for day in days:
        assert len([path for path in (world.data / "increments" / day).rglob("*") if path.is_file()]) > 5
