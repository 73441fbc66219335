"""What the reports of stagings and packs share: facts, requests, dollars, processes, phases, rates over time (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from airflow_dataflux.core.report import formatting
from airflow_dataflux.core.report.activity import Series
from airflow_dataflux.core.report.charts import Areas, Bar, Layer, Phase, Phases, Proportions
from airflow_dataflux.core.report.page import Block, Fact, Lines, Table

_NAMES_SHOWN = 50

_REQUESTS = {
    "class_b": "class B: reads and metadata requests",
    "free": "free: deletes",
    "retries": "retried",
    "throttled": "answered with 429 or 503",
}


def shown_moment(iso: str) -> str:
    """Return a time of RFC 3339 for people."""
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def requests_table(
    requests: Mapping[str, int], *, class_a: str, refetched: int | None = None, resumed: int | None = None
) -> Table:
    """Tell the requests by their price; `class_a` says what those of class A were. None is not known."""
    words = {"class_a": f"class A: {class_a}", **_REQUESTS}
    rows = [(words.get(name, name), formatting.count(count)) for name, count in requests.items()]
    repeated = {
        "objects with wrong bytes that were read again": refetched,
        "interrupted reads that were continued": resumed,
    }
    rows += [(what, formatting.count(count)) for what, count in repeated.items() if count is not None]
    return Table(caption="Requests, of all processes", columns=("", "count"), rows=tuple(rows))


def costs_table(costs: Mapping[str, float], estimated_usd: float) -> Table:
    """Tell the dollars by item."""
    rows = [(item.replace("_", " "), formatting.dollars(usd)) for item, usd in costs.items()]
    rows.append(("in all", formatting.dollars(estimated_usd)))
    return Table(caption="Estimated cost, without network egress", columns=("item", "US dollars"), rows=tuple(rows))


def processes_table(processes: Iterable[tuple[str, float, int]]) -> Table:
    """Tell the role of each process, the seconds of processor time that it used, and its peak memory in bytes."""
    return Table(
        caption="",
        columns=("process", "processor time", "peak memory"),
        rows=tuple((role, formatting.seconds(cpu_s), formatting.size(memory)) for role, cpu_s, memory in processes),
    )


def reasons_table(reasons: Mapping[str, int]) -> tuple[Table, ...]:
    """Tell why objects were read directly; nothing if none were."""
    rows = sorted(reasons.items(), key=lambda each: -each[1])
    if not rows:
        return ()
    return (
        Table(
            caption="Why objects were read directly",
            columns=("reason", "objects"),
            rows=tuple((reason, formatting.count(count)) for reason, count in rows),
        ),
    )


def phases_chart(title: str, phases: Sequence[tuple[str, float, float]], seconds: float, *, work: str) -> Phases:
    """Draw the phases of a run by name, begin and end; the one named `work` stands out."""
    told = ", ".join(f"{name} {formatting.seconds(end - start)}" for name, start, end in phases)
    return Phases(
        title=title,
        summary=f"{told}; {formatting.seconds(seconds)} in all.",
        phases=tuple(
            Phase(label=name, start_s=start, end_s=end, colour=0 if name == work else 6) for name, start, end in phases
        ),
        seconds=seconds,
    )


def cost_facts(
    *,
    seconds: float,
    fetched_bytes: int,
    composites: int,
    leftovers: int,
    estimated_usd: float,
    requests: Mapping[str, int],
) -> tuple[Fact, ...]:
    """Tell the wall time with the rate, the composites, and the dollars."""
    billed = requests.get("class_a", 0) + requests.get("class_b", 0)
    rate = fetched_bytes / max(seconds, 1e-9)
    return (
        Fact(label="Wall time", value=formatting.seconds(seconds), note=f"{formatting.size(rate)}/s"),
        Fact(label="Composites", value=formatting.count(composites), note=formatting.plural(leftovers, "leftover")),
        Fact(
            label="Estimated cost",
            value=formatting.dollars(estimated_usd),
            note=f"{formatting.count(billed)} billed requests",
        ),
    )


def methods_chart(methods: Iterable[tuple[str, int]], *, more: str = "") -> Proportions:
    """Draw how many objects were fetched by which method; `more` ends the summary."""
    used = [(method, count) for method, count in methods if count]
    whole = sum(count for _, count in used)
    return Proportions(
        title="How objects were fetched",
        summary=", ".join(f"{formatting.count(count)} {method}" for method, count in used) + "." + more,
        bars=tuple(
            Bar(
                label=method,
                value=count,
                shown=f"{formatting.plural(count, 'object')}, {formatting.percent(count, whole)}",
            )
            for method, count in used
        ),
    )


def objects_per_second(objects: Series, seconds: float, *, title: str = "Objects per second", more: str = "") -> Areas:
    """Draw the rate of objects over the seconds of a run; `more` ends the summary."""
    values = objects.per_second(seconds)
    return Areas(
        title=title,
        summary=f"{formatting.count(objects.total / max(seconds, 1e-9))} objects/s on average, "
        f"{formatting.count(max(values))} at most{more}.",
        layers=(Layer(label="objects/s", colour=0, values=values),),
        width_s=objects.width_s,
        seconds=seconds,
        unit="objects/s",
    )


def stacked_layers(parts: Iterable[tuple[Series, str, int]], seconds: float) -> tuple[float, tuple[Layer, ...]]:
    """Return the layers that hold anything, on the widest of their buckets; each with its label and colour."""
    held = [part for part in parts if part[0].total]
    whole = Series()
    for series, _, _ in held:
        whole.add_all(series)
    layers = []
    for series, label, colour in held:
        same = Series(width_s=whole.width_s)
        same.add_all(series)
        layers.append(Layer(label=label, colour=colour, values=same.per_second(seconds)))
    return whole.width_s, tuple(layers)


def named_objects(what: str, names: Sequence[str], where: str, count: int | None = None) -> list[Block]:
    """Name objects, or the first of them; `count` is how many there are if not all names are given."""
    shown = tuple(formatting.name(name) for name in names[:_NAMES_SHOWN])
    whole = len(names) if count is None else count
    more = whole - len(shown)
    head = f"{what}: {formatting.count(whole)} in {where}" + (f", {more} of them not shown." if more > 0 else ".")
    return [Lines(lines=(head,)), Lines(lines=shown, names=True)]
