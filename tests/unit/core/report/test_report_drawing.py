"""Drawing a report: pictures are XML, names are text, pages stay small."""

from __future__ import annotations

import math
import re
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from airflow_dataflux.core.report import formatting
from airflow_dataflux.core.report.activity import Span, SpanKind, StealMark
from airflow_dataflux.core.report.charts import (
    Areas,
    AxisScale,
    Bar,
    Histogram,
    Layer,
    Phase,
    Phases,
    Proportions,
    nice,
    power_of_two,
    ticks,
)
from airflow_dataflux.core.report.object_statistics import class_table, size_histogram
from airflow_dataflux.core.report.page import (
    REPORT_BEGINS,
    Fact,
    Lines,
    Pairs,
    Picture,
    ReportPage,
    Section,
    Table,
    draw,
    render,
)
from airflow_dataflux.core.report.timeline import NAME_COLOURS, Group, NameMap, Timeline

HOSTILE = [
    "</title><script>alert(1)</script>",
    "\"' onload=alert(1) x='",
    "]]><!-- & &amp; &#0;",
    "\x00\x01\x1b[31m\u202egnp.exe\ufffe\uffff",
    "a\nb\r\n\tc",
    "日本/\U0001f600/é" * 40,
    "x" * 1024,
    "",
]


def span(low: str, high: str | None, *, lane: int = 0, start_s: float = 0.0, kind: SpanKind = SpanKind.LISTED) -> Span:
    return Span(0, lane, start_s, start_s + 1.0, kind, low, high, 1000, 1, listed_s=start_s + 0.9)


def pictures(names: list[str], seconds: float = 10.0) -> list[Picture]:
    spans = tuple(span(name, name, lane=at % 8, start_s=at % 9) for at, name in enumerate(names))
    lost = tuple(replace(one, kind=SpanKind.LOST) for one in spans[:2])
    group = Group(
        label=names[0] if names else "threads",
        lanes=8,
        spans=spans + lost,
        marks=(StealMark(0, 1, 2.0),) if names else (),
        lost_s=(3.0,) if names else (),
    )
    bars = tuple(Bar(label=name, value=at, shown=name) for at, name in enumerate(names))
    title = names[0] if names else ""
    layers = (Layer(label=title, colour=0, values=[1.0, 0.0, 3.5]),)
    both = {"title": title, "summary": title}
    return [
        Timeline(**both, groups=(group,) if names else (), seconds=seconds),
        NameMap(**both, spans=spans, seconds=seconds),
        Areas(**both, layers=layers if names else (), width_s=4.0, seconds=seconds, unit="bytes/s"),
        Histogram(**both, bars=bars),
        Proportions(**both, bars=bars),
        Phases(**both, phases=tuple(Phase(label=name, start_s=1, end_s=9) for name in names), seconds=seconds),
    ]


def page_of(names: list[str]) -> ReportPage:
    word = names[0] if names else ""
    blocks = (
        *pictures(names),
        Table(caption=word, columns=(word, word), rows=tuple((name, name) for name in names)),
        Pairs(rows=tuple((name, name) for name in names)),
        Lines(lines=tuple(names), names=True),
    )
    return ReportPage(
        kind="Listing",
        title=word,
        subtitle=word,
        facts=(Fact(label=word, value=word, note=word),),
        sections=(Section(title=word, lead=word, blocks=blocks), Section(title="nothing", blocks=())),
        footer=word,
    )


class Elements(HTMLParser):
    """The elements and attributes that a browser would see."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("names", [[], ["a"], HOSTILE], ids=["nothing", "one range", "hostile names"])
@pytest.mark.parametrize("seconds", [0.0, 0.004, 10.0, 90_000.0])
def test_every_picture_is_well_formed_xml_with_a_name(names: list[str], seconds: float) -> None:
    for picture in pictures(names, seconds):
        drawn = draw(picture)
        root = ElementTree.fromstring(drawn)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("role") == "img"
        assert "nan" not in drawn.lower().split("</title>", 1)[1] or names == HOSTILE


@pytest.mark.parametrize("hostile", [name for name in HOSTILE if name])
def test_hostile_names_are_text_wherever_they_stand(hostile: str) -> None:
    found, harmless = Elements(render(page_of([hostile]))), Elements(render(page_of(["a"])))
    assert found.tags == harmless.tags
    assert found.attributes == harmless.attributes
    assert "script" not in found.tags


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    page = unescape(render(page_of(HOSTILE)).decode())
    assert "default-src 'none'" in page
    elements = Elements(render(page_of(HOSTILE)))
    assert not elements.attributes & {"src", "href", "onload", "onclick", "action", "data"}
    assert not re.search(r"url\(|@import", page)


def test_what_a_picture_says_stands_beside_it_in_words() -> None:
    picture = Histogram(title="Sizes", summary="Most are small.", bars=(Bar(label="1 KiB", value=3, shown="3"),))
    page = ReportPage(
        kind="Listing", title="t", subtitle="", facts=(), sections=(Section(title="s", blocks=(picture,)),), footer=""
    )
    assert "<figcaption>Most are small.</figcaption>" in render(page).decode()


def test_colours_tell_where_the_names_are() -> None:
    spans = tuple(span(f"{at:03}", f"{at + 1:03}", lane=at, start_s=0.0) for at in range(24))
    group = Group(label="threads", lanes=24, spans=spans[::-1])
    drawn = draw(Timeline(title="t", summary="", groups=(group,), seconds=1.0))
    colours = [int(found) for found in re.findall(r'class="n(\d+)', drawn)]
    assert colours == sorted(colours, reverse=True)
    assert set(colours) == set(range(12))


def test_the_style_has_a_colour_for_each_part_of_the_names() -> None:
    style = re.findall(r"<style>(.*?)</style>", render(page_of([])).decode(), re.DOTALL)[0]
    for kind in ("", ".line"):
        assert {int(found) for found in re.findall(rf"^{kind}\.n(\d+) {{", style, re.MULTILINE)} == set(
            range(NAME_COLOURS)
        )


def test_names_are_shown_on_one_line_and_shortened() -> None:
    assert formatting.name("a\nb\u202ec") == "a\\nb\\u202ec"
    assert len(formatting.name("x" * 1024)) <= 73
    assert formatting.name("train/7", hidden=6) == "…7"
    assert (formatting.name(None), formatting.name("")) == ("the end", "the start")
    assert formatting.common_front(["a/b/1", "a/b/22", "a/b/"]) == 4
    assert formatting.common_front([]) == formatting.common_front(["x", "y"]) == 0


def test_figures_are_written_as_people_read_them() -> None:
    assert [formatting.size(value) for value in (0, 1023, 1536, 1 << 40)] == ["0 B", "1023 B", "1.5 KiB", "1 TiB"]
    assert [formatting.seconds(value) for value in (0.0424, 3.14159, 75, 3700)] == [
        "42 ms",
        "3.14 s",
        "75.0 s",
        "1 h 1 min",
    ]
    assert [formatting.dollars(value) for value in (0, 0.00123, 12.5)] == ["$0", "$0.0012", "$12.50"]
    assert [formatting.dollars(value) for value in (1.7e-5, 1e-6, 4.3e-9)] == ["$0.000017", "$0.0000010", "< $0.000001"]
    assert max(len(formatting.dollars(1.23 * 10.0**-exponent)) for exponent in range(-3, 30)) <= 12
    assert [formatting.percent(1, 3), formatting.percent(1, 1000), formatting.percent(1, 0)] == ["33 %", "0.1 %", "-"]
    assert [formatting.short_count(value) for value in (0, 950, 1200, 3e6)] == ["0", "950", "1.2k", "3M"]


@pytest.mark.parametrize("high", [1e-9, 0.3, 1.0, 7.0, 999.0, 1e12])
def test_axes_name_round_values(high: float) -> None:
    named = ticks(high, 5)
    assert named[0] == 0
    assert named[-1] <= high * 1.000001
    assert 2 <= len(named) <= 6
    assert nice(high) >= high * 0.999


@pytest.mark.parametrize("high", [1.0, 3.0, 1023.0, 1024.0, 1025.0, 95.3 * 2**20, 1e12])
def test_axes_of_bytes_name_multiples_of_a_power_of_two(high: float) -> None:
    named = ticks(high, 4, binary=True)
    step = named[1]
    assert (step, power_of_two(step)) == (2.0 ** round(math.log2(step)), step)
    assert named == [step * at for at in range(len(named))]
    assert 2 <= len(named) <= 5
    assert named[-1] <= high < named[-1] + step


def test_a_picture_of_bytes_names_round_sizes() -> None:
    rates = Layer(label="read", colour=0, values=[95.3 * 2**20])
    block = Areas(title="t", summary="", layers=(rates,), width_s=1.0, seconds=1.0, unit="bytes/s")
    labels = [word for word in re.findall(r">([^<]+)</text>", draw(block)) if word.endswith("B")]
    assert labels == ["0 B", "32 MiB", "64 MiB", "96 MiB"]


def test_scales_stay_inside_the_picture() -> None:
    scale = AxisScale(0.0, 10.0, 100.0, 200.0)
    assert [scale(value) for value in (-5, 0, 5, 10, 50)] == [100, 100, 150, 200, 200]
    assert AxisScale(0.0, 0.0, 100.0, 200.0)(3) == 100


def test_no_objects_give_no_histogram_and_no_table() -> None:
    assert size_histogram({}, title="t", about="") == ()
    assert class_table({}, {}) == ()


def test_the_histogram_has_a_bar_for_each_size_between() -> None:
    (histogram,) = size_histogram({0: 1, 11: 5, 13: 2}, title="Sizes", about="in the manifest")
    assert [bar.value for bar in histogram.bars] == [1, *[0] * 10, 5, 0, 2]
    assert histogram.bars[11].label == "1 KiB"
    assert "62 %, are of 1 KiB to 2 KiB; half are smaller than 2 KiB" in histogram.summary


def test_a_report_is_known_by_how_it_begins() -> None:
    page = ReportPage(kind="Listing", title="gs://bucket", subtitle="", facts=(), sections=(), footer="")
    assert render(page).startswith(REPORT_BEGINS)
    assert b"airflow-dataflux report/1" in REPORT_BEGINS
