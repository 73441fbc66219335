"""The report of a listing: beside the manifest, with the listing's own figures."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.request import urlopen

import pytest

from airflow_dataflux.core.config import Filters, ListRequest
from airflow_dataflux.core.gcs.http_store import StoreConfig
from airflow_dataflux.core.listing import list_objects, listing_report
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.report.report_info import KEPT_REPORTS, ReportInfo
from airflow_dataflux.core.runtime.progress import RunStatistics
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.testing import GCSServer


@pytest.fixture(scope="module")
def server() -> Iterator[GCSServer]:
    with GCSServer() as running:
        running.create_bucket("many")
        running.synthesize("many", count=60_000, style="classes", prefix="train/", size=[0, 100, 5000])
        running.create_bucket("few")
        for number in range(3):
            running.put("few", f"<b>{number}&.txt", b"12345", storage_class="NEARLINE")
        running.create_bucket("manifests")
        yield running


def fetch(
    server: GCSServer, bucket: str, *, isolated: bool = False, **request: object
) -> tuple[Manifest, list[ReportInfo]]:
    notices: list[ReportInfo] = []
    manifest = list_objects(
        ListRequest(bucket=bucket, **request),  # type: ignore[arg-type]
        store_config=StoreConfig(endpoint=server.endpoint),
        tokens=AnonymousTokens(),
        observer=lambda event: notices.append(event) if isinstance(event, ReportInfo) else None,
        isolated=isolated,
    )
    return manifest, notices


class Words(HTMLParser):
    """The text of a page, pictures left out."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self._depth = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._depth += tag in ("svg", "style")

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag in ("svg", "style")

    def handle_data(self, data: str) -> None:
        if not self._depth and data.strip():
            self.words.append(data.strip())


def reports(directory: Path) -> list[Path]:
    return sorted((directory / "reports").glob("*"))


def report(directory: Path, info: ReportInfo | None = None) -> str:
    """Return the page of a listing, or the only one that is there."""
    if info is not None:
        return Path(info.uri.removeprefix("file://")).read_text(encoding="utf-8")
    (path,) = reports(directory)
    return path.read_text(encoding="utf-8")


def after(words: list[str], label: str) -> str:
    return words[words.index(label) + 1]


@pytest.mark.parametrize("isolated", [False, True], ids=["threads", "engine"])
def test_the_report_tells_what_the_listing_did(server: GCSServer, tmp_path: Path, isolated: bool) -> None:
    server.configure(latency_s={"list": 0.02})
    manifest, notices = fetch(
        server, "many", manifest_uri=str(tmp_path), report=True, workers=2, streams=8, isolated=isolated
    )
    stats = manifest.stats
    page = report(tmp_path)
    words = Words(page).words
    assert after(words, "Objects") == "60,000"
    assert after(words, "list requests (class A)") == f"{stats['requests']:,}"
    assert after(words, "Steals") == f"{stats['steals']:,}"
    assert after(words, "of these without objects: probes and empty ranges") == f"{stats['wasted_requests']:,}"
    assert after(words, "parts written") == f"{len(manifest.index.parts):,}"
    assert {each["role"] for each in stats["processes"]} <= set(words)
    assert "60,000 objects in all." in page
    assert manifest.fingerprint in page
    # Every bar of the timeline is a range or a probe, and its pages are the requests that were sent.
    told = [title for title in re.findall(r"<title>(.*?)</title>", page) if re.search(r", [\d.]+-[\d.]+ s$", title)]
    pages = sum(int(found.replace(",", "")) for title in told for found in re.findall(r"([\d,]+) pages?", title))
    probes = sum(title.startswith("1 probe ") for title in told)
    assert pages + probes == stats["requests"]
    assert len(page) < 300_000
    (notice,) = notices
    assert notice.as_dict() == {
        "kind": "listing",
        "uri": reports(tmp_path)[0].as_uri(),
        "title": "gs://many/",
        "object_count": 60_000,
        "total_bytes": manifest.total_bytes,
        "seconds": stats["wall_s"],
        "finished_at": notice.finished_at,
    }


def test_a_listing_of_one_page_has_a_report_too(server: GCSServer, tmp_path: Path) -> None:
    _, notices = fetch(server, "few", manifest_uri=str(tmp_path), report=True, filters=Filters(min_bytes=5))
    page = report(tmp_path)
    assert "One page held everything" in page
    assert "NEARLINE" in page
    assert "<b>" not in page
    assert len(notices) == 1


def test_an_empty_listing_has_a_report_that_says_so(server: GCSServer, tmp_path: Path) -> None:
    fetch(server, "few", prefixes=("nothing/",), manifest_uri=str(tmp_path), report=True)
    words = Words(report(tmp_path)).words
    assert after(words, "Objects") == "0"


def test_a_filter_of_zero_is_told_and_one_that_was_not_given_is_not(server: GCSServer, tmp_path: Path) -> None:
    fetch(server, "few", manifest_uri=str(tmp_path), report=True, filters=Filters(min_bytes=0, max_bytes=0))
    words = Words(report(tmp_path)).words
    assert (after(words, "filter: min bytes"), after(words, "filter: max bytes")) == ("0", "0")
    assert [word for word in words if word.startswith("filter: ")] == ["filter: min bytes", "filter: max bytes"]


def test_filters_and_what_they_left_out_are_told(server: GCSServer, tmp_path: Path) -> None:
    server.configure(latency_s={})
    manifest, _ = fetch(server, "many", manifest_uri=str(tmp_path), report=True, filters=Filters(min_bytes=200))
    words = Words(report(tmp_path)).words
    assert after(words, "Objects") == f"{len(manifest):,}"
    assert "of 60,000 listed" in words
    assert after(words, "min_bytes") == f"{60_000 - len(manifest):,}"


def test_a_report_goes_to_the_bucket_of_its_manifest(server: GCSServer) -> None:
    _, (notice,) = fetch(server, "few", manifest_uri="gs://manifests/few", report=True)
    place, _, name = notice.uri.rpartition("/")
    assert place == "gs://manifests/few/reports"
    with urlopen(f"{server.endpoint}/storage/v1/b/manifests/o/few%2Freports%2F{name}") as answer:
        assert json.load(answer)["contentType"].startswith("text/html; charset=utf-8")


def test_without_asking_there_is_no_report(server: GCSServer, tmp_path: Path) -> None:
    assert fetch(server, "few", manifest_uri=str(tmp_path / "a"))[1] == []
    assert reports(tmp_path / "a") == []
    assert fetch(server, "few", report=True)[1] == []  # an inline manifest has no place for one


def test_each_listing_has_a_report_of_its_own_and_the_latest_are_kept(server: GCSServer, tmp_path: Path) -> None:
    _, (first,) = fetch(server, "few", manifest_uri=str(tmp_path), report=True)
    for day in range(1, 26):
        (tmp_path / "reports" / f"202601{day:02}T000000Z-abcdef.html").write_text("<p>")
    (tmp_path / "reports" / "notes.html").write_text("<p>")
    killed = tmp_path / "reports" / ".0123456789ab.20260101T000000Z-abcdef.html.tmp"
    killed.write_text("<p")
    os.utime(killed, (0, 0))
    before = report(tmp_path, first)
    _, (second,) = fetch(server, "few", manifest_uri=str(tmp_path), report=True, prefixes=("nothing/",))
    assert first.uri != second.uri
    assert report(tmp_path, first) == before
    assert after(Words(report(tmp_path, second)).words, "Objects") == "0"
    assert len(reports(tmp_path)) == KEPT_REPORTS + 1  # and the notes
    assert not killed.exists()


def test_reports_that_cannot_be_deleted_are_a_warning(
    server: GCSServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_report, "surplus_reports", lambda _names: 1 / 0)
    with caplog.at_level(logging.WARNING):
        _, notices = fetch(server, "few", manifest_uri=str(tmp_path), report=True)
    assert [one.uri for one in notices] == [path.as_uri() for path in reports(tmp_path)]
    assert "could not be deleted" in caplog.text


def test_a_report_that_cannot_be_written_is_a_warning(
    server: GCSServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "reports").write_text("no directory")
    with caplog.at_level(logging.WARNING):
        manifest, notices = fetch(server, "few", manifest_uri=str(tmp_path), report=True)
    assert (len(manifest), notices) == (3, [])
    assert "report of the listing could not be written" in caplog.text
    assert len(Manifest.open(str(tmp_path))) == 3


def test_a_mistake_in_drawing_is_a_warning_too(
    server: GCSServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_report, "render", lambda _page: 1 / 0)
    with caplog.at_level(logging.WARNING):
        assert len(fetch(server, "few", manifest_uri=str(tmp_path), report=True)[0]) == 3
    assert "ZeroDivisionError" in caplog.text or "division by zero" in caplog.text


def test_an_observer_hears_of_the_report_and_of_the_statistics_last(server: GCSServer, tmp_path: Path) -> None:
    events: list[object] = []
    manifest = list_objects(
        ListRequest(bucket="few", manifest_uri=str(tmp_path), report=True),
        store_config=StoreConfig(endpoint=server.endpoint),
        tokens=AnonymousTokens(),
        observer=events.append,
    )
    assert [type(event) for event in events] == [ReportInfo, RunStatistics]
    assert events[-1] == RunStatistics(kind="listing", figures=manifest.stats)
