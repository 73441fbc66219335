"""What a person sees and does in Airflow's UI, in a real browser: the form, the links, the logs, the page "Dataflux".

The tests share one deployment and one run, which the form starts; they may come in any order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from airflow_deployment import AirflowDeployment
from conftest import DAG, OBJECTS, PATIENCE_MS, frame
from playwright.sync_api import Page, expect

from airflow_dataflux.testing import GCSServer

RUN_S = 600.0

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def run_id(
    opened: Page, airflow: AirflowDeployment, server: GCSServer, data: Path, photograph: Callable[..., Any]
) -> str:
    """The id of a run that was started with the filled form, and has succeeded. It listed many small pages."""
    with few_names_a_page(server):
        return run_from_the_form(opened, airflow, data, photograph)


@contextmanager
def few_names_a_page(server: GCSServer) -> Iterator[None]:
    """Have a listing take many requests, so that its report shows more than one."""
    server.configure(page_cap=4, latency_s={"list": 0.2})
    try:
        yield
    finally:
        server.configure(page_cap=1000, latency_s={})


def run_from_the_form(opened: Page, airflow: AirflowDeployment, data: Path, photograph: Callable[..., Any]) -> str:
    opened.goto(f"/dags/{DAG}")
    opened.get_by_test_id("trigger-dag-button").first.click()
    dialog = opened.get_by_role("dialog")
    expect(dialog.locator("[name=element_bucket]")).to_have_value("pictures")
    dialog.locator("[name=element_prefix]").fill("images/")
    dialog.locator("[name=element_manifest_root]").fill((data / "listings").as_uri())
    dialog.locator("#element_strategy").click()
    opened.get_by_role("option", name="compose").click()
    expect(dialog.get_by_text("Absolute directory on the worker")).to_be_visible()
    dialog.get_by_text("Trigger Dag", exact=False).first.scroll_into_view_if_needed()
    photograph("trigger-form")
    dialog.get_by_role("button", name="Trigger", exact=True).click()
    opened.wait_for_url(re.compile("/runs/manual__"))
    started = unquote(re.findall("/runs/([^/?]+)", opened.url)[0])
    assert airflow.wait(DAG, started, timeout_s=RUN_S) == "success"
    return started


def address(run_id: str, task: str) -> str:
    return f"/dags/{DAG}/runs/{quote(run_id, safe='')}/tasks/{task}"


def test_what_the_form_was_filled_with_is_what_ran(run_id: str, airflow: AirflowDeployment, data: Path) -> None:
    conf = airflow.dag_run(DAG, run_id)["conf"]
    listings = (data / "listings").as_uri()
    filled = {"prefix": "images/", "strategy": "compose", "manifest_root": listings, "shards": 3}
    assert {name: conf[name] for name in filled} == filled
    assert airflow.xcom(DAG, run_id, "verify")["verified"] == len(OBJECTS)
    assert list((data / "listings").glob("*/manifest.json"))


def test_a_listing_links_to_its_bucket_manifest_and_report(
    run_id: str, opened: Page, photograph: Callable[..., Any]
) -> None:
    opened.goto(f"{address(run_id, 'list')}/details")
    bucket = opened.get_by_role("link", name="Bucket", exact=True)
    expect(bucket).to_have_attribute("href", re.compile(r"^https://console\.cloud\.google\.com/storage/.*pictures"))
    expect(opened.get_by_role("link", name="Manifest", exact=True)).to_be_visible()
    expect(opened.get_by_role("link", name="Report", exact=True)).to_be_visible()
    photograph("links")
    opened.get_by_role("link", name="Report", exact=True).click()
    opened.wait_for_url(re.compile("/dataflux/report"))
    # The page of the report runs no script, and its words are there none the less.
    expect(opened.locator("body")).to_contain_text("gs://pictures/images/")
    expect(opened.locator("body")).to_contain_text("300")
    photograph("listing-report")
    opened.go_back()
    opened.get_by_role("link", name="Manifest", exact=True).click()
    opened.wait_for_url(re.compile("/dataflux/manifest"))
    expect(opened.get_by_role("heading", name="Manifest of gs://pictures/images/")).to_be_visible()
    expect(opened.locator("dl").first).to_contain_text("300")
    expect(opened.locator("dl").first).to_contain_text(f"{sum(map(len, OBJECTS.values())):,} bytes")
    for heading, name in (("First rows", "images/0000.jpg"), ("Last rows", "images/0299.jpg")):
        expect(opened.get_by_role("heading", name=heading)).to_be_visible()
        expect(opened.get_by_role("cell", name=name, exact=True)).to_be_visible()
    columns = opened.get_by_role("heading", name="Columns").locator("xpath=following-sibling::dl[1]")
    expect(columns).to_contain_text("crc32c")
    photograph("manifest-page", height=700)
    with opened.expect_download() as downloading:
        opened.get_by_role("link", name="Download the index (JSON)").click()
    assert json.loads(downloading.value.path().read_bytes())["object_count"] == len(OBJECTS)
    opened.get_by_label("Names that begin with").fill("images/0")
    opened.get_by_role("button", name="Search").click()
    expect(opened.get_by_role("heading", name=re.compile("whose name begins with"))).to_be_visible()
    expect(opened.get_by_role("cell", name="images/0007.jpg", exact=True)).to_be_visible()
    photograph("manifest-search", height=700)


def test_a_staging_links_to_its_receipt_and_report(run_id: str, opened: Page, photograph: Callable[..., Any]) -> None:
    for link, words in (("Receipt", '"dataflux-receipt/1"'), ("Report", "gs://pictures")):
        opened.goto(f"{address(run_id, 'stage')}/mapped/1/details")
        opened.get_by_role("link", name=link, exact=True).click()
        opened.wait_for_url(re.compile(f"/dataflux/{link.lower()}.*map_index=1"))
        expect(opened.locator("body")).to_contain_text(words)
    photograph("staging-report")


def test_templates_are_shown_as_they_were_rendered(run_id: str, opened: Page) -> None:
    opened.goto(f"{address(run_id, 'list')}/rendered_templates")
    expect(opened.get_by_text("manifest_uri", exact=True)).to_be_visible()
    expect(opened.get_by_text(re.compile("file:///tmp/training-[^/]+/listings/")).first).to_be_visible()


def test_the_log_says_in_the_open_what_was_done(run_id: str, opened: Page, photograph: Callable[..., Any]) -> None:
    opened.goto(address(run_id, "list"))
    expect(opened.get_by_text(re.compile("Listed gs://pictures/images/: 300 objects")).first).to_be_visible()
    opened.goto(f"{address(run_id, 'stage')}/mapped/1")
    # The scheduled run of the same day may have staged the same files a moment before.
    expect(opened.get_by_text(re.compile("objects fetched|is up to date")).first).to_be_visible()
    photograph("log-groups")


def test_the_menu_leads_to_a_page_that_lists_the_run(run_id: str, opened: Page, photograph: Callable[..., Any]) -> None:
    opened.goto("/")
    opened.get_by_role("button", name="Browse").click()
    opened.get_by_role("menuitem", name="Dataflux").click()
    rows = frame(opened).get_by_role("row").filter(has_text=run_id)
    expect(rows).to_have_count(4)  # a listing, and three shards
    expect(rows.get_by_role("link", name="report")).to_have_count(4)
    listing = rows.filter(has_text="listing")
    expect(listing).to_contain_text("300")
    expect(listing).to_contain_text("success")
    photograph("dataflux-page", height=600)
    # The page is in a frame that may not leave itself: the link must still lead Airflow's own page to the task.
    listing.get_by_role("link", name="list", exact=True).click()
    expect(opened).to_have_url(re.compile(r"/tasks/list$"))
    expect(opened.get_by_role("heading", name="list")).to_be_visible()


def test_the_page_can_be_filtered(run_id: str, opened: Page) -> None:
    opened.goto("/plugin/dataflux")
    frame(opened).get_by_label("DAG contains").fill("no such DAG")
    frame(opened).get_by_role("button", name="Show").click()
    expect(frame(opened).get_by_text("There are no runs")).to_be_visible()


def test_the_page_is_dark_where_airflow_is(run_id: str, opened: Page, photograph: Callable[..., Any]) -> None:
    def choose(mode: str) -> None:
        opened.get_by_role("button", name="User").click()
        opened.get_by_role("menuitem", name="Appearance").hover()
        opened.get_by_role("menuitemradio", name=mode).click()

    opened.goto("/plugin/dataflux")
    expect(frame(opened).get_by_role("row").filter(has_text=run_id)).to_have_count(4)
    for mode, theme in (("Dark Mode", "dark"), ("Light Mode", "light")):
        choose(mode)
        expect(frame(opened).locator("html")).to_have_attribute("data-theme", theme)
        if theme == "dark":
            photograph("dataflux-page-dark", height=600)
