"""Backfills on PostgreSQL, from the dialog of Airflow's UI and over its API, while the scheduler writes to the
database.

Each test has days of its own, so they may come in any order; a DAG has one running backfill at a time.
"""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
import urllib3
from airflow_deployment import AirflowDeployment
from conftest import PATIENCE_MS, ask_for_backfill, frame
from playwright.sync_api import Page, expect

from airflow_dataflux.testing import GCSServer

INCREMENT = "daily_increment"
BACKFILL_S = 900.0

expect.set_options(timeout=PATIENCE_MS)

Tree = dict[str, tuple[int, str]]
"""Names with sizes and CRC32Cs, the latter as the JSON API writes them."""


@pytest.fixture(scope="module")
def of_day(server: GCSServer) -> dict[str, Tree]:
    """What changed on each day, as the server tells it, without this package's code."""
    fields = "nextPageToken,items(name,size,updated,crc32c)"
    address = f"{server.endpoint}/storage/v1/b/history/o?maxResults=1000&fields={fields}"
    listed = urllib3.request("GET", address).json()
    assert "nextPageToken" not in listed
    found: dict[str, Tree] = defaultdict(dict)
    for item in listed["items"]:
        found[item["updated"][:10]][item["name"]] = (int(item["size"]), item["crc32c"])
    return found


def staged(root: Path) -> Tree:
    """Return what is staged below a directory, without the receipts."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and ".dataflux" not in path.parts:
            content = path.read_bytes()
            checksum = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
            found[path.relative_to(root).as_posix()] = (len(content), checksum)
    return found


def january(first: int, last: int) -> list[str]:
    return [f"2024-01-{day:02}" for day in range(first, last + 1)]


def filled(airflow: AirflowDeployment, days: list[str]) -> list[dict[str, Any]]:
    """Wait for the backfill, and return the runs of these days in their order."""
    airflow.wait_for_backfills(INCREMENT, timeout_s=BACKFILL_S)
    of = {run["logical_date"][:10]: run for run in airflow.dag_runs(INCREMENT) if run["run_type"] == "backfill"}
    assert [of[day]["state"] for day in days] == ["success"] * len(days)
    return [of[day] for day in days]


def summaries(airflow: AirflowDeployment, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [airflow.xcom(INCREMENT, run["dag_run_id"], "stage") for run in runs]


def test_a_backfill_from_the_dialog_fills_each_day_with_what_changed_on_it(
    opened: Page,
    airflow: AirflowDeployment,
    of_day: dict[str, Tree],
    data: Path,
    photograph: Callable[..., Any],
) -> None:
    days = january(8, 10)
    airflow.wait_for_dag(INCREMENT)
    dialog = ask_for_backfill(opened, INCREMENT, "2024/01/08", "2024/01/10", 3)
    dialog.locator("[name=max_active_runs]").fill("4")
    # Without this tick the runs have the DAG's own params, whatever the form's fields say.
    dialog.get_by_text("Override parameters on existing runs").click()
    expect(dialog.get_by_role("checkbox", name="Override parameters on existing runs")).to_be_checked()
    photograph("backfill-form")
    expect(dialog.locator("[name=element_prefix]")).to_have_value("")  # the whole bucket
    dialog.locator("[name=element_destination_root]").fill(str(data / "backfilled"))
    dialog.get_by_role("button", name="Run Backfill").click()
    expect(dialog).to_have_count(0)

    runs = filled(airflow, days)
    made = airflow.request("GET", f"/backfills?dag_id={INCREMENT}&limit=100")["backfills"]
    (ours,) = [one for one in made if one["from_date"].startswith("2024-01-08")]
    assert (ours["to_date"][:10], ours["max_active_runs"], ours["reprocess_behavior"]) == ("2024-01-10", 4, "none")
    assert ours["dag_run_conf"]["destination_root"] == str(data / "backfilled")
    assert sorted(path.name for path in (data / "backfilled").iterdir()) == days
    for day, summary in zip(days, summaries(airflow, runs), strict=True):
        assert summary["destination"] == str(data / "backfilled" / day)
        assert staged(data / "backfilled" / day) == of_day[day]
        assert summary["downloaded"] == len(of_day[day]) > 5

    # The page shows work of now, though the days that it filled are long past.
    opened.goto("/plugin/dataflux")
    frame(opened).get_by_label("DAG contains").fill(INCREMENT)
    frame(opened).get_by_role("button", name="Show").click()
    for run in runs:  # whose names carry the end of the day
        expect(frame(opened).get_by_role("row").filter(has_text=run["dag_run_id"])).to_have_count(2)


def test_a_backfill_over_the_api_fills_seven_days_and_a_second_one_downloads_nothing(
    airflow: AirflowDeployment, server: GCSServer, of_day: dict[str, Tree], data: Path
) -> None:
    days = january(1, 7)

    def backfill(reprocess_behavior: str) -> list[dict[str, Any]]:
        airflow.backfill(
            INCREMENT,
            from_date=days[0],
            to_date=days[-1],
            max_active_runs=4,
            reprocess_behavior=reprocess_behavior,
        )
        return filled(airflow, days)

    server.forget_requests()
    runs = backfill("none")
    first = summaries(airflow, runs)
    for day, summary in zip(days, first, strict=True):
        assert summary["destination"] == str(data / "increments" / day)
        assert staged(data / "increments" / day) == of_day[day]
        assert summary["downloaded"] == len(of_day[day]) > 5
    made = [record.name for record in server.log("compose") if record.bucket == "history"]
    owners = {re.sub("^dataflux-composed-objects/|/-1/.*$", "", name) for name in made}
    assert owners == {f"{INCREMENT}/{run['dag_run_id']}/stage" for run in runs}, "each has composites of its own"
    assert server.names("history", "dataflux-composed-objects/") == []

    server.forget_requests()
    second = summaries(airflow, backfill("completed"))
    assert [(each["downloaded"], each["reused"]) for each in second] == [(0, each["downloaded"]) for each in first]
    asked = {record.operation for record in server.log() if record.bucket == "history"}
    assert "list" in asked
    assert not {"read", "compose"} & asked
    for day in days:
        assert staged(data / "increments" / day) == of_day[day]
