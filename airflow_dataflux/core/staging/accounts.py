"""Everything that a staging counts, and the receipt and progress lines made of it. One thread: the owner's."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import msgspec

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.gcs.store import ObjectVersion, RequestCounts
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.runtime.progress import Progress, Pulse
from airflow_dataflux.core.runtime.usage import Usage, process_usage
from airflow_dataflux.core.staging.cost import CostEstimate, Prices, estimate
from airflow_dataflux.core.staging.dispatch import Dispatcher, Totals
from airflow_dataflux.core.staging.plan import RANGE_BYTES, Batch, BatchKind
from airflow_dataflux.core.staging.planning import FetchPlan
from airflow_dataflux.core.staging.preflight import BucketFindings
from airflow_dataflux.core.staging.receipt import DOWNLOADED, Receipt
from airflow_dataflux.core.staging.survey import ObjectStates, Survey
from airflow_dataflux.core.staging.transfer import Outcome

_PROGRESS_S = 2.0
_NAMED_CHANGES = 1000
_MB = 1e6


class Accounts:
    """The figures of one staging."""

    def __init__(self, manifest: Manifest, request: StageRequest, *, started: float) -> None:
        """`started` is when the staging was asked for, on the monotonic clock."""
        self._manifest = manifest
        self._request = request
        self.started = started
        self._cpu_before_s = process_usage().cpu_s
        self._started_at = datetime.now(UTC) - timedelta(seconds=time.monotonic() - started)
        self._pulse = Pulse(_PROGRESS_S)
        self._phases: dict[str, float] = {}
        self.courses: list[tuple[str, float, float]] = []
        self._planned = RequestCounts()
        self._planned_totals = Totals()
        shard = manifest.shard_info
        self.scope = "" if shard is None else f"{shard.index:05}-of-{shard.count:05}"
        self.lines: list[str] = []
        self.leftovers: tuple[str, ...] = ()
        self.deleted = 0

    def began(self) -> None:
        """Count the seconds until the work began, in the engine or here, as the phase "start"."""
        self._phases["start"] = time.monotonic() - self.started
        self.courses.append(("start", 0.0, self._phases["start"]))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds of a part of the staging."""
        started = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            self._phases[name] = self._phases.get(name, 0.0) + ended - started
            self.courses.append((name, started - self.started, ended - self.started))

    def note(self, *lines: str) -> None:
        """Keep lines for the receipt."""
        self.lines += lines

    def swept(self, leftovers: tuple[str, ...]) -> None:
        """Keep the names of an earlier try's composites that could not be deleted."""
        self.leftovers += leftovers

    def first_object(self) -> ObjectVersion | None:
        """Return the first object of the manifest, None if it is empty."""
        for rows in self._manifest.batches():
            return ObjectVersion(name=rows["name"][0].as_py(), generation=rows["generation"][0].as_py())
        return None

    def take(self, outcome: Outcome, states: ObjectStates) -> None:
        """Record the objects of a fetched batch."""
        for ordinal, mtime_ns, inode in zip(outcome.ordinals, outcome.mtimes_ns, outcome.inodes, strict=True):
            states.place(ordinal, DOWNLOADED, mtime_ns, inode)

    def plan(self, batch: Batch) -> None:
        """Count what fetching a batch would take."""
        count, composite = len(batch.names), batch.kind is BatchKind.COMPOSITE
        reads = {
            BatchKind.COMPOSITE: 1,
            BatchKind.DIRECT: count,
            BatchKind.RANGED: -(-batch.total_bytes // RANGE_BYTES),
            BatchKind.LOCAL: 0,
        }[batch.kind]
        self._planned += RequestCounts(class_a=int(composite), class_b=reads, free=int(composite))
        totals = self._planned_totals
        totals.objects_by_kind[batch.kind.value] += count
        totals.composites += composite
        totals.composed_bytes += batch.total_bytes if composite else 0

    def own_usage(self) -> Usage:
        """Return what this process has used for the staging."""
        used = process_usage()
        return Usage(cpu_s=used.cpu_s - self._cpu_before_s, peak_rss_bytes=used.peak_rss_bytes)

    def pulse(self, dispatcher: Dispatcher, found: Survey, emit: Callable[[object], None]) -> float:
        """Emit a line of progress if one is due; return the seconds until the next."""
        if self._pulse.due():
            totals = dispatcher.totals
            elapsed_s = max(1e-9, time.monotonic() - self.started)
            rate = totals.downloaded_bytes / elapsed_s
            remaining = found.fetch_bytes - totals.downloaded_bytes
            figures: dict[str, int | float] = {
                "objects": totals.downloaded,
                "of_objects": found.fetch_count,
                "bytes": totals.downloaded_bytes,
                "bytes_per_s": round(rate),
                "in_flight": dispatcher.in_flight,
                "composites": totals.composites,
            }
            eta = ""
            if rate > 0:
                figures["eta_s"] = round(remaining / rate, 1)
                eta = f", about {remaining / rate:.0f} s left"
            text = (
                f"{totals.downloaded} of {found.fetch_count} objects, {totals.downloaded_bytes / _MB:.1f} MB at "
                f"{rate / _MB:.1f} MB/s, {dispatcher.in_flight} batches in flight{eta}"
            )
            emit(Progress(stage="staging", text=text, figures=figures))
        return self._pulse.remaining_s()

    def receipt(
        self,
        found: Survey,
        plan: FetchPlan,
        findings: BucketFindings,
        dispatcher: Dispatcher,
        counts: RequestCounts,
        *,
        objects_file: str,
        objects_digest: str,
    ) -> Receipt:
        """Return the receipt of a finished staging."""
        totals = dispatcher.totals
        costs = self._costs(counts, totals.composed_bytes, findings, found)
        own = process_usage()
        return self._receipt(
            reused=found.reused,
            downloaded=totals.downloaded,
            downloaded_bytes=totals.downloaded_bytes,
            skipped=len(totals.changed) + found.temporary,
            temporary=found.temporary,
            deleted=self.deleted,
            composites=totals.composites,
            composed_bytes=totals.composed_bytes,
            batches=dict(totals.objects_by_kind),
            requests=msgspec.structs.asdict(counts),
            costs=costs.items(),
            estimated_usd=costs.total,
            usage={
                "cpu_s": round(own.cpu_s - self._cpu_before_s + totals.cpu_s, 3),
                "peak_rss_bytes": max(own.peak_rss_bytes, totals.peak_rss_bytes),
                "workers_lost": totals.workers_lost,
            },
            phases={**self._rounded_phases(), "compose": round(totals.compose_s, 3), "read": round(totals.read_s, 3)},
            refetched=totals.refetched,
            resumed=totals.resumed,
            reasons=dict(plan.reasons + totals.reasons),
            preflight=tuple(self.lines),
            leftovers=self.leftovers,
            changed=tuple(name for _, name in sorted(totals.changed)[:_NAMED_CHANGES]),
            objects_file=objects_file,
            objects_digest=objects_digest,
        )

    def dry_receipt(self, found: Survey, plan: FetchPlan, findings: BucketFindings, sent: RequestCounts) -> Receipt:
        """Return what a staging would do and cost; the requests are those it would send."""
        totals = self._planned_totals
        counts = self._planned + sent
        costs = self._costs(counts, totals.composed_bytes, findings, found)
        self.note(plan.line)
        return self._receipt(
            dry_run=True,
            reused=found.reused,
            skipped=found.temporary,
            temporary=found.temporary,
            downloaded=found.fetch_count,
            downloaded_bytes=found.fetch_bytes,
            composites=totals.composites,
            composed_bytes=totals.composed_bytes,
            batches=dict(totals.objects_by_kind),
            requests=msgspec.structs.asdict(counts),
            costs=costs.items(),
            estimated_usd=costs.total,
            phases=self._rounded_phases(),
            reasons=dict(plan.reasons),
            preflight=tuple(self.lines),
        )

    def unchanged_receipt(self, earlier: Receipt, reused: int) -> Receipt:
        """Return the receipt of a staging that had nothing to do."""
        return self._receipt(
            reused=reused,
            skipped=earlier.skipped,
            temporary=earlier.temporary,
            changed=earlier.changed,
            requests=msgspec.structs.asdict(RequestCounts()),
            costs=CostEstimate().items(),
            phases=self._rounded_phases(),
            dry_run=self._request.dry_run,
            objects_file=earlier.objects_file,
            objects_digest=earlier.objects_digest,
        )

    def summary_line(self, receipt: Receipt) -> str:
        """Return the line that ends a staging's log."""
        rate = receipt.downloaded_bytes / _MB / max(receipt.seconds, 1e-9)
        return (
            f"{receipt.destination}: {receipt.downloaded} objects fetched ({receipt.downloaded_bytes / _MB:.1f} MB, "
            f"{rate:.1f} MB/s), {receipt.reused} reused, {receipt.skipped} skipped, {receipt.deleted} removed in "
            f"{receipt.seconds:.1f} s; {receipt.composites} composites, "
            f"{receipt.requests.get('class_a', 0)} class A and {receipt.requests.get('class_b', 0)} class B requests, "
            f"about ${receipt.estimated_usd:.4f}; {len(receipt.leftovers)} composites left"
        )

    def _costs(
        self, counts: RequestCounts, composed_bytes: int, findings: BucketFindings, found: Survey
    ) -> CostEstimate:
        return estimate(
            Prices(),
            class_a=counts.class_a,
            class_b=counts.class_b,
            composed_bytes=composed_bytes,
            soft_delete_s=findings.soft_delete_s,
            bytes_by_class=found.bytes_by_class,
        )

    def _rounded_phases(self) -> dict[str, float]:
        return {name: round(seconds, 3) for name, seconds in self._phases.items()}

    def _receipt(self, **figures: object) -> Receipt:
        values: dict[str, object] = {
            "destination": self._request.destination,
            "hostname": socket.gethostname(),
            "bucket": self._manifest.bucket,
            "fingerprint": self._manifest.fingerprint,
            "object_count": len(self._manifest),
            "total_bytes": self._manifest.total_bytes,
            "seconds": round(time.monotonic() - self.started, 3),
            "strategy": self._request.strategy,
            "strip_prefix": self._request.strip_prefix,
            "scope": self.scope,
            "started_at": self._started_at.isoformat(),
            "finished_at": datetime.now(UTC).isoformat(),
        }
        return Receipt(**{**values, **figures})  # type: ignore[arg-type]
