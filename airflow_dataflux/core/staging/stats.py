"""The receipts and progress lines of a staging, made of what its recorder holds."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.gcs.store import RequestCounts
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.report.formatting import dollars, plural, roughly, seconds, size
from airflow_dataflux.core.runtime.progress import Progress, Pulse
from airflow_dataflux.core.staging.cost import CostEstimate, Prices, estimate
from airflow_dataflux.core.staging.destination_scan import ScanResult
from airflow_dataflux.core.staging.planning import FetchPlan
from airflow_dataflux.core.staging.preflight import BucketFindings
from airflow_dataflux.core.staging.receipt import Receipt
from airflow_dataflux.core.staging.recorder import StagingRecorder

_PROGRESS_S = 2.0
_NAMED_CHANGES = 1000


def scope_of(manifest: Manifest) -> str:
    """Return what tells the receipts and temporary files of a shard from those of others; "" for a whole manifest."""
    shard = manifest.shard_info
    return "" if shard is None else f"{shard.index:05}-of-{shard.count:05}"


class StagingFigures:
    """Makes receipts and lines of progress of what was recorded."""

    def __init__(self, manifest: Manifest, request: StageRequest, recorder: StagingRecorder) -> None:
        self._manifest = manifest
        self._request = request
        self._recorder = recorder
        self._started_at = datetime.now(UTC) - timedelta(seconds=recorder.elapsed_s())
        self._pulse = Pulse(_PROGRESS_S)

    def pulse(self, in_flight: int, found: ScanResult, emit: Callable[[object], None]) -> float:
        """Emit a line of progress if one is due; return the seconds until the next."""
        if self._pulse.due():
            totals = self._recorder.totals
            elapsed_s = max(1e-9, self._recorder.elapsed_s())
            rate = totals.downloaded_bytes / elapsed_s
            remaining = found.fetch_bytes - totals.downloaded_bytes
            figures: dict[str, int | float] = {
                "objects": totals.downloaded,
                "of_objects": found.fetch_count,
                "bytes": totals.downloaded_bytes,
                "of_bytes": found.fetch_bytes,
                "bytes_per_s": round(rate),
                "in_flight": in_flight,
                "composites": totals.composites,
            }
            eta = ""
            if rate > 0:
                figures["eta_s"] = round(remaining / rate, 1)
                eta = f", about {roughly(remaining / rate)} left"
            text = (
                f"Fetched {totals.downloaded:,} of {plural(found.fetch_count, 'object')}, "
                f"{size(totals.downloaded_bytes)} of {size(found.fetch_bytes)} at {size(rate)}/s{eta}; "
                f"{plural(in_flight, 'batch', 'batches')} in flight"
            )
            emit(Progress(stage="staging", text=text, figures=figures))
        return self._pulse.remaining_s()

    def receipt(
        self,
        found: ScanResult,
        plan: FetchPlan,
        findings: BucketFindings,
        counts: RequestCounts,
        leftovers: tuple[str, ...],
        *,
        objects_file: str,
        objects_digest: str,
    ) -> Receipt:
        """Return the receipt of a finished staging."""
        recorder, totals = self._recorder, self._recorder.totals
        used = [recorder.own_usage(), *(usage for _, usage in recorder.processes)]
        costs = self._costs(counts, totals.composed_bytes, findings, found)
        return self._receipt(
            reused=found.reused,
            downloaded=totals.downloaded,
            downloaded_bytes=totals.downloaded_bytes,
            linked=recorder.linked,
            skipped=len(totals.changed) + len(totals.unreadable) + found.unsafe_count,
            unsafe=found.unsafe,
            deleted=recorder.deleted,
            composites=totals.composites,
            composed_bytes=totals.composed_bytes,
            batches=dict(totals.objects_by_kind),
            requests=msgspec.structs.asdict(counts),
            costs=costs.items(),
            estimated_usd=costs.total,
            usage={
                "cpu_s": round(sum(usage.cpu_s for usage in used), 3),
                "peak_rss_bytes": max(usage.peak_rss_bytes for usage in used),
                "workers_lost": recorder.workers_lost,
            },
            phases={
                **recorder.seconds_by_phase(),
                "compose": round(totals.compose_s, 3),
                "read": round(totals.read_s, 3),
            },
            refetched=totals.refetched,
            resumed=totals.resumed,
            reasons=dict(plan.reasons + totals.reasons),
            preflight=tuple(self._recorder.lines),
            leftovers=leftovers,
            changed=tuple(name for _, name in sorted(totals.changed)[:_NAMED_CHANGES]),
            unreadable={name: reason for _, name, reason in sorted(totals.unreadable)[:_NAMED_CHANGES]},
            objects_file=objects_file,
            objects_digest=objects_digest,
        )

    def expected_costs(self, found: ScanResult, findings: BucketFindings, sent: RequestCounts) -> CostEstimate:
        """Return what the batches that were planned would cost, with the requests that were sent already."""
        planned = self._recorder.planned
        return self._costs(planned.requests + sent, planned.totals.composed_bytes, findings, found)

    def dry_receipt(self, found: ScanResult, plan: FetchPlan, findings: BucketFindings, sent: RequestCounts) -> Receipt:
        """Return what a staging would do and cost; the requests are those it would send."""
        totals = self._recorder.planned.totals
        counts = self._recorder.planned.requests + sent
        costs = self._costs(counts, totals.composed_bytes, findings, found)
        self._recorder.note(plan.line)
        return self._receipt(
            dry_run=True,
            reused=found.reused,
            linked=found.linkable,
            deleted=self._recorder.deleted,
            skipped=found.unsafe_count,
            unsafe=found.unsafe,
            downloaded=found.fetch_count,
            downloaded_bytes=found.fetch_bytes,
            composites=totals.composites,
            composed_bytes=totals.composed_bytes,
            batches=dict(totals.objects_by_kind),
            requests=msgspec.structs.asdict(counts),
            costs=costs.items(),
            estimated_usd=costs.total,
            phases=self._recorder.seconds_by_phase(),
            reasons=dict(plan.reasons),
            preflight=tuple(self._recorder.lines),
        )

    def unchanged_receipt(self, earlier: Receipt, reused: int) -> Receipt:
        """Return the receipt of a staging that had nothing to do."""
        return self._receipt(
            reused=reused,
            skipped=earlier.skipped,
            changed=earlier.changed,
            unreadable=earlier.unreadable,
            unsafe=earlier.unsafe,
            requests=msgspec.structs.asdict(RequestCounts()),
            costs=CostEstimate().items(),
            phases=self._recorder.seconds_by_phase(),
            dry_run=self._request.dry_run,
            objects_file=earlier.objects_file,
            objects_digest=earlier.objects_digest,
        )

    def summary_line(self, receipt: Receipt) -> str:
        """Return the line that ends a staging's log."""
        rate = receipt.downloaded_bytes / max(receipt.seconds, 1e-9)
        left = f"; {plural(len(receipt.leftovers), 'composite')} left behind" if receipt.leftovers else ""
        return (
            f"{receipt.destination}: {plural(receipt.downloaded, 'object')} fetched ({size(receipt.downloaded_bytes)}, "
            f"{size(rate)}/s), {receipt.reused:,} reused, {receipt.linked:,} linked, {receipt.skipped:,} skipped, "
            f"{receipt.deleted:,} removed in {seconds(receipt.seconds)}; {plural(receipt.composites, 'composite')}, "
            f"{receipt.requests.get('class_a', 0):,} class A and {receipt.requests.get('class_b', 0):,} class B "
            f"requests, about {dollars(receipt.estimated_usd)}{left}"
        )

    def _costs(
        self, counts: RequestCounts, composed_bytes: int, findings: BucketFindings, found: ScanResult
    ) -> CostEstimate:
        return estimate(
            Prices(),
            class_a=counts.class_a,
            class_b=counts.class_b,
            composed_bytes=composed_bytes,
            soft_delete_s=findings.soft_delete_s,
            bytes_by_class=found.bytes_by_class,
        )

    def _receipt(self, **figures: object) -> Receipt:
        values: dict[str, object] = {
            "destination": self._request.destination,
            "hostname": socket.gethostname(),
            "bucket": self._manifest.bucket,
            "fingerprint": self._manifest.fingerprint,
            "object_count": len(self._manifest),
            "total_bytes": self._manifest.total_bytes,
            "seconds": round(self._recorder.elapsed_s(), 3),
            "strategy": self._request.strategy,
            "strip_prefix": self._request.strip_prefix,
            "decompress": self._request.decompress,
            "scope": scope_of(self._manifest),
            "receipt_directory": self._request.receipt_directory or "",
            "started_at": self._started_at.isoformat(),
            "finished_at": datetime.now(UTC).isoformat(),
        }
        return Receipt(**{**values, **figures})  # type: ignore[arg-type]
