"""What the UI shows of a task while it runs: how far it is, on the page "Dataflux", in its log and in its state.

The service is slow here, so that a listing and a staging run for half a minute each, as far larger ones do elsewhere.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from airflow_deployment import AirflowDeployment
from conftest import PATIENCE_MS, frame
from playwright.sync_api import Locator, Page, expect

from airflow_dataflux.testing import GCSServer

LISTING, STAGING = "list_by_ranges", "stage_training_data"
RUN_S = 600.0
LOOK_S = 1.0

PAGE_ROWS, PAGES = 100, 3000
"""A listing begins with threads, and goes on in an engine where more than 200 pages are still to come."""

LIST_S = 2.5
READ_S = 3.0

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def slow(server: GCSServer) -> Iterator[GCSServer]:
    server.create_bucket("crawl")
    server.synthesize("crawl", count=PAGE_ROWS * PAGES, style="classes", prefix="pages/")
    server.create_bucket("films")
    server.synthesize("films", count=3000, style="classes", prefix="clips/", size=300_000)
    yield server
    server.configure(latency_s={}, page_cap=1000, bytes_per_s=None)


def work(page: Page, run_id: str, task: str) -> Locator:
    """Return what the page "Dataflux" has of a task: a row for each instance, and the progress below it."""
    link = frame(page).get_by_role("link", name=task, exact=True)
    return frame(page).get_by_role("rowgroup").filter(has_text=run_id).filter(has=link)


def task_path(dag: str, run_id: str, task: str) -> str:
    return f"/dags/{dag}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task}"


def kept_progress(airflow: AirflowDeployment, dag: str, run_id: str, task: str, map_index: int) -> dict[str, Any]:
    """Return what a task keeps of its progress in Airflow's store of task states; empty before the first time."""
    answer = airflow.request("GET", f"{task_path(dag, run_id, task)}/state-store?map_index={map_index}")
    return next((one["value"] for one in answer["task_state_store"] if one["key"] == "dataflux_progress"), {})


def numbers(pattern: str, log: str) -> list[int]:
    """Return the number that each line of a log has at the group of a pattern."""
    return [int(found.replace(",", "")) for found in re.findall(pattern, log)]


def test_a_running_listing_shows_how_far_it_is_and_never_runs_backwards(
    opened: Page, airflow: AirflowDeployment, slow: GCSServer, data: Path, photograph: Callable[..., Any]
) -> None:
    """It hands over from threads to an engine, which counts from nothing."""
    conf = {"bucket": "crawl", "manifest_root": (data / "crawl-listed").as_uri(), "ranges": 1}
    run_id = airflow.trigger(LISTING, conf=conf)
    airflow.wait_for_task(LISTING, run_id, "divide", states=["success"])
    slow.configure(latency_s={"list": LIST_S}, page_cap=PAGE_ROWS)
    airflow.wait_for_task(LISTING, run_id, "list", map_index=0)

    opened.goto("/plugin/dataflux")
    running = work(opened, run_id, "list")
    expect(running.locator(".progress")).to_contain_text(re.compile(r"Listed [\d,]+ objects at [\d,]+/s, "))
    expect(running).to_contain_text("running")
    kept = []
    photographed = False
    while airflow.task_instance(LISTING, run_id, "list", 0)["state"] == "running":
        kept.append(kept_progress(airflow, LISTING, run_id, "list", 0))
        if not photographed and kept[-1].get("eta_s"):
            photographed = True
            photograph("progress-listing", height=500)
            opened.goto(f"/dags/{LISTING}/runs/{quote(run_id, safe='')}/tasks/list/mapped/0")
            expect(opened.get_by_text(re.compile(r"Listed [\d,]+ objects at .* left")).first).to_be_visible()
            photograph("progress-listing-log", height=480)
        time.sleep(LOOK_S)
    slow.configure(latency_s={}, page_cap=1000)
    assert airflow.wait(LISTING, run_id, timeout_s=RUN_S) == "success"
    assert photographed

    manifest = airflow.xcom(LISTING, run_id, "list", map_index=0)
    assert manifest["object_count"] == PAGE_ROWS * PAGES
    assert manifest["stats"]["workers"] > 0, "an engine took over"
    log = airflow.logs(LISTING, run_id, "list", map_index=0)
    for pattern in (r"Listed ([\d,]+) objects? at", r"; ([\d,]+) requests?, [\d,]+ stream", r", ([\d,]+) steals?, "):
        told = numbers(pattern, log)
        assert len(told) > 4
        assert told == sorted(told)
    shown = [one["objects"] for one in kept if one]
    assert len(set(shown)) > 2
    assert shown == sorted(shown)


def test_running_mapped_stagings_show_their_labels_and_how_far_they_are(
    opened: Page, airflow: AirflowDeployment, slow: GCSServer, data: Path, photograph: Callable[..., Any]
) -> None:
    conf = {
        "bucket": "films",
        "manifest_root": (data / "films-listed").as_uri(),
        "destination_root": str(data / "films"),
        "shards": 3,
        "strategy": "direct",
    }
    slow.configure(latency_s={"read": READ_S}, bytes_per_s=120_000)
    run_id = airflow.trigger(STAGING, conf=conf)
    for index in range(3):
        airflow.wait_for_task(STAGING, run_id, "stage", map_index=index)

    # Airflow's own list of instances, and the page.
    opened.goto(f"/dags/{STAGING}/runs/{quote(run_id, safe='')}/tasks/stage/mapped")
    for shard in (1, 2, 3):
        expect(opened.get_by_text(re.compile(f"shard {shard} of 3: 1,000 objects, ")).first).to_be_visible()
    photograph("labels")
    opened.goto("/plugin/dataflux")
    rows = work(opened, run_id, "stage")
    expect(rows).to_have_count(3)
    for shard in (1, 2, 3):
        one = rows.filter(has_text=f"shard {shard} of 3: 1,000 objects, ")
        expect(one).to_contain_text(re.compile(r"Fetched [\d,]+ of 1,000 objects, .* at .*/s, .* left"))
        expect(one).to_contain_text("running")
        expect(one.get_by_role("progressbar")).to_be_visible()
    photograph("progress", height=600)
    opened.goto(f"/dags/{STAGING}/runs/{quote(run_id, safe='')}/tasks/stage/mapped/1")
    expect(opened.get_by_text(re.compile(r"Fetched [\d,]+ of 1,000 objects, .* left")).first).to_be_visible()
    photograph("progress-log", height=480)
    kept = kept_progress(airflow, STAGING, run_id, "stage", 1)
    assert kept["of_objects"] == 1000
    assert 0 < kept["objects"] < 1000
    assert {"bytes", "of_bytes", "bytes_per_s", "eta_s"} <= kept.keys()
    assert airflow.task_instance(STAGING, run_id, "stage", 1)["state"] == "running"
    opened.goto(f"/dags/{STAGING}/runs/{quote(run_id, safe='')}/tasks/stage/mapped/1/task-state-store")
    expect(opened.get_by_text("dataflux_progress").first).to_be_visible()
    expect(opened.get_by_text("bytes_per_s").first).to_be_visible()  # what shows JSON there comes late
    photograph("task-state")
    slow.configure(latency_s={}, bytes_per_s=None)
    assert airflow.wait(STAGING, run_id, timeout_s=RUN_S) == "success"
    for index in range(3):
        told = numbers(r"Fetched ([\d,]+) of", airflow.logs(STAGING, run_id, "stage", map_index=index))
        assert told == sorted(told)
