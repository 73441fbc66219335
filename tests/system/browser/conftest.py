"""A real Airflow 3 on PostgreSQL, the embedded Cloud Storage, and Debian's Chromium, for the tests of the UI."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from airflow_deployment import AirflowDeployment
from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect, sync_playwright
from postgres import postgres

from airflow_dataflux.testing import GCSServer

ROOT = Path(__file__).resolve().parents[3]
DAG = "stage_training_data"
OBJECTS = {f"images/{n:04}.jpg": bytes([n % 251]) * (1000 + n) for n in range(300)}

PATIENCE_MS = 120_000
"""How long one element may take on a machine that does much else; a good answer comes in a second."""

FLAGS = (
    # What keeps Chromium from calling its maker, and what a container without a screen needs.
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(1800))  # the first one starts the deployment and its run, too


@pytest.fixture(scope="session")
def server() -> Iterator[GCSServer]:
    with GCSServer() as running:
        running.create_bucket("pictures")
        running.put_many("pictures", OBJECTS)
        running.create_bucket("history")  # synthetic objects were changed every 7,919 s from 2024-01-01 on
        running.synthesize("history", count=300, size=6000)
        yield running


@pytest.fixture(scope="session")
def data() -> Iterator[Path]:
    """Where manifests and files go: pictures show it, so it has a short name."""
    root = Path(tempfile.mkdtemp(prefix="training-", dir="/tmp"))
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def airflow(server: GCSServer, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowDeployment]:
    root = tmp_path_factory.mktemp("ui")
    with postgres() as database:
        environment = {
            **server.environment(),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
            "STAGE_TRAINING_DATA_BUCKET": "pictures",
            "STAGE_TRAINING_DATA_DESTINATION_ROOT": str(data / "staged"),
            "STAGE_TRAINING_DATA_MANIFEST_ROOT": (data / "manifests").as_uri(),
            "STAGE_TRAINING_DATA_SHARDS": "3",
            "DAILY_INCREMENT_BUCKET": "history",
            "DAILY_INCREMENT_DESTINATION_ROOT": str(data / "increments"),
            "DAILY_INCREMENT_MANIFEST_ROOT": (data / "increments-listed").as_uri(),
            "DAILY_INCREMENT_STRATEGY": "compose",
        }
        with AirflowDeployment(root / "home", ROOT / "dags", environment=environment, parallelism=4) as deployment:
            deployment.wait_for_dag(DAG)
            yield deployment
        assert deployment.processes() == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("These tests need Chromium. On Debian, as root: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, headless=True, args=list(FLAGS))
        yield started
        started.close()


@contextmanager
def logged_in(browser: Browser, airflow: AirflowDeployment) -> Iterator[Page]:
    """Yield a page of a browser that has logged in, as a person does."""
    context = browser.new_context(viewport={"width": 1360, "height": 850}, base_url=airflow.url)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto("/")
    page.locator("input[name=username]").fill(airflow.username)
    page.locator("input[name=password]").fill(airflow.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda address: "/auth/" not in address)
    yield page
    context.close()


@pytest.fixture(scope="session")
def opened(browser: Browser, airflow: AirflowDeployment) -> Iterator[Page]:
    with logged_in(browser, airflow) as page:
        yield page


@pytest.fixture(scope="session")
def photograph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return a function that keeps a picture of a page, `opened` if none is named.

    It is in DATAFLUX_SCREENSHOTS, or with the test's files. `height` cuts off what is below, for a smaller file.
    """
    named = os.environ.get("DATAFLUX_SCREENSHOTS")
    directory = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    directory.mkdir(parents=True, exist_ok=True)

    def take(name: str, page: Page | None = None, *, height: int | None = None) -> None:
        shown = page or request.getfixturevalue("opened")
        size = shown.viewport_size
        clip = None if height is None else {"x": 0, "y": 0, "width": size["width"], "height": height}
        shown.screenshot(path=directory / f"{name}.png", animations="disabled", clip=clip)

    return take


def frame(page: Page) -> FrameLocator:
    """Return the inside of the page "Dataflux", which Airflow's UI shows in a frame."""
    return page.frame_locator("iframe[title=Dataflux]")


def ask_for_backfill(page: Page, dag: str, first: str, last: str, runs: int) -> Locator:
    """Fill in the dates of the dialog that makes a backfill, days as YYYY/MM/DD, and return the dialog."""
    page.goto(f"/dags/{dag}")
    page.get_by_test_id("trigger-dag-button").first.click()
    dialog = page.get_by_role("dialog").filter(has_text=dag)
    dialog.get_by_text("Run this Dag for a range of dates").click()
    dates = dialog.get_by_test_id("datetime-input")
    expect(dates).to_have_count(2)
    for field, day in ((dates.first, first), (dates.last, last)):
        field.click()  # which opens a calendar beside the dialog, with two texts
        page.get_by_placeholder("YYYY/MM/DD").fill(day)
        page.get_by_placeholder("HH:mm").fill("00:00")
        page.keyboard.press("Escape")
        expect(page.get_by_placeholder("YYYY/MM/DD")).to_have_count(0)
        expect(field).to_have_text(f"{datetime.strptime(day, '%Y/%m/%d'):%b %d, %Y} 00:00")  # noqa: DTZ007 - a day
    expect(dialog.get_by_text(f"{runs} runs will be triggered.")).to_be_visible()
    return dialog
