"""The report of a listing: what it remembers besides its jobs, and the page that is made of it.

Guarantees: the page describes the manifest that was just published, with the very figures of its `stats`; it appears
whole, below `reports/` beside `manifest.json`, where the reports of earlier listings are, too. A page that cannot be
written is a warning: the manifest is there and right.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_dataflux._version import __version__
from airflow_dataflux.core.listing.listing_record import JobRecord, ListingRecord
from airflow_dataflux.core.manifest import Manifest, ManifestFiles
from airflow_dataflux.core.manifest.location import join_uri
from airflow_dataflux.core.report import formatting
from airflow_dataflux.core.report.activity import Series, Span, SpanKind
from airflow_dataflux.core.report.object_statistics import class_table, size_histogram
from airflow_dataflux.core.report.page import Block, Fact, Pairs, ReportPage, Section, Table, render
from airflow_dataflux.core.report.report_info import REPORTS, ReportInfo, new_report_name, surplus_reports
from airflow_dataflux.core.report.run_blocks import objects_per_second
from airflow_dataflux.core.report.timeline import Group, NameMap, Timeline

_LOG = logging.getLogger(__name__)

_PAGE_USD = 0.005 / 1000
"""A list request is one of class A, in the United States multi-region (https://cloud.google.com/storage/pricing)."""


def write_report(files: ManifestFiles, manifest: Manifest, record: ListingRecord) -> ReportInfo | None:
    """Write the report of a published manifest; None, with a warning, if that was not possible."""
    directory = manifest.uri
    if directory is None:
        return None
    finished_at = datetime.now(UTC)
    reports = join_uri(directory, REPORTS)
    uri = join_uri(reports, new_report_name(finished_at))
    try:
        files.write(uri, render(listing_page(manifest, record, finished_at)))
    except Exception as error:  # noqa: BLE001 - whatever it is, the listing is finished and its manifest is right
        _LOG.warning("The report of the listing could not be written to %s: %s", uri, error)
        return None
    try:
        files.remove_left(reports)
        for name in surplus_reports(files.names(reports)):
            files.delete(join_uri(reports, name))
    except Exception as error:  # noqa: BLE001 - there is one more than there should be, and the next run tries again
        _LOG.warning("Old reports in %s could not be deleted: %s", reports, error)
    return ReportInfo(
        kind="listing",
        uri=uri,
        title=_title(manifest),
        object_count=len(manifest),
        total_bytes=manifest.total_bytes,
        seconds=manifest.stats["wall_s"],
        finished_at=finished_at.isoformat(),
    )


def listing_page(manifest: Manifest, record: ListingRecord, finished_at: datetime) -> ReportPage:
    """Compose the page."""
    stats, object_statistics = manifest.stats, record.object_statistics()
    return ReportPage(
        kind="Listing",
        title=_title(manifest),
        subtitle=f"Started {_moment(manifest.listed_at)}, ended {_moment(finished_at)}.",
        facts=_facts(manifest, stats),
        sections=(
            Section(
                title="Streams",
                lead="A stream lists one name range, page by page. One that has nothing to do takes a part of what "
                "another has still before it: a steal.",
                blocks=_streams(record, stats["wall_s"]),
            ),
            Section(title="Throughput", blocks=_throughput(record, stats["wall_s"])),
            Section(
                title="Objects",
                blocks=(
                    *size_histogram(object_statistics.sizes, title="Sizes", about="in the manifest"),
                    *class_table(object_statistics.classes, object_statistics.bytes_by_class),
                    *_dropped(stats),
                ),
            ),
            Section(title="Requests and processes", blocks=(_requests(manifest, stats), _processes(stats))),
            Section(title="Request", blocks=(_asked(manifest),)),
        ),
        footer=f"airflow-provider-dataflux {__version__} · fingerprint {manifest.fingerprint} · {manifest.uri}",
    )


def _title(manifest: Manifest) -> str:
    shown = [f"gs://{manifest.bucket}/{prefix}" for prefix in manifest.prefixes[:3]]
    more = len(manifest.prefixes) - len(shown)
    return ", ".join(shown) + (f" and {more} more prefixes" if more > 0 else "")


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _facts(manifest: Manifest, stats: Mapping[str, Any]) -> tuple[Fact, ...]:
    wall_s, requests = stats["wall_s"], stats["requests"]
    return (
        Fact(label="Objects", value=formatting.count(len(manifest)), note=_left_out(manifest, stats)),
        Fact(label="Bytes", value=formatting.size(manifest.total_bytes), note=f"{manifest.total_bytes:,} bytes"),
        Fact(
            label="Wall time",
            value=formatting.seconds(wall_s),
            note=f"{formatting.count(stats['listed'] / max(wall_s, 1e-9))} objects/s",
        ),
        Fact(
            label="List requests",
            value=formatting.count(requests),
            note=f"about {formatting.dollars(requests * _PAGE_USD)}",
        ),
        Fact(
            label="Steals",
            value=formatting.count(stats["steals"]),
            note=f"{formatting.plural(stats['wasted_requests'], 'request')} without objects",
        ),
        Fact(
            label="Processor time",
            value=formatting.seconds(stats["cpu_s"]),
            note=f"at most {formatting.size(stats['peak_rss_bytes'])} of memory",
        ),
    )


def _left_out(manifest: Manifest, stats: Mapping[str, Any]) -> str:
    dropped = stats["listed"] - len(manifest)
    return f"of {formatting.count(stats['listed'])} listed" if dropped else "all listed objects"


def _streams(record: ListingRecord, seconds: float) -> tuple[Block, ...]:
    groups = _groups(record)
    spans = tuple(span for group in groups for span in group.spans)
    listed = [span for span in spans if span.kind in (SpanKind.LISTED, SpanKind.HANDED_OVER)]
    ranges = sum(span.count for span in listed)
    probes = sum(span.count for span in spans if span.kind is SpanKind.PROBE)
    steals = sum(job.log.mark_count for job in record.jobs)
    lost = sum(len(job.lost) for job in record.jobs)
    streams = sum(group.lanes for group in groups)
    summary = (
        f"{formatting.plural(ranges, 'name range')} in {formatting.plural(streams, 'stream')}, "
        f"{_most_at_once(spans)} at once at most; {formatting.plural(probes, 'probe')}; ranges were divided "
        f"{formatting.plural(steals, 'time')}. {_how(record)}"
    )
    if lost:
        died = formatting.plural(lost, "worker process", "worker processes")
        summary += f" {died} died; what they had not reported was listed again."
    if len(listed) != ranges:
        summary += " Bars that are close together are drawn as one."
    return (
        Timeline(title="Names that each stream listed, over time", summary=summary, groups=groups, seconds=seconds),
        NameMap(
            title="Names that were covered, over time",
            summary="All names from the first, at the top, to the last; each box is one range, and its line shows "
            f"its progress. {formatting.plural(sum(span.objects for span in listed), 'object')} in all.",
            spans=tuple(listed),
            seconds=seconds,
        ),
    )


def _groups(record: ListingRecord) -> tuple[Group, ...]:
    groups = []
    if record.first is not None:
        groups.append(Group(label="first page", lanes=1, spans=(record.first,)))
    for job in record.jobs:
        groups += [_group(job, worker) for worker in sorted(job.log.lanes)]
    return tuple(groups)


def _group(job: JobRecord, worker: int) -> Group:
    return Group(
        label=f"worker {worker}" if job.isolated else "threads",
        lanes=job.log.lanes[worker],
        spans=tuple(span for span in job.log.spans if span.worker == worker),
        marks=tuple(mark for mark in job.log.marks if mark.worker == worker),
        lost_s=tuple(at_s for lost, at_s in job.lost if lost == worker),
    )


def _how(record: ListingRecord) -> str:
    if not record.jobs:
        return "One page held everything, so nothing was started."
    first = record.jobs[0]
    if first.isolated:
        return "After the first page, worker processes listed the rest."
    if len(record.jobs) == 1:
        return "Threads of the task's own process listed it all."
    return (
        f"Threads of the task's own process began; at {formatting.seconds(first.end_s)} they handed over what was "
        "left, because that was much, to worker processes."
    )


def _most_at_once(spans: tuple[Span, ...]) -> int:
    # An end comes before a beginning at the same moment: the stream was free by then.
    turns = sorted([(span.start_s, 1) for span in spans] + [(span.end_s, -1) for span in spans])
    now = most = 0
    for _, turn in turns:
        now += turn
        most = max(most, now)
    return most


def _throughput(record: ListingRecord, seconds: float) -> tuple[Block, ...]:
    objects = Series()
    if record.first is not None:
        objects.add(record.first.end_s, record.first.objects)
    for job in record.jobs:
        objects.add_all(job.objects)
    stretches = f", in stretches of {formatting.seconds(objects.width_s)}"
    return (objects_per_second(objects, seconds, title="Objects listed per second", more=stretches),)


def _dropped(stats: Mapping[str, Any]) -> tuple[Block, ...]:
    rows = tuple((name, formatting.count(count)) for name, count in sorted(stats["dropped"].items()) if count)
    return (Table(caption="Left out by filters", columns=("filter", "objects"), rows=rows),) if rows else ()


def _requests(manifest: Manifest, stats: Mapping[str, Any]) -> Table:
    rows = (
        ("list requests (class A)", formatting.count(stats["requests"])),
        ("of these without objects: probes and empty ranges", formatting.count(stats["wasted_requests"])),
        ("retried", formatting.count(stats["retries"])),
        ("answered with 429 or 503", formatting.count(stats["throttled"])),
        ("worker processes lost", formatting.count(stats["lost_workers"])),
        ("parts written", formatting.count(len(manifest.index.parts))),
        ("bytes of the parts", formatting.size(sum(part.file_bytes for part in manifest.index.parts))),
    )
    return Table(caption="Requests", columns=("", "count"), rows=rows)


def _processes(stats: Mapping[str, Any]) -> Table:
    return Table(
        caption="Processes",
        columns=("process", "processor time", "peak memory"),
        rows=tuple(
            (each["role"], formatting.seconds(each["cpu_s"]), formatting.size(each["peak_rss_bytes"]))
            for each in stats["processes"]
        ),
    )


def _asked(manifest: Manifest) -> Pairs:
    asked = dict(manifest.request)
    filters = asked.pop("filters", None) or {}
    for name in ("report", "identity"):
        asked.pop(name, None)
    rows = [(name.replace("_", " "), _value(value)) for name, value in asked.items() if value not in (None, "")]
    given = {name: value for name, value in filters.items() if _is_given(value)}
    rows += [(f"filter: {name.replace('_', ' ')}", _value(value)) for name, value in given.items()]
    return Pairs(rows=tuple(rows))


def _is_given(value: object) -> bool:
    """Return whether a filter was given. A bound of 0 bytes is one."""
    return value is not False and value not in (None, "", [], ())


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        shown = ", ".join(repr(one) for one in value[:20])
        return shown + (f" and {len(value) - 20} more" if len(value) > 20 else "")
    return str(value)
