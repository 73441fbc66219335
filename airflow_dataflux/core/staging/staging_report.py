"""The report of a staging: the page that is made of its receipt and of what its recorder holds.

Guarantees: the page has the very figures of its staging's receipt; it appears whole, below `.dataflux/reports/`, where
the reports of earlier stagings are, too. A page that cannot be written is a warning: the files are there and right.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime

import msgspec

from airflow_dataflux._version import __version__
from airflow_dataflux.core.report import formatting
from airflow_dataflux.core.report.charts import Areas, Phases
from airflow_dataflux.core.report.object_statistics import class_table, size_histogram
from airflow_dataflux.core.report.page import Block, Fact, Lines, Pairs, ReportPage, Section, render
from airflow_dataflux.core.report.report_info import REPORTS, ReportInfo, new_report_name, surplus_reports
from airflow_dataflux.core.report.run_blocks import (
    cost_facts,
    costs_table,
    methods_chart,
    named_objects,
    objects_per_second,
    phases_chart,
    processes_table,
    reasons_table,
    requests_table,
    shown_moment,
    stacked_layers,
)
from airflow_dataflux.core.runtime.usage import usage_by_role
from airflow_dataflux.core.staging.batching import BatchKind
from airflow_dataflux.core.staging.destination_scan import ScanResult
from airflow_dataflux.core.staging.localfile import DestinationTree, OpenDirectory
from airflow_dataflux.core.staging.receipt import Receipt
from airflow_dataflux.core.staging.recorder import (
    COMPOSING,
    READING_COMPOSITES,
    READING_DIRECTLY,
    READING_RANGES,
    StagingRecorder,
)

_LOG = logging.getLogger(__name__)

_KINDS = {
    BatchKind.COMPOSITE: "through composites",
    BatchKind.DIRECT: "read directly",
    BatchKind.RANGED: "read in ranges",
    BatchKind.DECOMPRESSED: "read directly and decompressed",
}


class StagingHistory(msgspec.Struct, frozen=True, kw_only=True):
    """How a staging went, besides its receipt.

    Attributes:
        recorder: of the staging.
        found: what its scan found; None where one look showed that nothing was to be done.
    """

    recorder: StagingRecorder
    found: ScanResult | None


def write_report(tree: DestinationTree, receipt: Receipt, history: StagingHistory, run: str) -> ReportInfo | None:
    """Write the report of a staging; None, with a warning, if that was not possible.

    Args:
        tree: of the destination.
        receipt: of the staging; it need not be the one that lies there.
        history: how the staging went.
        run: what others call the run, for the name of the report.
    """
    finished_at = datetime.fromisoformat(receipt.finished_at)
    name = f"{REPORTS}/{new_report_name(finished_at, run, receipt.scope)}"
    try:
        tree.write_own(name, render(staging_page(receipt, history)))
        with OpenDirectory(tree.own_fd) as directory:
            reports_fd = directory.enter(REPORTS)
            for surplus in surplus_reports(os.listdir(reports_fd), receipt.scope):
                os.unlink(surplus, dir_fd=reports_fd)
    except Exception as error:  # noqa: BLE001 - whatever it is, the files are staged and right
        _LOG.warning("The report of the staging could not be written to %s/%s: %s", receipt.directory, name, error)
        return None
    return ReportInfo(
        kind="staging",
        uri=f"file://{os.path.join(receipt.directory, name)}",
        title=_title(receipt),
        object_count=receipt.object_count,
        total_bytes=receipt.total_bytes,
        seconds=receipt.seconds,
        finished_at=receipt.finished_at,
    )


def _title(receipt: Receipt) -> str:
    shard = f", shard {_shard(receipt)}" if receipt.scope else ""
    return f"gs://{receipt.bucket} to {receipt.destination}{shard}"


def _shard(receipt: Receipt) -> str:
    """Return which shard it was as the labels of mapped tasks say it, from 1."""
    index, _, count = receipt.scope.partition("-of-")
    return f"{int(index) + 1} of {int(count)}"


def staging_page(receipt: Receipt, history: StagingHistory) -> ReportPage:
    """Compose the page."""
    seconds, recorder = receipt.seconds, history.recorder
    return ReportPage(
        kind="Staging",
        title=_title(receipt),
        subtitle=f"Started {shown_moment(receipt.started_at)}, ended {shown_moment(receipt.finished_at)} "
        f"on {receipt.hostname}.",
        facts=_facts(receipt),
        sections=(
            Section(title="Course", blocks=(_phases(history, seconds), *_in_flight(history, seconds))),
            Section(title="Throughput", blocks=_throughput(history.recorder, receipt)),
            Section(title="How objects were fetched, and why", blocks=_how_fetched(receipt)),
            Section(title="Objects to fetch", blocks=_to_fetch(history.found)),
            Section(title="Preflight", blocks=(Lines(lines=receipt.preflight),) if receipt.preflight else ()),
            Section(
                title="Requests and cost",
                blocks=(
                    requests_table(
                        receipt.requests,
                        class_a="composes and lists",
                        refetched=receipt.refetched,
                        resumed=receipt.resumed,
                    ),
                    costs_table(receipt.costs, receipt.estimated_usd),
                ),
            ),
            Section(
                title="Processes", blocks=(processes_table(usage_by_role(recorder.own_usage(), recorder.processes)),)
            ),
            Section(title="Leftovers and skipped objects", blocks=_left(receipt)),
            Section(title="Request", blocks=(_asked(receipt),)),
        ),
        footer=f"airflow-provider-dataflux {__version__} · fingerprint {receipt.fingerprint} · {receipt.destination}",
    )


def _to_fetch(found: ScanResult | None) -> tuple[Block, ...]:
    if found is None:
        return (Lines(lines=("All files were already right, so nothing was fetched.",)),)
    return (
        *size_histogram(dict(enumerate(found.sizes.counts)), title="Sizes", about="to fetch"),
        *class_table({}, {name: size for name, size in found.bytes_by_class.items() if size}),
    )


def _facts(receipt: Receipt) -> tuple[Fact, ...]:
    return (
        Fact(label="Objects", value=formatting.count(receipt.object_count), note=formatting.size(receipt.total_bytes)),
        Fact(
            label="Fetched", value=formatting.count(receipt.downloaded), note=formatting.size(receipt.downloaded_bytes)
        ),
        Fact(
            label="Reused",
            value=formatting.count(receipt.reused),
            note=f"{formatting.count(receipt.linked)} linked, {formatting.count(receipt.skipped)} skipped, "
            f"{formatting.count(receipt.deleted)} removed",
        ),
        *cost_facts(
            seconds=receipt.seconds,
            fetched_bytes=receipt.downloaded_bytes,
            composites=receipt.composites,
            leftovers=len(receipt.leftovers),
            estimated_usd=receipt.estimated_usd,
            requests=receipt.requests,
        ),
    )


def _shown_phases(history: StagingHistory, seconds: float) -> list[tuple[str, float, float]]:
    phases = list(history.recorder.phases)
    if history.found is not None:
        # Publishing is not over yet, but all of it that takes long is.
        phases.append(("publish", phases[-1][2], seconds))
    return phases


def _phases(history: StagingHistory, seconds: float) -> Phases:
    return phases_chart("Phases of the staging", _shown_phases(history, seconds), seconds, work="transfer")


def _in_flight(history: StagingHistory, seconds: float) -> tuple[Block, ...]:
    record = history.recorder
    if not record.batches:
        return ()
    labels = {
        COMPOSING: ("waiting for a compose", 2),
        READING_COMPOSITES: ("reading composites", 0),
        READING_DIRECTLY: ("reading directly", 1),
        READING_RANGES: ("reading ranges of large objects", 3),
    }
    width_s, layers = stacked_layers([(record.busy[busy], *labels[busy]) for busy in labels], seconds)
    most = max((sum(values) for values in zip(*(layer.values for layer in layers), strict=True)), default=0.0)
    average = sum(series.total for series in record.busy) / max(seconds, 1e-9)
    return (
        Areas(
            title="Batches in flight, by step",
            summary=f"{formatting.plural(record.batches, 'batch', 'batches')}; {most:.0f} in flight at most, "
            f"{average:.0f} on average over the whole staging.",
            layers=layers,
            width_s=width_s,
            seconds=seconds,
            unit="batches",
        ),
    )


def _throughput(record: StagingRecorder, receipt: Receipt) -> tuple[Block, ...]:
    if not record.batches:
        return ()
    seconds = receipt.seconds
    colours = {BatchKind.COMPOSITE: 0, BatchKind.DIRECT: 1, BatchKind.RANGED: 3, BatchKind.DECOMPRESSED: 6}
    parts = [(record.bytes_by_kind[kind], _KINDS[kind], colours[kind]) for kind in BatchKind]
    width_s, layers = stacked_layers(parts, seconds)
    return (
        Areas(
            title="Bytes verified and written per second",
            summary=f"{formatting.size(receipt.downloaded_bytes / max(seconds, 1e-9))}/s on average over "
            f"{formatting.seconds(seconds)}; a batch counts evenly over the time that it took.",
            layers=layers,
            width_s=width_s,
            seconds=seconds,
            unit="bytes/s",
        ),
        objects_per_second(record.objects, seconds),
    )


def _how_fetched(receipt: Receipt) -> tuple[Block, ...]:
    labels = {kind.value: label for kind, label in _KINDS.items()}
    fetched = sorted(receipt.batches.items(), key=lambda each: -each[1])
    ways = [(labels[kind], count) for kind, count in fetched]
    chart = (methods_chart(ways, more=f" Strategy: {receipt.strategy}."),) if any(receipt.batches.values()) else ()
    return (*chart, *reasons_table(receipt.reasons))


def _left(receipt: Receipt) -> tuple[Block, ...]:
    blocks: list[Block] = []
    bucket = f"gs://{receipt.bucket}"
    if receipt.leftovers:
        blocks += named_objects("Composites that could not be deleted; sweep them", receipt.leftovers, bucket)
    if receipt.changed:
        blocks += named_objects("Objects that had changed since they were listed", receipt.changed, bucket)
    if receipt.unreadable:
        names = tuple(f"{name} ({reason})" for name, reason in receipt.unreadable.items())
        blocks += named_objects("Objects that could not be read", names, bucket)
    if not blocks:
        blocks.append(Lines(lines=("No composite is left in the bucket, and no object was left out.",)))
    return tuple(blocks)


def _asked(receipt: Receipt) -> Pairs:
    rows = [("bucket", receipt.bucket), ("destination", receipt.destination), ("strategy", receipt.strategy)]
    if receipt.strip_prefix:
        rows.append(("strip prefix", receipt.strip_prefix))
    if receipt.scope:
        rows.append(("shard", _shard(receipt)))
    return Pairs(rows=tuple(rows))
