"""The report of a pack: the page that is made of its result and of what its recorder holds.

The report of a joined pack is made of its result and of those of its parts, each of which has a report of its own.

Guarantees: the page has the very figures that the pack returns; it appears whole, below `reports/` beside the index,
where the reports of earlier packs are, too. A page that cannot be written is a warning: the shards are there and right.
A listing leaves the pages out, as it does a manifest's files: they are no data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from airflow_dataflux._version import __version__
from airflow_dataflux.core.config import PackRequest
from airflow_dataflux.core.packing.finishing import PackResult
from airflow_dataflux.core.packing.pack_index import REPORT_NAME
from airflow_dataflux.core.packing.pack_output import PackOutput
from airflow_dataflux.core.packing.recorder import PackRecorder
from airflow_dataflux.core.report import formatting
from airflow_dataflux.core.report.charts import Areas, Layer
from airflow_dataflux.core.report.object_statistics import class_table, size_histogram
from airflow_dataflux.core.report.page import Block, Fact, Lines, Pairs, ReportPage, Section, Table, render
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
)
from airflow_dataflux.core.runtime.usage import usage_by_role

_LOG = logging.getLogger(__name__)


class PackHistory(msgspec.Struct, frozen=True, kw_only=True):
    """How a pack went, besides its result.

    Attributes:
        recorder: of the pack.
        request: what was asked for.
        sizes: objects of the manifest by the number of binary digits of their size.
        bytes_by_class: their bytes by storage class.
    """

    recorder: PackRecorder
    request: PackRequest
    sizes: dict[int, int]
    bytes_by_class: dict[str, int]


def write_report(output: PackOutput, result: PackResult, history: PackHistory) -> ReportInfo | None:
    """Write the report of a pack; None, with a warning, if that was not possible."""
    return _write(output, result, lambda moment: pack_page(result, history, moment), history.request.identity.run)


def write_join_report(
    output: PackOutput, result: PackResult, parts: Sequence[PackResult], run: str
) -> ReportInfo | None:
    """Write the report of a joined pack; None, with a warning, if that was not possible.

    Args:
        output: of the pack.
        result: of all parts and their join.
        parts: what was joined.
        run: what others call the run, for the name of the report.
    """
    return _write(output, result, lambda moment: joined_page(result, parts, moment), run)


def _write(
    output: PackOutput, result: PackResult, page: Callable[[datetime], ReportPage], run: str
) -> ReportInfo | None:
    finished_at = datetime.now(UTC)
    scope = _scope(result)
    name = f"{REPORTS}/{new_report_name(finished_at, run, scope)}"
    try:
        output.write_own(name, render(page(finished_at)))
    except Exception as error:  # noqa: BLE001 - whatever it is, the shards are there and right
        _LOG.warning("The report of the pack could not be written to %s: %s", output.uri_of(name), error)
        return None
    try:
        for surplus in surplus_reports(output.names(REPORTS), scope):
            output.delete(f"{REPORTS}/{surplus}")
    except Exception as error:  # noqa: BLE001 - there is one more than there should be, and the next run tries again
        _LOG.warning("Old reports at %s could not be deleted: %s", output.uri_of(REPORTS), error)
    return ReportInfo(
        kind="packing",
        uri=output.uri_of(name),
        title=_title(result),
        object_count=result.object_count,
        total_bytes=result.total_bytes,
        seconds=result.seconds,
        finished_at=finished_at.isoformat(),
    )


def _scope(result: PackResult) -> str:
    return "" if result.part is None else f"{result.part[0]:05}-of-{result.part[1]:05}"


def _title(result: PackResult) -> str:
    part = "" if result.part is None else f", part {result.part[0] + 1} of {result.part[1]}"
    source = "" if result.source is None else f"{result.source.shown()} to "
    return f"{source}{result.output}{part}"


def pack_page(result: PackResult, history: PackHistory, finished_at: datetime) -> ReportPage:
    """Compose the page."""
    recorder = history.recorder
    began_at = finished_at - timedelta(seconds=result.seconds)
    return ReportPage(
        kind="Packing",
        title=_title(result),
        subtitle=f"Started {shown_moment(began_at.isoformat())}, ended {shown_moment(finished_at.isoformat())} "
        f"on {result.hostname}.",
        facts=_facts(result),
        sections=(
            Section(title="Course", blocks=_course(recorder, result.seconds)),
            Section(title="Throughput", blocks=_throughput(recorder, result)),
            Section(title="How objects were fetched, and why", blocks=_how_fetched(result, recorder)),
            Section(
                title="Objects of the manifest",
                blocks=(
                    *size_histogram(history.sizes, title="Sizes", about="of the manifest"),
                    *class_table({}, {name: size for name, size in history.bytes_by_class.items() if size}),
                ),
            ),
            Section(title="Findings and decisions", blocks=(Lines(lines=result.notes),) if result.notes else ()),
            Section(
                title="Requests and cost",
                blocks=(
                    requests_table(
                        result.requests,
                        class_a="composes, uploads and lists",
                        refetched=recorder.refetched,
                        resumed=recorder.resumed,
                    ),
                    costs_table(result.costs, result.estimated_usd),
                ),
            ),
            Section(
                title="Processes", blocks=(processes_table(usage_by_role(recorder.own_usage(), recorder.processes)),)
            ),
            Section(
                title="Leftovers and skipped objects",
                blocks=_left(result, recorder.skipped, recorder.skipped_names),
            ),
            Section(title="Request", blocks=(_asked(history.request, result),)),
        ),
        footer=_footer(result),
    )


def joined_page(result: PackResult, parts: Sequence[PackResult], finished_at: datetime) -> ReportPage:
    """Compose the page of a joined pack."""
    return ReportPage(
        kind="Packing",
        title=_title(result),
        subtitle=f"Joined of {formatting.plural(len(parts), 'part')}, ended {shown_moment(finished_at.isoformat())}.",
        facts=_facts(result),
        sections=(
            Section(title="Parts", blocks=(_parts_table(parts),)),
            Section(
                title="Requests and cost",
                blocks=(
                    requests_table(result.requests, class_a="composes, uploads and lists"),
                    costs_table(result.costs, result.estimated_usd),
                ),
            ),
            Section(title="Leftovers and skipped objects", blocks=_left(result, result.skipped, ())),
            Section(title="Files", blocks=(_files(result),)),
        ),
        footer=_footer(result),
    )


def _footer(result: PackResult) -> str:
    return f"airflow-provider-dataflux {__version__} · fingerprint {result.fingerprint} · {result.output}"


def _parts_table(parts: Sequence[PackResult]) -> Table:
    numbered = sorted(parts, key=lambda part: part.part or (0, 0))
    return Table(
        caption="The wall time of the pack is that of the part that took longest",
        columns=("part", "machine", "wall time", "shards written", "reused", "objects written", "bytes", "US dollars"),
        rows=tuple(
            (
                formatting.count(number),
                part.hostname,
                formatting.seconds(part.seconds),
                formatting.count(part.packed_shards),
                formatting.count(part.reused_shards),
                formatting.count(part.packed_objects),
                formatting.size(part.packed_bytes),
                formatting.dollars(part.estimated_usd),
            )
            for number, part in enumerate(numbered, 1)
        ),
        text_columns=frozenset({1}),
    )


def _files(result: PackResult) -> Pairs:
    return Pairs(
        rows=(
            ("index", result.index or ""),
            ("members", f"{result.members}, {formatting.plural(result.object_count, 'row')}"),
            ("shards", f"{result.output}{result.name_template}, {formatting.size(result.pack_bytes)} in all"),
        )
    )


def _facts(result: PackResult) -> tuple[Fact, ...]:
    return (
        Fact(
            label="Samples",
            value=formatting.count(result.sample_count),
            note=f"{formatting.plural(result.object_count, 'object')}, {formatting.size(result.total_bytes)}",
        ),
        Fact(
            label="Shards",
            value=formatting.count(result.shard_count),
            note=f"{formatting.size(result.pack_bytes)} in the whole pack",
        ),
        Fact(
            label="Written",
            value=formatting.plural(result.packed_shards, "shard"),
            note=f"{formatting.plural(result.packed_objects, 'object')}, {formatting.size(result.packed_bytes)}",
        ),
        Fact(
            label="Reused",
            value=formatting.plural(result.reused_shards, "shard"),
            note=f"{formatting.plural(result.reused_objects, 'object')}; "
            f"{formatting.plural(result.skipped, 'object')} skipped",
        ),
        *cost_facts(
            seconds=result.seconds,
            fetched_bytes=result.packed_bytes,
            composites=result.composites,
            leftovers=len(result.leftovers),
            estimated_usd=result.estimated_usd,
            requests=result.requests,
        ),
    )


def _course(recorder: PackRecorder, seconds: float) -> tuple[Block, ...]:
    blocks: list[Block] = [phases_chart("Phases of the pack", recorder.phases, seconds, work="write")]
    if recorder.in_flight.total:
        values = recorder.in_flight.per_second(seconds)
        blocks.append(
            Areas(
                title="Shards in flight",
                summary=f"{formatting.plural(recorder.shards, 'shard')} of this task; at most {max(values):.0f} were "
                "looked for or written at once.",
                layers=(Layer(label="shards", colour=0, values=values),),
                width_s=recorder.in_flight.width_s,
                seconds=seconds,
                unit="shards",
            )
        )
    return tuple(blocks)


def _throughput(recorder: PackRecorder, result: PackResult) -> tuple[Block, ...]:
    if not recorder.objects.total:
        return (Lines(lines=("All shards were already right, so nothing was fetched.",)),)
    seconds = result.seconds
    return (
        Areas(
            title="Bytes verified and written per second",
            summary=f"{formatting.size(recorder.bytes.total / max(seconds, 1e-9))}/s on average over "
            f"{formatting.seconds(seconds)}, as workers told it, about once a second.",
            layers=(Layer(label="bytes/s", colour=0, values=recorder.bytes.per_second(seconds)),),
            width_s=recorder.bytes.width_s,
            seconds=seconds,
            unit="bytes/s",
        ),
        objects_per_second(recorder.objects, seconds),
    )


def _how_fetched(result: PackResult, recorder: PackRecorder) -> tuple[Block, ...]:
    whole = result.packed_objects
    composed = min(whole, recorder.composed_objects)
    kinds = [("through composites", composed), ("read directly or in ranges", whole - composed)]
    if not whole:
        return ()
    return (
        methods_chart(kinds),
        *reasons_table(recorder.reasons),
    )


def _left(result: PackResult, skipped: int, skipped_names: Sequence[str]) -> tuple[Block, ...]:
    blocks: list[Block] = []
    bucket = "the bucket" if result.source is None else f"gs://{result.source.bucket}"
    if result.leftovers:
        blocks += named_objects("Composites that could not be deleted; sweep them", result.leftovers, bucket)
    if skipped:
        what = "Objects that are in no shard, because they or others of their sample had changed"
        blocks += named_objects(what, skipped_names, bucket, skipped)
        if skipped > len(skipped_names):
            blocks.append(Lines(lines=(f"{REPORT_NAME} beside the index names the first thousand.",)))
    if result.other_shards:
        what = "Shards of an earlier pack, which are not part of this one"
        blocks += named_objects(what, result.other_shards, result.output)
    if not blocks:
        blocks.append(Lines(lines=("No composite is left in the bucket, and no object was left out.",)))
    return tuple(blocks)


def _asked(request: PackRequest, result: PackResult) -> Pairs:
    shards = (
        ("shards", str(request.shard_count)) if request.shard_count else ("shard bytes", f"{request.shard_bytes:,}")
    )
    rows = [("output", result.output), shards, ("samples by", request.sample_by), ("strategy", request.strategy)]
    if request.shuffle_seed is not None:
        rows.append(("shuffle seed", str(request.shuffle_seed)))
    rows += [("name template", request.name_template), ("changed objects", request.on_changed_object)]
    return Pairs(rows=tuple(rows))
