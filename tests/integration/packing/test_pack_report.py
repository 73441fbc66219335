"""The report of a pack: beside the index, with the figures that the pack returns; and the progress on the way."""

from __future__ import annotations

import html
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from packing_site import SOURCE, TARGET, Site

from airflow_dataflux.core import ListRequest, list_objects
from airflow_dataflux.core.manifest import ManifestFiles
from airflow_dataflux.core.packing import PackResult, pack_join, packer
from airflow_dataflux.core.report.report_info import KEPT_REPORTS, ReportInfo
from airflow_dataflux.core.runtime.progress import Progress
from airflow_dataflux.core.runtime.tokens import AnonymousTokens

SMALL = 64 * 1024


def packed(site: Site, output: str | None = None, **request: Any) -> tuple[PackResult, list[ReportInfo]]:
    site.events.clear()
    result = site.pack(site.manifest(), output, **{"shard_bytes": SMALL, "report": True, **request})
    return result, [event for event in site.events if isinstance(event, ReportInfo)]


def page_at(site: Site, info: ReportInfo) -> str:
    return ManifestFiles(site.store).read(info.uri).decode()


def cells(page: str, label: str) -> str:
    """Return the text of the cell behind the one that holds `label`."""
    found = re.search(rf">{re.escape(html.escape(label))}</td><td>([^<]*)</td>", page)
    assert found is not None, label
    return found[1]


@pytest.mark.parametrize("strategy", ["compose", "direct"])
def test_the_report_tells_what_the_pack_returns(site: Site, output: str, strategy: str) -> None:
    site.put_samples(100)
    result, (info,) = packed(site, output, strategy=strategy)
    page = page_at(site, info)
    assert cells(page, "class A: composes, uploads and lists") == f"{result.requests['class_a']:,}"
    assert cells(page, "class B: reads and metadata requests") == f"{result.requests['class_b']:,}"
    for line in (result.fingerprint, *map(html.escape, result.notes)):
        assert line in page
    assert ("through composites" in page) == (strategy == "compose")
    assert f"{result.packed_shards} shards" in page
    assert info.uri.startswith(f"{result.output}reports/20")
    told = {**info.as_dict(), "uri": "", "finished_at": ""}
    assert told == {
        "kind": "packing",
        "uri": "",
        "title": f"gs://{SOURCE}/ to {result.output}",
        "object_count": 200,
        "total_bytes": result.total_bytes,
        "seconds": result.seconds,
        "finished_at": "",
    }
    assert (result.packed_objects, result.packed_bytes, result.reused_objects) == (200, result.total_bytes, 0)


def test_a_pack_that_finds_everything_right_has_a_report_that_says_so(site: Site) -> None:
    site.put_samples(50)
    first, _ = packed(site, site.local)
    again, (info,) = packed(site, site.local)
    assert (again.packed_objects, again.packed_bytes, again.reused_objects) == (0, 0, 100)
    assert again.reused_shards == first.packed_shards
    assert "All shards were already right, so nothing was fetched." in page_at(site, info)


def test_an_engine_and_its_workers_are_in_the_report(site: Site) -> None:
    site.put_samples(200)
    _, (info,) = packed(site, site.local, isolated=True, workers=2)
    page = page_at(site, info)
    assert ">engine</td>" in page
    assert ">worker 1</td>" in page


def test_each_part_of_a_mapped_pack_has_a_report_of_its_own(site: Site) -> None:
    site.put_samples(150)
    titles = []
    parts = []
    for shard in site.manifest().shards(3):
        site.events.clear()
        parts.append(site.pack(shard, shard_bytes=SMALL, report=True))
        (info,) = [event for event in site.events if isinstance(event, ReportInfo)]
        titles.append(info.title)
    assert titles == [f"gs://{SOURCE}/ to {site.remote}, part {n} of 3" for n in (1, 2, 3)]
    scopes = [name[-len("00000-of-00003.html") :] for name in site.server.names(TARGET, "packed/reports/")]
    assert sorted(scopes) == [f"0000{n}-of-00003.html" for n in range(3)]
    joined = site.join(parts)
    assert (joined.packed_objects, joined.packed_bytes) == (300, joined.total_bytes)
    assert joined.seconds == max(part.seconds for part in parts)


def test_a_joined_pack_has_a_report_of_the_whole(site: Site, output: str) -> None:
    site.put_samples(150)
    parts = [site.pack(shard, output, shard_bytes=SMALL) for shard in site.manifest().shards(3)]
    site.events.clear()
    joined = site.join(parts, output, report=True)
    (info,) = [event for event in site.events if isinstance(event, ReportInfo)]
    page = page_at(site, info)
    assert info.title == f"gs://{SOURCE}/ to {joined.output}"
    assert (info.kind, info.object_count, info.seconds) == ("packing", 300, joined.seconds)
    assert cells(page, "class A: composes, uploads and lists") == f"{joined.requests['class_a']:,}"
    assert "Joined of 3 parts" in page
    for number, part in enumerate(parts, 1):
        assert re.search(rf">{number}</td><td[^>]*>{part.hostname}</td>", page)
    assert f"{joined.members}, 300 rows" in page
    assert f"{joined.packed_shards} shards" in page
    site.check(output)


def test_a_joined_pack_counts_the_requests_of_its_parts_and_of_the_join(site: Site) -> None:
    site.put_samples(60)
    parts = [site.pack(shard, shard_bytes=SMALL) for shard in site.manifest().shards(2)]
    site.server.forget_requests()
    joined = site.join(parts)
    of_join = sum(site.operations().values())
    assert of_join > 0
    billed = ("class_a", "class_b", "free")
    of_parts = sum(part.requests[name] for part in parts for name in billed)
    assert sum(joined.requests[name] for name in billed) == of_parts + of_join
    assert joined.estimated_usd == pytest.approx(sum(joined.costs.values()))
    assert joined.estimated_usd > sum(part.estimated_usd for part in parts)


def test_the_report_of_a_join_says_how_many_objects_were_left_out_and_where_their_names_are(site: Site) -> None:
    site.put_samples(60)
    shards = site.manifest().shards(2)
    site.server.put(SOURCE, "train/00003.jpg", b"changed")
    parts = [site.pack(shard, site.local, shard_bytes=SMALL, on_changed_object="skip") for shard in shards]
    site.events.clear()
    assert site.join(parts, site.local, report=True).skipped == 2
    (info,) = [event for event in site.events if isinstance(event, ReportInfo)]
    page = page_at(site, info)
    assert f"had changed: 2 in gs://{SOURCE}" in page
    assert "report.json beside the index names the first thousand." in page


def test_parts_that_do_not_name_their_manifest_are_joined(site: Site) -> None:
    site.put_samples(20)
    summaries = [site.pack(shard, shard_bytes=SMALL).summary() for shard in site.manifest().shards(2)]
    for summary in summaries:
        del summary["source"]
    site.events.clear()
    joined = site.join([PackResult.from_summary(summary) for summary in summaries], report=True)
    (info,) = [event for event in site.events if isinstance(event, ReportInfo)]
    assert info.title == joined.output
    assert joined.source is None


def test_a_join_shows_how_far_it_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_join, "_PROGRESS_S", 0.0)
    site.put_samples(150)
    parts = [site.pack(shard, shard_bytes=SMALL) for shard in site.manifest().shards(2)]
    site.events.clear()
    joined = site.join(parts)
    figures = [event.figures for event in site.events if isinstance(event, Progress)]
    assert [each["shards"] for each in figures] == list(range(1, joined.shard_count + 1))
    assert figures[-1]["objects"] == figures[-1]["of_objects"] == 300


def test_the_oldest_reports_go(site: Site) -> None:
    site.put_samples(2)
    for _ in range(KEPT_REPORTS + 2):
        packed(site)
    assert len(site.server.names(TARGET, "packed/reports/")) == KEPT_REPORTS


def test_a_listing_of_the_packs_leaves_their_reports_out(site: Site) -> None:
    site.put_samples(20)
    packed(site)
    listed = list_objects(ListRequest(bucket=TARGET), store_config=site.config, tokens=AnonymousTokens())
    names = [row.name for row in listed.rows()]
    assert "packed/index.json" in names
    assert [name for name in names if "reports/" in name] == []


def test_a_report_that_cannot_be_written_is_a_warning(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.put_samples(20)
    Path(site.local).mkdir()
    Path(site.local, "reports").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        result, infos = packed(site, site.local)
    site.check(site.local)
    assert (result.index, infos) == (f"file://{site.local}/index.json", [])
    assert f"The report of the pack could not be written to file://{site.local}/reports/" in caplog.text


def test_a_dry_run_and_a_pack_without_one_have_no_report(site: Site) -> None:
    site.put_samples(20)
    _, infos = packed(site, dry_run=True)
    assert infos == []
    _, infos = packed(site, report=False)
    assert infos == []
    assert site.server.names(TARGET, "packed/reports/") == []


def test_what_was_left_out_is_named(site: Site) -> None:
    site.put_samples(20)
    manifest = site.manifest()
    site.server.put(SOURCE, "train/00003.jpg", b"changed")
    result = site.pack(manifest, site.local, shard_bytes=SMALL, report=True, on_changed_object="skip")
    (info,) = [event for event in site.events if isinstance(event, ReportInfo)]
    page = page_at(site, info)
    assert result.skipped == 2
    assert "2 in gs://" in page
    assert "train/00003.jpg" in page


def test_progress_counts_what_is_done_of_all_there_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packer, "_PROGRESS_S", 0.0)
    site.put_samples(300)
    packed(site, site.local)
    packed(site, site.local)
    figures = [event.figures for event in site.events if isinstance(event, Progress) and event.stage == "packing"]
    assert figures
    assert {each["of_objects"] for each in figures} == {600}
    done = [each["objects"] for each in figures]
    assert done == sorted(done)
    assert done[-1] > 400, "shards that were right already count"
    assert all(each["bytes"] == 0 for each in figures)
