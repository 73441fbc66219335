"""A page of blocks as one HTML file that needs nothing else (pure).

Guarantees: no script, no address that a browser would load by itself (its policy even forbids it), every name escaped;
the pictures are well-formed XML; the same blocks give the same bytes.
"""

from __future__ import annotations

from airflow_dataflux.core.report.areas import draw_areas
from airflow_dataflux.core.report.bars import draw_histogram, draw_phases, draw_shares
from airflow_dataflux.core.report.blocks import (
    Areas,
    Block,
    Fact,
    Histogram,
    Lines,
    NameMap,
    Page,
    Pairs,
    Phases,
    Picture,
    Section,
    Shares,
    Table,
    Timeline,
)
from airflow_dataflux.core.report.markup import Markup, join, tag
from airflow_dataflux.core.report.style import PAGE_STYLE
from airflow_dataflux.core.report.timeline import draw_name_map, draw_timeline

_FIRST = join(tag("meta", charset="utf-8"), tag("meta", name="generator", content="airflow-dataflux report/1"))

REPORT_BEGINS = f'<!doctype html>\n<html lang="en"><head>{_FIRST}'.encode()
"""How the bytes of every report begin: what tells one from any other file."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(page: Page) -> bytes:
    """Return the page as a file's bytes."""
    head = join(
        _FIRST,
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", f"{page.kind}: {page.title}"),
        tag("style", PAGE_STYLE),
    )
    body = tag(
        "main",
        tag("p", page.kind, class_="kind"),
        tag("h1", page.title),
        tag("p", page.subtitle, class_="sub"),
        tag("dl", *map(_fact, page.facts), class_="facts"),
        *map(_section, page.sections),
        tag("footer", page.footer),
    )
    whole = tag("html", tag("head", head), "\n", tag("body", body), lang="en")
    return f"<!doctype html>\n{whole}\n".encode()


def draw(block: Picture) -> Markup:
    """Return a picture as an `svg` element for a page that has `PAGE_STYLE`."""
    match block:
        case Areas():
            return draw_areas(block)
        case Histogram():
            return draw_histogram(block)
        case Shares():
            return draw_shares(block)
        case Phases():
            return draw_phases(block)
        case Timeline():
            return draw_timeline(block)
        case NameMap():
            return draw_name_map(block)


def _fact(fact: Fact) -> Markup:
    return tag("div", tag("dt", fact.label), tag("dd", fact.value, tag("small", fact.note) if fact.note else None))


def _section(section: Section) -> Markup:
    if not section.blocks:
        return Markup("")
    lead = tag("p", section.lead, class_="lead") if section.lead else None
    return tag("section", tag("h2", section.title), lead, *map(_block, section.blocks))


def _block(block: Block) -> Markup:
    match block:
        case Table():
            return _table(block)
        case Pairs():
            return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in block.rows), class_="pairs")
        case Lines():
            lines = (tag("li", tag("code", line) if block.names else line) for line in block.lines)
            return tag("ul", *lines, class_="lines")
        case _:
            return tag(
                "figure",
                tag("strong", block.title),
                _legend(block),
                tag("div", draw(block), class_="wide"),
                tag("figcaption", block.summary),
            )


def _legend(block: Picture) -> Markup | None:
    match block:
        case Areas() if len(block.layers) > 1:
            keys = [(f"c{layer.colour}", layer.label) for layer in block.layers]
        case Timeline():
            keys = [
                ("ramp", "first to last names"),
                ("steal", "a steal"),
                ("probe", "a probe"),
                ("pale", "nothing there, or all listed and being written"),
            ]
            if any(group.lost_s for group in block.groups):
                keys.append(("lost", "lost with its worker, listed again"))
        case _:
            return None
    return tag("ul", *(tag("li", tag("i", class_=key), label) for key, label in keys), class_="legend")


def _table(table: Table) -> Markup:
    left = {0, *table.text_columns}

    def cells(name: str, row: tuple[str, ...]) -> Markup:
        return tag("tr", *(tag(name, cell, class_="left" if at in left else None) for at, cell in enumerate(row)))

    return tag(
        "div",
        tag(
            "table",
            tag("caption", table.caption) if table.caption else None,
            tag("thead", cells("th", table.columns)),
            tag("tbody", *(cells("td", row) for row in table.rows)),
        ),
        class_="scroll",
    )
