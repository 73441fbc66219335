"""The report of a staging: the page that is made of its receipt and of what it remembers.

Guarantees: the page describes the staging whose receipt lies beside it, with the receipt's very figures; it appears
whole, as `report.html` (or `report-00003-of-00016.html` for a shard), and replaces that of an earlier staging. A page
that cannot be written is a warning: the files are there and right.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_dataflux import __version__
from airflow_dataflux.core.report import wording
from airflow_dataflux.core.report.blocks import (
    Areas,
    Bar,
    Block,
    Fact,
    Layer,
    Lines,
    Page,
    Pairs,
    Phase,
    Phases,
    Section,
    Shares,
    Table,
)
from airflow_dataflux.core.report.notice import ReportNotice
from airflow_dataflux.core.report.page import render
from airflow_dataflux.core.report.series import Series
from airflow_dataflux.core.report.sizes import class_table, size_histogram
from airflow_dataflux.core.runtime.usage import Usage
from airflow_dataflux.core.staging.localfile import Branches, DestinationTree
from airflow_dataflux.core.staging.localpath import OWN_DIRECTORY
from airflow_dataflux.core.staging.plan import BatchKind
from airflow_dataflux.core.staging.receipt import Receipt, notice_of, report_name
from airflow_dataflux.core.staging.recording import (
    COMPOSING,
    READING_COMPOSITES,
    READING_DIRECTLY,
    READING_RANGES,
    StagingRecord,
)
from airflow_dataflux.core.staging.survey import Survey

_LOG = logging.getLogger(__name__)

_NAMES_SHOWN = 50

_KINDS = {
    BatchKind.COMPOSITE: "through composites",
    BatchKind.DIRECT: "read directly",
    BatchKind.RANGED: "read in ranges",
    BatchKind.LOCAL: "empty, made here",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """How a staging went, besides its receipt.

    Attributes:
        record: of its batches.
        found: what its survey found.
        phases: name, begin and end of its parts, in seconds since it was asked for.
        processes: what each process used, by its role.
    """

    record: StagingRecord
    found: Survey
    phases: Sequence[tuple[str, float, float]]
    processes: Sequence[tuple[str, Usage]]


def write_report(tree: DestinationTree, receipt: Receipt, course: Course) -> ReportNotice | None:
    """Write the report beside the receipt; None, with a warning, if that was not possible."""
    path = f"{OWN_DIRECTORY}/{report_name(receipt.scope)}"
    try:
        page = render(staging_page(receipt, course))
        with Branches(tree) as branches:
            branches.write(path, page)
    except Exception as error:  # noqa: BLE001 - whatever it is, the files are staged and right
        _LOG.warning("The report of the staging could not be written to %s/%s: %s", receipt.destination, path, error)
        return None
    return notice_of(receipt)


def staging_page(receipt: Receipt, course: Course) -> Page:
    """Compose the page."""
    seconds, found = receipt.seconds, course.found
    return Page(
        kind="Staging",
        title=notice_of(receipt).title,
        subtitle=f"Begun {_moment(receipt.started_at)}, finished {_moment(receipt.finished_at)} on {receipt.hostname}.",
        facts=_facts(receipt),
        sections=(
            Section(title="Course", blocks=(_phases(course, seconds), *_in_flight(course, seconds))),
            Section(title="Throughput", blocks=_throughput(course.record, receipt)),
            Section(title="Ways and reasons", blocks=_ways(receipt)),
            Section(
                title="Objects to fetch",
                blocks=(
                    *size_histogram(dict(enumerate(found.sizes.counts)), title="Sizes", about="to fetch"),
                    *class_table({}, {name: size for name, size in found.bytes_by_class.items() if size}),
                ),
            ),
            Section(title="Preflight", blocks=(Lines(lines=receipt.preflight),) if receipt.preflight else ()),
            Section(title="Requests and cost", blocks=(_requests(receipt), _costs(receipt))),
            Section(title="Processes", blocks=(_processes(course),)),
            Section(title="Left behind and left out", blocks=_left(receipt)),
            Section(title="What was asked for", blocks=(_asked(receipt),)),
        ),
        footer=f"airflow-provider-dataflux {__version__} · fingerprint {receipt.fingerprint} · {receipt.destination}",
    )


def _moment(iso: str) -> str:
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _facts(receipt: Receipt) -> tuple[Fact, ...]:
    rate = receipt.downloaded_bytes / max(receipt.seconds, 1e-9)
    billed = receipt.requests.get("class_a", 0) + receipt.requests.get("class_b", 0)
    return (
        Fact(label="Objects", value=wording.count(receipt.object_count), note=wording.size(receipt.total_bytes)),
        Fact(label="Fetched", value=wording.count(receipt.downloaded), note=wording.size(receipt.downloaded_bytes)),
        Fact(
            label="Reused",
            value=wording.count(receipt.reused),
            note=f"{wording.count(receipt.skipped)} skipped, {wording.count(receipt.deleted)} removed",
        ),
        Fact(label="Wall time", value=wording.seconds(receipt.seconds), note=f"{wording.size(rate)}/s"),
        Fact(
            label="Composites",
            value=wording.count(receipt.composites),
            note=f"{wording.plural(len(receipt.leftovers), 'leftover')}",
        ),
        Fact(
            label="Estimated cost",
            value=wording.dollars(receipt.estimated_usd),
            note=f"{wording.count(billed)} billed requests",
        ),
    )


def _phases(course: Course, seconds: float) -> Phases:
    told = ", ".join(f"{name} {wording.seconds(end - start)}" for name, start, end in course.phases)
    return Phases(
        title="Parts of the staging",
        summary=f"{told}; {wording.seconds(seconds)} in all.",
        phases=tuple(
            Phase(label=name, start_s=start, end_s=end, colour=6 if name != "transfer" else 0)
            for name, start, end in course.phases
        ),
        seconds=seconds,
    )


def _in_flight(course: Course, seconds: float) -> tuple[Block, ...]:
    record = course.record
    if not record.batches:
        return ()
    labels = {
        COMPOSING: ("waiting for a compose", 2),
        READING_COMPOSITES: ("reading composites", 0),
        READING_DIRECTLY: ("reading directly", 1),
        READING_RANGES: ("reading ranges of large objects", 3),
    }
    width_s, layers = _layers([(record.busy[busy], *labels[busy]) for busy in labels], seconds)
    most = max((sum(values) for values in zip(*(layer.values for layer in layers), strict=True)), default=0.0)
    average = sum(series.total for series in record.busy) / max(seconds, 1e-9)
    return (
        Areas(
            title="Batches in flight, by what they are busy with",
            summary=f"{wording.plural(record.batches, 'batch', 'batches')}; {most:.0f} in flight at most, "
            f"{average:.0f} on average over the whole staging.",
            layers=layers,
            width_s=width_s,
            seconds=seconds,
            unit="batches",
        ),
    )


def _layers(parts: Sequence[tuple[Series, str, int]], seconds: float) -> tuple[float, tuple[Layer, ...]]:
    """Return the layers that hold anything, on the widest of their buckets."""
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


def _throughput(record: StagingRecord, receipt: Receipt) -> tuple[Block, ...]:
    if not record.batches:
        return ()
    seconds = receipt.seconds
    colours = {BatchKind.COMPOSITE: 0, BatchKind.DIRECT: 1, BatchKind.RANGED: 3, BatchKind.LOCAL: 6}
    parts = [(record.bytes_by_kind[kind], _KINDS[kind], colours[kind]) for kind in BatchKind]
    width_s, layers = _layers(parts, seconds)
    objects = record.objects.per_second(seconds)
    return (
        Areas(
            title="Bytes verified and written per second",
            summary=f"{wording.size(receipt.downloaded_bytes / max(seconds, 1e-9))}/s on average over "
            f"{wording.seconds(seconds)}; a batch counts evenly over the time that it took.",
            layers=layers,
            width_s=width_s,
            seconds=seconds,
            unit="bytes/s",
        ),
        Areas(
            title="Objects per second",
            summary=f"{wording.count(record.objects.total / max(seconds, 1e-9))} objects/s on average, "
            f"{wording.count(max(objects))} at most.",
            layers=(Layer(label="objects/s", colour=0, values=objects),),
            width_s=record.objects.width_s,
            seconds=seconds,
            unit="objects/s",
        ),
    )


def _ways(receipt: Receipt) -> tuple[Block, ...]:
    labels = {kind.value: label for kind, label in _KINDS.items()}
    fetched = sorted(receipt.batches.items(), key=lambda each: -each[1])
    whole = sum(receipt.batches.values())
    told = ", ".join(f"{wording.count(count)} {labels[kind]}" for kind, count in fetched if count)
    blocks: list[Block] = []
    if whole:
        blocks.append(
            Shares(
                title="How objects were fetched",
                summary=f"{told}. Strategy: {receipt.strategy}.",
                bars=tuple(
                    Bar(
                        label=labels[kind],
                        value=count,
                        shown=f"{wording.plural(count, 'object')}, {wording.percent(count, whole)}",
                    )
                    for kind, count in fetched
                    if count
                ),
            )
        )
    if receipt.reasons:
        rows = sorted(receipt.reasons.items(), key=lambda each: -each[1])
        blocks.append(
            Table(
                caption="Why objects were read directly",
                columns=("reason", "objects"),
                rows=tuple((reason, wording.count(count)) for reason, count in rows),
            )
        )
    return tuple(blocks)


def _requests(receipt: Receipt) -> Table:
    words = {
        "class_a": "class A: composes and lists",
        "class_b": "class B: reads and looks at metadata",
        "free": "free: deletes",
        "retries": "retried",
        "throttled": "answered with 429 or 503",
    }
    rows = [(words.get(name, name), wording.count(count)) for name, count in receipt.requests.items()]
    rows += [
        ("objects that arrived wrong and were read again", wording.count(receipt.refetched)),
        ("bodies that broke and were read on", wording.count(receipt.resumed)),
    ]
    return Table(caption="Requests, of all processes", columns=("", "count"), rows=tuple(rows))


def _costs(receipt: Receipt) -> Table:
    rows = [(item.replace("_", " "), wording.dollars(usd)) for item, usd in receipt.costs.items()]
    rows.append(("in all", wording.dollars(receipt.estimated_usd)))
    return Table(caption="Estimated cost, without network egress", columns=("item", "US dollars"), rows=tuple(rows))


def _processes(course: Course) -> Table:
    return Table(
        caption="",
        columns=("process", "processor time", "peak memory"),
        rows=tuple(
            (role, wording.seconds(usage.cpu_s), wording.size(usage.peak_rss_bytes)) for role, usage in course.processes
        ),
    )


def _left(receipt: Receipt) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if receipt.leftovers:
        blocks += _named("Composites that could not be deleted; sweep them", receipt.leftovers, receipt.bucket)
    if receipt.changed:
        blocks += _named("Objects that had changed since they were listed", receipt.changed, receipt.bucket)
    if not blocks:
        blocks.append(Lines(lines=("No composite is left in the bucket, and no object was left out.",)))
    return tuple(blocks)


def _named(what: str, names: Sequence[str], bucket: str) -> list[Block]:
    more = len(names) - _NAMES_SHOWN
    shown = tuple(wording.name(name) for name in names[:_NAMES_SHOWN])
    head = f"{what}: {wording.count(len(names))} in gs://{bucket}" + (
        f", {more} of them not shown." if more > 0 else "."
    )
    return [Lines(lines=(head,)), Lines(lines=shown, names=True)]


def _asked(receipt: Receipt) -> Pairs:
    rows = [("bucket", receipt.bucket), ("destination", receipt.destination), ("strategy", receipt.strategy)]
    if receipt.strip_prefix:
        rows.append(("strip prefix", receipt.strip_prefix))
    if receipt.scope:
        rows.append(("shard", receipt.scope))
    return Pairs(rows=tuple(rows))
