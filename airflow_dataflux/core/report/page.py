"""A report as one HTML file that needs nothing else (pure).

What a page consists of is plain data; how it looks stands in `templates/` (Jinja2), with the style that is put into the
page. Pictures are drawn by `charts` and `timeline`.

Guarantees: no script, no address that a browser would load by itself (the page's own policy even forbids it); every
text is escaped, because the templates escape by themselves; the pictures are well-formed XML; the same page gives the
same bytes.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec
from markupsafe import Markup

from airflow_dataflux.core.report import formatting
from airflow_dataflux.core.report.charts import (
    Areas,
    Histogram,
    Phases,
    Proportions,
    draw_areas,
    draw_histogram,
    draw_phases,
    draw_proportions,
)
from airflow_dataflux.core.report.timeline import NameMap, Timeline, draw_name_map, draw_timeline

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT_BEGINS = (
    b'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    b'<meta name="generator" content="airflow-dataflux report/1">'
)
"""How the bytes of every report begin: what tells one from any other file."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of the head: what it is, how much, and a word on it."""

    label: str
    value: str
    note: str = ""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of text; all columns but the first are numbers, unless `text_columns` names them by position."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: frozenset[int] = frozenset()


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """Names and their values, such as settings."""

    rows: tuple[tuple[str, str], ...]


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """Sentences, one below the other; `names` sets them as code."""

    lines: tuple[str, ...]
    names: bool = False


Picture = Areas | Histogram | Proportions | Phases | Timeline | NameMap
Block = Table | Pairs | Lines | Picture


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a page; one without blocks is not shown."""

    title: str
    blocks: tuple[Block, ...]
    lead: str = ""


class ReportPage(msgspec.Struct, frozen=True, kw_only=True):
    """A whole report.

    Attributes:
        kind: "Listing", "Staging" or "Packing".
        title: what was listed, staged or packed.
        subtitle: when, where.
        facts: the head's figures.
        sections: all that follows.
        footer: one line at the end.
    """

    kind: str
    title: str
    subtitle: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]
    footer: str


def render(page: ReportPage) -> bytes:
    """Return the page as a file's bytes."""
    template = open_templates(__package__).get_template("report.html")
    return template.render(page=page, draw=draw, kind_of=_kind_of, legend=_legend).encode()


def draw(picture: Picture) -> Markup:
    """Return a picture as an `svg` element for a page that has the report's style."""
    match picture:
        case Areas():
            drawn = draw_areas(picture)
        case Histogram():
            drawn = draw_histogram(picture)
        case Proportions():
            drawn = draw_proportions(picture)
        case Phases():
            drawn = draw_phases(picture)
        case Timeline():
            drawn = draw_timeline(picture)
        case NameMap():
            drawn = draw_name_map(picture)
    return Markup(drawn)  # noqa: S704 - written by xml.etree, which escapes


@functools.cache
def open_templates(package: str) -> Environment:
    """Return the templates of a package's directory `templates`, compiled once in a process.

    Every value is escaped, and what HTML cannot hold is replaced; a name that a template does not get is an error.
    Figures are written by filters named as the functions of `formatting`.
    """
    # Here, because only who writes a report pays for the import: 0.1 s of processor time, none where Airflow did it.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "count": formatting.count,
        "size": formatting.size,
        "seconds": formatting.seconds,
        "dollars": formatting.dollars,
    }
    return templates


def _finalize(value: object) -> object:
    return type(value)(formatting.writable(value)) if isinstance(value, str) else value


def _kind_of(block: Block) -> str:
    """Return how the template shows a block."""
    match block:
        case Table():
            return "table"
        case Pairs():
            return "pairs"
        case Lines():
            return "lines"
        case _:
            return "picture"


def _legend(picture: Picture) -> list[tuple[str, str]]:
    """Return the keys to a picture's colours: class and label."""
    match picture:
        case Areas() if len(picture.layers) > 1:
            return [(f"c{layer.colour}", layer.label) for layer in picture.layers]
        case Timeline():
            keys = [
                ("ramp", "first to last names"),
                ("steal", "a steal"),
                ("probe", "a probe"),
                ("pale", "no objects, or all pages listed and rows being written"),
            ]
            if any(group.lost_s for group in picture.groups):
                keys.append(("lost", "lost with its worker, listed again"))
            return keys
        case _:
            return []
