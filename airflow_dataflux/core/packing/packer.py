"""Pack a manifest: turn its objects into tar shards, verified, the same bytes every time.

The way of a pack:
1. Look: names, the bucket, the output. Every refusal comes here, before anything is written.
2. Sweep composites of earlier tries. Plan shards while workers write them; a shard that is there and right is left
   alone, so a killed pack's next try writes what is missing.
3. Write the table of members and the index, last.

A shard of a manifest stands for its part of the *pack*: every task plans the whole pack, finds the same shards, and
writes every n-th of them. So samples stay whole and a shuffle goes over everything, however the work is shared out; the
index is then written by `join_parts`.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from airflow_dataflux.core.arrow import indices, matches, tally
from airflow_dataflux.core.config import PackRequest
from airflow_dataflux.core.errors import (
    DestinationError,
    InsufficientSpaceError,
    InvalidRequestError,
    UnsafeNameError,
)
from airflow_dataflux.core.gcs.store import ObjectVersion, RequestCounts, Store, StoreFactory, StoreOptions
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.packing.finishing import PackResult, PackSource, finish_pack
from airflow_dataflux.core.packing.pack_index import (
    INDEX_NAME,
    MEMBERS_NAME,
    REPORT_NAME,
    decode_index,
    record_name,
)
from airflow_dataflux.core.packing.pack_output import PackOutput
from airflow_dataflux.core.packing.pack_worker import SHARDS_AT_ONCE, PackSetup, ShardToWrite, pack_worker
from airflow_dataflux.core.packing.recorder import PackRecorder
from airflow_dataflux.core.packing.samples import SampleOrder
from airflow_dataflux.core.packing.shard_plan import (
    ByBytes,
    ByCount,
    PlanTotals,
    ShardPlan,
    checked_name_template,
    plan_shards,
)
from airflow_dataflux.core.packing.shard_writer import PIECE_BYTES, ShardResult, batches_of, pieces_of
from airflow_dataflux.core.packing.tar_format import unfit_reason
from airflow_dataflux.core.report.formatting import plural, size
from airflow_dataflux.core.report.report_info import ReportInfo
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.jobs import run_job
from airflow_dataflux.core.runtime.progress import Progress, Pulse, RunStatistics
from airflow_dataflux.core.runtime.tokens import TokenSource
from airflow_dataflux.core.runtime.workers import Job, JobContext
from airflow_dataflux.core.staging.batching import BatchKind, BatchRules
from airflow_dataflux.core.staging.composite_registry import CompositeCleanup
from airflow_dataflux.core.staging.composites import CompositeNames
from airflow_dataflux.core.staging.cost import CostEstimate, Prices, check_cost, estimate
from airflow_dataflux.core.staging.dispatch import Dispatcher, WorkKind
from airflow_dataflux.core.staging.messages import RunPayload
from airflow_dataflux.core.staging.planning import DEFAULT_IN_FLIGHT, choose_composing
from airflow_dataflux.core.staging.preflight import BucketFindings, look_at_bucket, probe_composing
from airflow_dataflux.core.staging.strategy import RunConditions, SizeHistogram, engine_pays

if TYPE_CHECKING:
    from airflow_dataflux.core.runtime.progress import Observer

_LOG = logging.getLogger(__name__)

_SUSPICIOUS = r"^/|(^|/)\.\.(/|$)|/$|\x00"
"""Names that `unfit_reason` has to look at; all others are fit."""

ShardDispatcher = Dispatcher[ShardToWrite, ShardResult]

_SHARDS: WorkKind[ShardToWrite] = WorkKind(
    run="pack", plural="shards", describe=lambda shard: f"wrote shard {shard.number}"
)

_NAMED = 20
_PROGRESS_S = 2.0


def pack(
    manifest: Manifest,
    request: PackRequest,
    *,
    store_config: StoreFactory,
    tokens: TokenSource,
    cancel: CancelToken | None = None,
    observer: Observer | None = None,
    isolated: bool = True,
) -> PackResult:
    """Pack a manifest, or the part of the whole manifest's pack that one of its shards stands for.

    Args:
        manifest: what to pack. A shard needs a manifest with a URI: the others' rows are looked at, too.
        request: where to and how.
        store_config: how to reach Cloud Storage.
        tokens: where access tokens come from; asked in the calling thread.
        cancel: stops the pack within seconds; also set when it fails.
        observer: called in the calling thread with `Progress` every few seconds, with `ReportInfo` once a report is
            written, with `RunStatistics` at the end.
        isolated: use an engine process with worker processes if there is enough to do; else threads of this process.

    Raises:
        InvalidRequestError, UnsafeNameError, DestinationError, InsufficientSpaceError, BucketNotFoundError,
            PermissionDeniedError, AuthenticationError, CostLimitError: before anything was written.
        ObjectsChangedError: objects changed since they were listed, and `on_changed_object` is "fail".
        VerificationError: an object arrived wrong again and again.
        PackError: something else writes to the same place.
        UnavailableError, EngineError: worth another try, which goes on where this one ended.
        CancelledError: `cancel` was set.
    """
    cancel = cancel or CancelToken()
    observe = observer or (lambda _event: None)
    checked_name_template(request.name_template)
    SampleOrder(manifest.batches, sample_by=request.sample_by)  # raises for an expression that is none
    if manifest.shard_info is not None and manifest.uri is None:
        raise InvalidRequestError(
            "A shard of a manifest in XCom cannot be packed: a sample may continue in another shard, whose rows are "
            "not there. Give the listing a manifest_uri, or pack the whole manifest in one task."
        )
    payload = RunPayload(
        reference=manifest.reference(), request=request, store_config=store_config, started=time.monotonic()
    )
    in_process = (
        not isolated
        or request.dry_run
        or not engine_pays(len(manifest), 2 * manifest.total_bytes, request.strategy)  # read, and written again
    )
    job = Job(
        run=_run,
        worker_body=pack_worker,
        workers=0 if request.dry_run else 1 if in_process else request.workers,
        payload=payload,
    )

    def on_event(event: object) -> None:
        if isinstance(event, Progress | ReportInfo):
            observe(event)

    result = run_job(job, tokens=tokens, cancel=cancel, on_event=on_event, isolated=not in_process)
    if not isinstance(result, PackResult):
        raise TypeError(f"a pack ended with {type(result).__name__} instead of a PackResult")
    observe(RunStatistics(kind="packing", figures=result.summary()))
    return result


def _run(context: JobContext, payload: RunPayload[PackRequest]) -> PackResult:
    """Run in the engine, or in the calling process for little work."""
    store = payload.store_config.open(context.tokens, StoreOptions(connections=20, cancel=context.cancel))
    # What tidies up must work after a cancel.
    tidy_store = payload.store_config.open(context.tokens, StoreOptions(connections=8))
    try:
        given = Manifest.from_reference(payload.reference, store=store)
        manifest, shard = given.whole() or given, given.shard_info
        part = None if shard is None else (shard.index, shard.count)
        output = PackOutput(payload.request.output, store)
        try:
            return _Packing(context, payload, manifest, part, output, store, tidy_store).run()
        finally:
            output.close()
    finally:
        store.close()
        tidy_store.close()


class _Examined(msgspec.Struct):
    """What the rows of a manifest are, as far as it matters before the plan."""

    sizes: SizeHistogram = msgspec.field(default_factory=SizeHistogram)
    bytes_by_class: Counter[str] = msgspec.field(default_factory=Counter)
    first: ObjectVersion | None = None
    first_class: str = "STANDARD"


class _Estimate(msgspec.Struct):
    """What the shards of a plan would take."""

    requests: RequestCounts = msgspec.field(default_factory=RequestCounts)
    composed_bytes: int = 0


class _Packing:
    """One pack in the making."""

    def __init__(
        self,
        context: JobContext,
        payload: RunPayload[PackRequest],
        manifest: Manifest,
        part: tuple[int, int] | None,
        output: PackOutput,
        store: Store,
        tidy_store: Store,
    ) -> None:
        self._context = context
        self._request = payload.request
        self._store_config = payload.store_config
        self._recorder = PackRecorder(payload.started)
        self._manifest = manifest
        self._part = part
        self._output = output
        self._store = store
        self._tidy_store = tidy_store
        self._names = CompositeNames(composite_prefix=self._request.composite_prefix, identity=self._request.identity)
        self._cleanup = CompositeCleanup(tidy_store, manifest.bucket, self._names)
        self._notes: list[str] = []
        self._totals = PlanTotals()
        self._pulse = Pulse(_PROGRESS_S)

    def run(self) -> PackResult:
        request, recorder = self._request, self._recorder
        recorder.began()
        with recorder.phase("examine"):
            examined = self._examine()
        with recorder.phase("preflight"):
            findings = self._look_at_bucket(examined)
            if not request.dry_run:
                self._check_output()
                findings = self._probe(findings, examined)
        rules, in_flight = self._decide(examined, findings)
        for line in self._notes:
            self._emit("preflight", line)
        if request.dry_run or request.max_usd is not None:
            expected = self._expected(rules, findings, examined)
            if request.max_usd is not None:
                check_cost(CostEstimate(**expected.costs), request.max_usd, "pack")
            if request.dry_run:
                return expected
        with recorder.phase("sweep"):
            self._cleanup.before()
        with recorder.phase("write"):
            dispatcher = self._write(rules, in_flight)
        result = self._result(dispatcher, findings, examined)
        if self._part is None:
            with recorder.phase("index"):
                result = finish_pack(self._output, result)
        result = self._counted(result, dispatcher, findings, examined)
        self._report(result, examined)
        self._emit("summary", _summary_line(result))
        return result

    def _report(self, result: PackResult, examined: _Examined) -> None:
        """Write the report if one was asked for, and tell of it."""
        if not self._request.report:
            return
        from airflow_dataflux.core.packing.pack_report import (  # all that draws: only where used
            PackHistory,
            write_report,
        )

        history = PackHistory(
            recorder=self._recorder,
            request=self._request,
            sizes=dict(enumerate(examined.sizes.counts)),
            bytes_by_class=dict(examined.bytes_by_class),
        )
        info = write_report(self._output, result, history)
        if info is not None:
            self._context.emit(info)

    def _examine(self) -> _Examined:
        """Look at all rows once. Raises UnsafeNameError for names that no shard can hold."""
        found = _Examined()
        unfit: list[str] = []
        count = 0
        for rows in self._manifest.batches():
            names, sizes = rows.column("name"), rows.column("size")
            for index in indices(matches(names, _SUSPICIOUS)):
                name, size = names[index].as_py(), sizes[index].as_py()
                reason = unfit_reason(name, size)
                if reason is not None:
                    count += 1
                    if len(unfit) < _NAMED:
                        unfit.append(f"{name!r} ({reason})")
            found.sizes.add(sizes.to_pylist())
            for storage_class, (_, size) in tally(rows.column("storage_class"), sizes).items():
                found.bytes_by_class[storage_class] += size
            if found.first is None and rows.num_rows:
                found.first = ObjectVersion(name=names[0].as_py(), generation=rows.column("generation")[0].as_py())
                found.first_class = rows.column("storage_class")[0].as_py()
        if unfit:
            more = f" and {count - len(unfit)} more" if count > len(unfit) else ""
            raise UnsafeNameError(
                f"{count} name(s) cannot be members of a shard: {'; '.join(unfit)}{more}. Nothing was written. List "
                "without them.",
                names=unfit,
            )
        return found

    def _look_at_bucket(self, examined: _Examined) -> BucketFindings:
        findings = look_at_bucket(
            self._store,
            self._manifest.bucket,
            sample=lambda: examined.first,
            user_project=self._store_config.user_project,
        )
        self._notes += findings.lines
        return findings

    def _check_output(self) -> None:
        self._output.prepare()
        # A record's name stands for all of them: what is in its way is in the way of each.
        for name in (INDEX_NAME, MEMBERS_NAME, REPORT_NAME, record_name("shard")):
            self._output.check_place(name)
        index = self._output.read(INDEX_NAME)
        if index and decode_index(index) is None:
            raise DestinationError(
                f"{self._output.uri_of(INDEX_NAME)} is there already, and it is not the index of a pack, so it is not "
                "replaced. Give the pack an output of its own, or remove the file if nobody needs it.",
                path=self._output.uri_of(INDEX_NAME),
            )
        if not index and self._output.find(MEMBERS_NAME) is not None and not self._output.record_names():
            raise DestinationError(
                f"{self._output.uri_of(MEMBERS_NAME)} is there already, and no pack is, so it is not replaced. Give "
                "the pack an output of its own, or remove the file if nobody needs it.",
                path=self._output.uri_of(MEMBERS_NAME),
            )
        if not self._output.is_local:
            return
        needed = self._manifest.total_bytes // (self._part[1] if self._part else 1)
        space = os.statvfs(self._output.directory)
        free = space.f_bavail * space.f_frsize
        if needed > free and not self._output.record_names():  # what is there already is not needed again
            raise InsufficientSpaceError(
                f"The pack needs {needed} bytes below {self._output.directory} and {free} are free. Nothing was "
                "written. Make room, or choose another output.",
                needed=needed,
                free=free,
                unit="bytes",
                path=self._output.directory,
            )

    def _probe(self, findings: BucketFindings, examined: _Examined) -> BucketFindings:
        """Where the bucket's settings are unknown, find out with one composite whether composites can be deleted."""
        if findings.settings_known or not findings.compose or examined.first is None:
            return findings
        if self._request.strategy == "direct":
            return findings
        reason = probe_composing(
            self._tidy_store, self._manifest.bucket, self._names, examined.first, examined.first_class
        )
        if not reason:
            return findings
        self._notes.append(f"composing: no, {reason}")
        return msgspec.structs.replace(findings, compose=False, no_compose_reason=reason)

    def _decide(self, examined: _Examined, findings: BucketFindings) -> tuple[BatchRules, int]:
        """Return what is composed, and how many pieces are fetched at once over all workers."""
        request = self._request
        in_flight = request.max_in_flight or DEFAULT_IN_FLIGHT
        in_flight = max(1, min(in_flight, len(self._manifest) + self._manifest.total_bytes // PIECE_BYTES))
        conditions = RunConditions(
            in_flight=in_flight, workers=max(1, self._context.workers.count), soft_delete_s=findings.soft_delete_s
        )
        compose, reason, largest = choose_composing(request.strategy, examined.sizes, findings, conditions)
        rules = BatchRules(
            compose=compose,
            no_compose_reason=reason,
            max_composite_bytes=request.max_composite_bytes,
            max_object_bytes=largest,
        )
        how = f"composites of objects up to {largest or PIECE_BYTES} bytes" if compose else reason
        self._notes.append(
            f"plan: {len(self._manifest)} objects ({self._manifest.total_bytes} bytes); strategy {request.strategy}: "
            f"{how}; {in_flight} requests in flight"
        )
        return rules, in_flight

    def _shards(self) -> Iterator[ShardPlan]:
        """Plan the whole pack, and yield the shards that this task writes."""
        request = self._request
        order = SampleOrder(self._manifest.batches, sample_by=request.sample_by, shuffle_seed=request.shuffle_seed)
        rule = ByBytes(request.shard_bytes) if request.shard_count is None else ByCount.of(request.shard_count, order)
        self._totals = PlanTotals()
        number, count = self._part or (0, 1)
        for shard in plan_shards(order, rule, request.name_template):
            self._totals.add(shard)
            if shard.index % count == number:
                yield shard

    def _expected(self, rules: BatchRules, findings: BucketFindings, examined: _Examined) -> PackResult:
        """Plan everything, and return what it would take if nothing were there yet."""
        expected = _Estimate()
        for shard in self._shards():
            reads = composites = 0
            for piece in pieces_of(shard):
                if piece.is_range:
                    reads += 1
                    continue
                for batch in batches_of(piece, rules, 0):
                    composed = batch.kind is BatchKind.COMPOSITE
                    composites += composed
                    reads += 1 if composed else len(batch.names)
                    expected.composed_bytes += batch.total_bytes if composed else 0
            uploads = 0 if self._output.is_local else 2  # the shard and its record
            expected.requests += RequestCounts(class_a=composites + uploads, class_b=reads + 1, free=composites)
        counts = expected.requests + self._counts(None)
        return self._priced(self._planned(dry_run=True), counts, expected.composed_bytes, findings, examined)

    def _write(self, rules: BatchRules, in_flight: int) -> ShardDispatcher:
        workers, request = self._context.workers, self._request
        fetching_threads = max(1, -(-in_flight // max(1, workers.count)))
        dispatcher = ShardDispatcher(
            workers,
            PackSetup(
                request=request,
                store_config=self._store_config,
                bucket=self._manifest.bucket,
                names=self._names,
                threads=SHARDS_AT_ONCE,
                fetches=fetching_threads + SHARDS_AT_ONCE,
                fetching_threads=fetching_threads,
                budget_share=1 / max(1, workers.count),
                rules=rules,
            ),
            _SHARDS,
            ahead=SHARDS_AT_ONCE + 1,
            cancel=self._context.cancel,
            on_result=lambda _shard, result: self._recorder.shard(result),
            on_pause=lambda: self._tell(dispatcher),
            clean_up=self._cleanup.after,
        )
        dispatcher.run(ShardToWrite.of(shard) for shard in self._shards())
        self._look(dispatcher)
        self._recorder.processes = dispatcher.processes
        return dispatcher

    def _look(self, dispatcher: ShardDispatcher) -> None:
        progress = dispatcher.progress
        self._recorder.look(dispatcher.in_flight, progress.objects, progress.bytes)

    def _tell(self, dispatcher: ShardDispatcher) -> float:
        """Record what is going on, and emit a line of progress if one is due; return the seconds until the next."""
        recorder, written = self._recorder, dispatcher.progress
        self._look(dispatcher)
        if self._pulse.due():
            rate = written.bytes / max(1e-9, recorder.elapsed_s())
            done = written.objects + recorder.reused_objects
            whole = len(self._manifest) // (self._part[1] if self._part else 1)  # a part's own shards are not known yet
            figures: dict[str, int | float] = {
                "objects": done,
                "of_objects": max(done, whole),
                "bytes": written.bytes,
                "bytes_per_s": round(rate),
                "shards": recorder.shards,
                "reused_shards": recorder.reused_shards,
                "in_flight": dispatcher.in_flight,
            }
            text = (
                f"Packed {done:,} of {'about ' if self._part else ''}{plural(max(done, whole), 'object')} in "
                f"{plural(recorder.shards, 'finished shard')} ({recorder.reused_shards:,} reused), "
                f"{size(written.bytes)} written at {size(rate)}/s, {plural(dispatcher.in_flight, 'shard')} in flight"
            )
            self._emit("packing", text, figures)
        return self._pulse.remaining_s()

    def _planned(self, *, dry_run: bool = False) -> PackResult:
        """Return what the plan says of the whole pack."""
        totals = self._totals
        if totals.unread:
            self._note(f"names: {totals.unread} objects have no extension: webdataset's reader ignores them")
        if totals.clashing:
            self._note(
                "names: some samples have two objects with the same extension, which webdataset's reader refuses: "
                + ", ".join(totals.clashing)
            )
        manifest = self._manifest
        source = PackSource(bucket=manifest.bucket, prefixes=manifest.prefixes, fingerprint=manifest.fingerprint)
        return PackResult(
            output=self._output.uri,
            source=source,
            fingerprint=totals.fingerprint,
            name_template=self._request.name_template,
            shard_count=totals.shards,
            sample_count=totals.samples,
            object_count=totals.objects,
            total_bytes=totals.total_bytes,
            pack_bytes=totals.archive_bytes,
            part=self._part,
            dry_run=dry_run,
            notes=tuple(self._notes),
        )

    def _result(self, dispatcher: ShardDispatcher, findings: BucketFindings, examined: _Examined) -> PackResult:
        recorder = self._recorder
        for reason, count in recorder.reasons.items():
            self._note(f"read directly: {count} objects, {reason}")
        written = msgspec.structs.replace(
            self._planned(),
            packed_shards=recorder.shards - recorder.reused_shards,
            reused_shards=recorder.reused_shards,
            packed_objects=recorder.packed_objects,
            packed_bytes=recorder.packed_bytes,
            reused_objects=recorder.reused_objects,
            skipped=recorder.skipped,
            composites=recorder.composites,
            leftovers=self._cleanup.leftovers,
        )
        return self._counted(written, dispatcher, findings, examined)

    def _counted(
        self, result: PackResult, dispatcher: ShardDispatcher, findings: BucketFindings, examined: _Examined
    ) -> PackResult:
        counts = self._counts(dispatcher)
        return self._priced(result, counts, self._recorder.composed_bytes, findings, examined)

    def _priced(
        self,
        result: PackResult,
        counts: RequestCounts,
        composed_bytes: int,
        findings: BucketFindings,
        examined: _Examined,
    ) -> PackResult:
        costs = estimate(
            Prices(),
            class_a=counts.class_a,
            class_b=counts.class_b,
            composed_bytes=composed_bytes,
            soft_delete_s=findings.soft_delete_s,
            bytes_by_class=examined.bytes_by_class,
        )
        return msgspec.structs.replace(
            result,
            requests=msgspec.structs.asdict(counts),
            costs=costs.items(),
            estimated_usd=costs.total,
            seconds=round(self._recorder.elapsed_s(), 3),
        )

    def _counts(self, dispatcher: ShardDispatcher | None) -> RequestCounts:
        counts = self._store.counts() + self._tidy_store.counts()
        return counts if dispatcher is None else counts + dispatcher.counts()

    def _note(self, line: str) -> None:
        self._notes.append(line)
        self._emit("preflight", line)

    def _emit(self, stage: str, text: str, figures: dict[str, int | float] | None = None) -> None:
        self._context.emit(Progress(stage=stage, text=text, figures=figures or {}))


def _summary_line(result: PackResult) -> str:
    return (
        f"{result.output}: {result.packed_shards} shards written, {result.reused_shards} found right, "
        f"{result.skipped} objects skipped, in {result.seconds:.1f} s; {result.composites} composites, "
        f"{result.requests.get('class_a', 0)} class A and {result.requests.get('class_b', 0)} class B requests, "
        f"about ${result.estimated_usd:.4f}; {len(result.leftovers)} composites left"
    )
