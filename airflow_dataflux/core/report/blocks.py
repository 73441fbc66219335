"""What a report consists of: data, not drawn yet.

Every picture carries `summary`, the sentence that tells what it shows to who does not see it; it is printed below the
picture, for everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_dataflux.core.report.spans import Mark, Span


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One figure of the head: what it is, how much, and a word on it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of text; all columns but the first are numbers, unless `text_columns` names them by position."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """Names and their values, such as settings."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lines:
    """Sentences, one below the other; `names` sets them as code."""

    lines: tuple[str, ...]
    names: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One layer of an area chart: its colour, 0 to 7, and a value for each bucket of time."""

    label: str
    colour: int
    values: Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Areas:
    """Layers on top of one another over time.

    Attributes:
        title, summary: in words.
        layers: from the ground up; with buckets of `width_s` each.
        width_s: seconds of a bucket; layers may have widths of their own only by being separate charts.
        seconds: where the time axis ends.
        unit: of the values: "bytes" are written as sizes, all others after their number.
    """

    title: str
    summary: str
    layers: tuple[Layer, ...]
    width_s: float
    seconds: float
    unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A bar of a histogram, or a row of shares."""

    label: str
    value: float
    shown: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """Bars beside one another, in the order of their labels."""

    title: str
    summary: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Parts of a whole, one row each."""

    title: str
    summary: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A part of a run that took from here to there."""

    label: str
    start_s: float
    end_s: float
    colour: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Phases:
    """Parts of a run, one row each, over time."""

    title: str
    summary: str
    phases: tuple[Phase, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The lanes of one process in a timeline.

    Attributes:
        label: of the process.
        lanes: how many.
        spans: their `worker` is not looked at any more.
        marks: steals.
        lost_s: moments at which the process was lost.
    """

    label: str
    lanes: int
    spans: tuple[Span, ...]
    marks: tuple[Mark, ...] = ()
    lost_s: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """Which stream listed which names when: bars in lanes, coloured by where in the names they lie."""

    title: str
    summary: str
    groups: tuple[Group, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NameMap:
    """How the names were covered: time from left to right, all names from top to bottom.

    Attributes:
        spans: the bars of a timeline that listed objects.
    """

    title: str
    summary: str
    spans: tuple[Span, ...]
    seconds: float


Picture = Areas | Histogram | Shares | Phases | Timeline | NameMap
Block = Table | Pairs | Lines | Picture


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of a page; one without blocks is not shown."""

    title: str
    blocks: tuple[Block, ...]
    lead: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A whole report.

    Attributes:
        kind: "Listing" or "Staging".
        title: what was listed or staged.
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
