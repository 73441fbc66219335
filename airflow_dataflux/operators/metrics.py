"""The metrics of a finished task: every name, and where its figure comes from.

Counters, and one timer for each kind of work. docs/reference/metrics.md describes each name; a test holds that page
to what is emitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_dataflux.compat import count_metric, time_metric

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.packing import PackResult
    from airflow_dataflux.core.staging import Receipt

_LISTING_STATS = ("requests", "wasted_requests", "retries", "throttled", "steals", "lost_workers")


def record_listing(context: Context, reference: Mapping[str, Any]) -> None:
    """Emit the figures of a manifest's reference as `dataflux.listing.*`."""
    stats = reference["stats"]
    counts = {name: stats[name] for name in _LISTING_STATS}
    counts |= {"objects": reference["object_count"], "bytes": reference["total_bytes"]}
    _record(context, "listing", counts, seconds=stats["wall_s"])


def record_staging(context: Context, receipt: Receipt) -> None:
    """Emit the figures of a receipt as `dataflux.staging.*`; none for a dry run, whose figures are no events."""
    if receipt.dry_run:
        return
    counts = {
        "objects": receipt.object_count,
        "bytes": receipt.total_bytes,
        "downloaded": receipt.downloaded,
        "downloaded_bytes": receipt.downloaded_bytes,
        "reused": receipt.reused,
        "skipped": receipt.skipped,
        "deleted": receipt.deleted,
        "composites": receipt.composites,
        "leftovers": len(receipt.leftovers),
        **_requests(receipt.requests),
    }
    _record(context, "staging", counts, seconds=receipt.seconds)


def record_packing(context: Context, result: PackResult) -> None:
    """Emit what a task packed as `dataflux.packing.*`; none for a dry run.

    The figures are those of the task, not of the whole pack, so those of all mapped tasks add up.
    """
    if result.dry_run:
        return
    counts = {
        "packed_shards": result.packed_shards,
        "reused_shards": result.reused_shards,
        "packed_objects": result.packed_objects,
        "packed_bytes": result.packed_bytes,
        "reused_objects": result.reused_objects,
        "skipped": result.skipped,
        "composites": result.composites,
        "leftovers": len(result.leftovers),
        **_requests(result.requests),
    }
    _record(context, "packing", counts, seconds=result.seconds)


def record_join(context: Context, result: PackResult, *, parts: int, seconds: float) -> None:
    """Emit what a joined pack is as `dataflux.joined_pack.*`; names of their own, for its parts told theirs already."""
    counts = {
        "parts": parts,
        "shards": result.shard_count,
        "samples": result.sample_count,
        "objects": result.object_count,
        "bytes": result.total_bytes,
        "shard_bytes": result.pack_bytes,
        "skipped": result.skipped,
        "leftovers": len(result.leftovers),
        **_requests(result.requests),
    }
    _record(context, "joined_pack", counts, seconds=seconds)


def record_sweep(context: Context, *, found: int, deleted: int, failures: int, seconds: float) -> None:
    """Emit what a sweep did as `dataflux.sweep.*`."""
    _record(context, "sweep", {"found": found, "deleted": deleted, "failures": failures}, seconds=seconds)


def _requests(requests: Mapping[str, int]) -> dict[str, int]:
    """Return the requests in all, by their price, and what went wrong with them."""
    by_price = {f"requests_{price}": requests[price] for price in ("class_a", "class_b", "free")}
    return {
        "requests": sum(by_price.values()),
        **by_price,
        "retries": requests["retries"],
        "throttled": requests["throttled"],
    }


def _record(context: Context, work: str, counts: Mapping[str, int], *, seconds: float) -> None:
    ti = context["ti"]
    # For the metrics systems that know tags; StatsD's plain protocol leaves them out.
    tags = {"dag_id": ti.dag_id, "task_id": ti.task_id}
    for name, count in counts.items():
        count_metric(f"dataflux.{work}.{name}", count, tags)
    time_metric(f"dataflux.{work}.seconds", seconds, tags)
