"""The pictures of runs in docs/images: what `make pictures` makes, and what the pages show."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markdown_blocks import ROOT, pages

sys.path.insert(0, str(ROOT / "tests/docs/pictures"))

from cutting import SVG, pictures_of
from making import LISTING, STAGING, Amounts, make_pictures

from airflow_dataflux.core.report.activity import Span, SpanKind
from airflow_dataflux.core.report.charts import Areas, Histogram, Layer
from airflow_dataflux.core.report.page import Picture, ReportPage, Section, draw, render
from airflow_dataflux.core.report.timeline import Group, Timeline

NAMES = sorted({*LISTING.values(), *STAGING.values()})


def report(*pictures: Picture) -> bytes:
    section = Section(title="</svg><style>", blocks=pictures)
    return render(ReportPage(kind="Listing", title="t", subtitle="", facts=(), sections=(section,), footer=""))


def words(picture: bytes) -> list[str]:
    return [str(text.text) for text in ElementTree.fromstring(picture).iter(f"{{{SVG}}}text")]


def test_a_picture_that_is_cut_out_keeps_all_that_is_drawn_and_its_keys() -> None:
    layers = (Layer(label="reading", colour=0, values=[1.0]), Layer(label="waiting </ul>", colour=2, values=[2.0]))
    block = Areas(title="In <flight>", summary="", layers=layers, width_s=1.0, seconds=1.0, unit="batches")
    ((title, cut),) = pictures_of(report(block)).items()
    assert title == "In <flight>"
    drawn = words(draw(block).encode())
    assert sorted(words(cut)) == sorted([*drawn, "reading", "waiting </ul>"])
    root = ElementTree.fromstring(cut)
    assert root.findtext(f"{{{SVG}}}title") == "In <flight>"
    assert "prefers-color-scheme:dark" in str(root.findtext(f"{{{SVG}}}style"))


def test_names_under_the_pointer_are_left_out() -> None:
    span = Span(0, 0, 0.0, 1.0, SpanKind.LISTED, "a-name", "b-name", 5, 1)
    block = Timeline(title="t", summary="", groups=(Group(label="threads", lanes=1, spans=(span,)),), seconds=1.0)
    assert "a-name" in draw(block)
    assert b"a-name" not in pictures_of(report(block))["t"]


def test_a_report_has_a_picture_for_each_title() -> None:
    both = [Histogram(title=title, summary="", bars=()) for title in ("one", "two")]
    assert list(pictures_of(report(*both))) == ["one", "two"]


def test_the_pictures_are_made_of_real_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "")  # whatever is set meanwhile is restored
    made = make_pictures(Amounts(listed=3_000, small=100, large=1))
    assert sorted(made) == NAMES
    assert {"threads", "first to last names"} <= set(words(made["listing-streams.svg"]))
    assert "MiB" in " ".join(words(made["staging-bytes.svg"]))


@pytest.mark.parametrize("name", NAMES)
def test_each_picture_is_small_loads_nothing_and_is_shown(name: str) -> None:
    picture = (ROOT / "docs/images" / name).read_bytes()
    assert len(picture) < 120_000
    assert not re.search(rb"href|url\(|@import|<script|<image", picture)
    assert ElementTree.fromstring(picture).tag == f"{{{SVG}}}svg"
    shown = [page for page in pages() if f"images/{name})" in page.read_text("utf-8")]
    assert shown, f"no page shows {name}"
    assert all("make pictures" in Path(page).read_text("utf-8") for page in shown)
