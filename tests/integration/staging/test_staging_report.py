"""The report of a staging: beside the receipt, with the receipt's own figures."""

from __future__ import annotations

import html
import logging
import re

import pytest
from staging_site import BUCKET, Site

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.report.notice import ReportNotice
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import Receipt, runreport, stage


def staged(site: Site, manifest: Manifest, **request: object) -> tuple[Receipt, list[ReportNotice]]:
    notices: list[ReportNotice] = []
    receipt = stage(
        manifest,
        StageRequest(destination=str(site.destination), **{"report": True, **request}),  # type: ignore[arg-type]
        store_config=site.config,
        tokens=AnonymousTokens(),
        on_report=notices.append,
        isolated=False,
    )
    return receipt, notices


def report(site: Site, name: str = "report.html") -> str:
    return (site.destination / ".dataflux" / name).read_text(encoding="utf-8")


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
    assert cells(page, "class B: reads and looks at metadata") == f"{receipt.requests['class_b']:,}"
    assert receipt.fingerprint in page
    for line in receipt.preflight:
        assert html.escape(line) in page
    for reason, count in receipt.reasons.items():
        assert cells(page, reason) == f"{count:,}"
    assert ("through composites" in page) == (strategy == "compose")
    assert notice.as_dict() == {
        "kind": "staging",
        "uri": f"file://{site.destination}/.dataflux/report.html",
        "title": f"gs://{BUCKET} to {site.destination}",
        "object_count": 100,
        "total_bytes": receipt.total_bytes,
        "seconds": receipt.seconds,
        "finished_at": receipt.finished_at,
    }


def test_nothing_to_do_leaves_the_report_of_the_run_that_fetched(site: Site) -> None:
    site.put_numbered(3)
    manifest = site.manifest()
    _, (first,) = staged(site, manifest)
    before = report(site)
    receipt, (again,) = staged(site, manifest)
    assert (receipt.reused, again.uri) == (3, first.uri)
    assert report(site) == before


def test_each_shard_has_its_own_report(site: Site) -> None:
    site.put_numbered(40)
    for shard in site.manifest().shards(2):
        _, (notice,) = staged(site, shard)
        assert notice.uri.endswith(f"/report-{shard.shard_info.index:05}-of-00002.html")
    assert "shard 00001-of-00002" in report(site, "report-00001-of-00002.html")


def test_a_report_that_was_not_asked_for_is_not_left_beside_a_new_receipt(site: Site) -> None:
    site.put_numbered(3)
    staged(site, site.manifest())
    site.put_numbered(5)
    assert staged(site, site.manifest("second"), report=False)[1] == []
    assert not (site.destination / ".dataflux" / "report.html").exists()


def test_a_dry_run_leaves_nothing(site: Site) -> None:
    site.put_numbered(3)
    assert staged(site, site.manifest(), dry_run=True)[1] == []
    assert not site.destination.exists()


def test_a_mistake_in_drawing_is_a_warning(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put_numbered(3)
    monkeypatch.setattr(runreport, "render", lambda _page: 1 / 0)
    with caplog.at_level(logging.WARNING):
        receipt, notices = staged(site, site.manifest())
    assert (receipt.downloaded, notices) == (3, [])
    assert "report of the staging could not be written" in caplog.text
