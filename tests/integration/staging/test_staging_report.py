"""The report of a staging: beside the receipt, with the receipt's own figures."""

from __future__ import annotations

import html
import logging
import os
import re
from pathlib import Path

import pytest
from staging_site import BUCKET, Site

from airflow_dataflux.core.config import RunIdentity, StageRequest
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.report.report_info import KEPT_REPORTS, ReportInfo
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import Receipt, stage

pytestmark = pytest.mark.in_memory


def staged(site: Site, manifest: Manifest, **request: object) -> tuple[Receipt, list[ReportInfo]]:
    notices: list[ReportInfo] = []
    receipt = stage(
        manifest,
        StageRequest(destination=str(site.destination), **{"report": True, **request}),  # type: ignore[arg-type]
        store_config=site.config,
        tokens=AnonymousTokens(),
        observer=lambda event: notices.append(event) if isinstance(event, ReportInfo) else None,
        isolated=False,
    )
    return receipt, notices


def reports(site: Site) -> list[Path]:
    return sorted((site.destination / ".dataflux" / "reports").glob("*"))


def report(site: Site) -> str:
    (path,) = reports(site)
    return path.read_text(encoding="utf-8")


def cells(page: str, label: str) -> str:
    """Return the text of the cell behind the one that holds `label`."""
    found = re.search(rf">{re.escape(html.escape(label))}</td><td>([^<]*)</td>", page)
    assert found is not None, label
    return found[1]


@pytest.mark.parametrize("strategy", ["compose", "direct"])
def test_the_report_tells_what_the_receipt_says(site: Site, strategy: str) -> None:
    site.put_numbered(100)
    receipt, (notice,) = staged(site, site.manifest(), strategy=strategy)
    page = report(site)
    assert cells(page, "class A: composes and lists") == f"{receipt.requests['class_a']:,}"
    assert cells(page, "class B: reads and metadata requests") == f"{receipt.requests['class_b']:,}"
    assert receipt.fingerprint in page
    for line in receipt.preflight:
        assert html.escape(line) in page
    for reason, count in receipt.reasons.items():
        assert cells(page, reason) == f"{count:,}"
    assert ("through composites" in page) == (strategy == "compose")
    assert notice.as_dict() == {
        "kind": "staging",
        "uri": f"file://{reports(site)[0]}",
        "title": f"gs://{BUCKET} to {site.destination}",
        "object_count": 100,
        "total_bytes": receipt.total_bytes,
        "seconds": receipt.seconds,
        "finished_at": receipt.finished_at,
    }


def test_each_run_has_a_report_of_its_own_and_none_replaces_another(site: Site) -> None:
    site.put_numbered(3)
    _, (first,) = staged(site, site.manifest())
    before = report(site)
    site.put_numbered(5)
    _, (second,) = staged(site, site.manifest("second"))
    receipt, (idle,) = staged(site, site.manifest("second"))
    assert receipt.reused == 5
    pages = [Path(info.uri.removeprefix("file://")) for info in (first, second, idle)]
    assert sorted(pages) == reports(site)
    assert pages[0].read_text(encoding="utf-8") == before
    assert "nothing was fetched" in pages[2].read_text(encoding="utf-8")
    assert "nothing was fetched" not in pages[1].read_text(encoding="utf-8")


def test_each_shard_has_reports_of_its_own(site: Site) -> None:
    site.put_numbered(40)
    for shard in site.manifest().shards(2):
        _, (info,) = staged(site, shard)
        assert info.uri.endswith(f"_{shard.shard_info.index:05}-of-00002.html")
    assert "shard 2 of 2" in reports(site)[1].read_text(encoding="utf-8") + reports(site)[0].read_text("utf-8")


def test_the_latest_reports_are_kept_and_what_is_no_report_stays(site: Site) -> None:
    site.put_numbered(1)
    _, (first,) = staged(site, site.manifest())
    directory = reports(site)[0].parent
    others = {"notes.html", "20260101T000000Z-abcdef_00000-of-00002.html"}
    for name in others | {f"202601{day:02}T000000Z-abcdef.html" for day in range(1, 26)}:
        (directory / name).write_text("<p>")
    _, (last,) = staged(site, site.manifest())
    left = {path.name for path in reports(site)}
    kept = left - others
    assert others <= left
    assert len(kept) == KEPT_REPORTS
    assert {os.path.basename(info.uri) for info in (first, last)} <= kept
    assert "20260101T000000Z-abcdef.html" not in kept


def test_a_report_is_named_after_its_run(site: Site) -> None:
    site.put_numbered(1)
    identity = RunIdentity(run="manual__2026-01-31T06:00:00+00:00/../x")
    _, (info,) = staged(site, site.manifest(), identity=identity)
    name = info.uri.partition("/.dataflux/reports/")[2]
    assert re.fullmatch(r"\d{8}T\d{6}Z-manual__2026-01-31T06-00-00-00-00-\.\.-x-[0-9a-f]{6}\.html", name)


def test_a_dry_run_leaves_nothing(site: Site) -> None:
    site.put_numbered(3)
    assert staged(site, site.manifest(), dry_run=True)[1] == []
    assert not site.destination.exists()


def test_a_mistake_in_drawing_is_a_warning(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put_numbered(3)
    monkeypatch.setattr("airflow_dataflux.core.staging.staging_report.render", lambda _page: 1 / 0)
    with caplog.at_level(logging.WARNING):
        receipt, notices = staged(site, site.manifest())
    assert (receipt.downloaded, notices) == (3, [])
    assert "report of the staging could not be written" in caplog.text
