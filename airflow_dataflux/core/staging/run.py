"""One staging, where the work is: in the engine, or in the calling process if there is little to do.

`stage_here` is the staging; each step of it is a function below, in the order in which they run:

| step | what it does |
|---|---|
| `scan` | walks over manifest and destination: what is there, what is missing, and whether anything is in the way |
| `look_before` | the bucket's answers, the space; the last refusal that costs nothing |
| `link` | what other trees have |
| `decide` | how to fetch what is missing, and what that may cost |
| `sweep_before` | composites of earlier tries |
| `fetch` | batches to workers, files in place |
| `judge_left_out` | what changed or unreadable objects mean |
| `conclude` | removes extraneous files, writes receipt and report, and publishes the tree |

`dry_run` takes the first two and plans. All share a `Run`.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import Future
from contextlib import ExitStack

import msgspec

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.errors import (
    DestinationBusyError,
    DestinationError,
    InsufficientSpaceError,
)
from airflow_dataflux.core.gcs.store import ObjectVersion, RequestCounts, Store, StoreFactory, StoreOptions
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.model import object_uri
from airflow_dataflux.core.report.report_info import ReportInfo
from airflow_dataflux.core.runtime.progress import Progress
from airflow_dataflux.core.runtime.threads import ThreadPool
from airflow_dataflux.core.runtime.workers import JobContext
from airflow_dataflux.core.staging.batching import Batch, BatchKind
from airflow_dataflux.core.staging.composite_registry import CompositeCleanup
from airflow_dataflux.core.staging.composites import CompositeNames
from airflow_dataflux.core.staging.cost import check_cost
from airflow_dataflux.core.staging.destination import (
    AbandonedTree,
    Place,
    Workspace,
    abandoned_scopes,
    abandoned_trees,
    check_destination,
    check_own_files,
    nearest_existing,
    open_workspace,
)
from airflow_dataflux.core.staging.destination_scan import (
    ScanInputs,
    ScanResult,
    final_states,
    link_found,
    scan_destination,
)
from airflow_dataflux.core.staging.dispatch import Dispatcher, WorkKind
from airflow_dataflux.core.staging.earlier_files import EarlierStaging, earlier_stagings
from airflow_dataflux.core.staging.extraneous import ExtraneousFiles
from airflow_dataflux.core.staging.left_out import is_hopeless, left_out
from airflow_dataflux.core.staging.linking import LinkableTree, expand_trees, open_trees
from airflow_dataflux.core.staging.localfile import open_own_directory, open_root
from airflow_dataflux.core.staging.localpath import OWN_DIRECTORY
from airflow_dataflux.core.staging.messages import RunPayload
from airflow_dataflux.core.staging.planning import FetchPlan, make_plan
from airflow_dataflux.core.staging.preflight import (
    BucketFindings,
    block_bytes,
    check_space,
    look_at_bucket,
    look_at_file_system,
    probe_composing,
)
from airflow_dataflux.core.staging.receipt import DECOMPRESSED, DOWNLOADED, SKIPPED, ProgressFile, Receipt, ReceiptFiles
from airflow_dataflux.core.staging.recorder import StagingRecorder
from airflow_dataflux.core.staging.stage_worker import StageSetup
from airflow_dataflux.core.staging.stats import StagingFigures, scope_of
from airflow_dataflux.core.staging.transfer import BatchResult

_LOG = logging.getLogger(__name__)

_NAMES_IN_LOG = 20

_AHEAD = 1.5
"""Batches at a worker for each of its threads, so that none waits for the next while the owner plans it."""

_ROWS_KEPT_BYTES = 32 << 20
"""Rows of a manifest, some 300,000, that are kept between the steps; a larger one is read by each of them anew
(docs/decisions/0012)."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What the steps of a staging share.

    Attributes:
        context: workers, cancel token and a way to tell.
        request, manifest: what is staged, and how.
        store_config: how workers reach Cloud Storage.
        store: for requests of this process, until a cancel.
        tidy_store: for those that must work after one.
        scope: of the manifest (`scope_of`).
        recorder, figures: what happened, and what is told of it.
        names, cleanup: of composites.
        extraneous: what is done with files that the manifest lacks.
    """

    context: JobContext
    request: StageRequest
    manifest: Manifest
    store_config: StoreFactory
    store: Store
    tidy_store: Store
    scope: str
    recorder: StagingRecorder
    figures: StagingFigures
    names: CompositeNames
    cleanup: CompositeCleanup
    extraneous: ExtraneousFiles

    def counts(self, workers: RequestCounts | None = None) -> RequestCounts:
        """Return all requests that were sent so far."""
        return self.store.counts() + self.tidy_store.counts() + (workers or RequestCounts())

    def place(self) -> Place:
        """Return where to build what."""
        request = self.request
        return Place(
            destination=request.destination,
            scope=self.scope,
            key=f"{self.manifest.fingerprint}\n{request.strip_prefix}" + ("\ndecompress" if request.decompress else ""),
            receipt_directory=request.receipt_directory,
        )

    def emit(self, stage: str, text: str) -> None:
        """Tell whoever watches."""
        self.context.emit(Progress(stage=stage, text=text))


def run_staging(context: JobContext, payload: RunPayload[StageRequest]) -> Receipt | None:
    """Run the job; None if another staging made the destination meanwhile."""
    store = payload.store_config.open(context.tokens, StoreOptions(connections=4, cancel=context.cancel))
    # What tidies up must work after a cancel.
    tidy_store = payload.store_config.open(context.tokens, StoreOptions(connections=16))
    try:
        request = payload.request
        manifest = Manifest.from_reference(payload.reference, store=store).remembering(_ROWS_KEPT_BYTES)
        recorder = StagingRecorder(payload.started)
        recorder.began()
        names = CompositeNames(composite_prefix=request.composite_prefix, identity=request.identity)
        run = Run(
            context=context,
            request=request,
            manifest=manifest,
            store_config=payload.store_config,
            store=store,
            tidy_store=tidy_store,
            scope=scope_of(manifest),
            recorder=recorder,
            figures=StagingFigures(manifest, request, recorder),
            names=names,
            cleanup=CompositeCleanup(tidy_store, manifest.bucket, names),
            extraneous=ExtraneousFiles(manifest, request),
        )
        check_destination(request.destination)
        with ThreadPool(1, "dataflux-preflight") as pool, ExitStack() as closing:
            asked = pool.submit(_ask_bucket, run)
            return dry_run(run, asked, closing) if request.dry_run else stage_here(run, asked, closing)
    finally:
        store.close()
        tidy_store.close()


def stage_here(run: Run, asked: Future[BucketFindings], closing: ExitStack) -> Receipt | None:
    """Stage; None if another staging made the destination meanwhile."""
    place = run.place()
    workspace = closing.enter_context(open_workspace(place, run.context.cancel))
    progress = ProgressFile(workspace.tree, place.scope, place.key)
    closing.callback(progress.close)
    abandoned = abandoned_trees(workspace, closing)
    if workspace.new_tree:
        _remove(run, abandoned)
        abandoned = []

    trees = _linkable_trees(run, [tree.path for tree in abandoned], closing)
    earlier = [] if workspace.found_empty else _earlier_stagings(run, workspace)
    found = scan(
        run,
        ScanInputs(
            root_fd=None if workspace.found_empty else workspace.tree.root_fd,
            earlier=earlier,
            fetched=progress.records(),
            trees=trees,
            traits=look_at_file_system(workspace.tree),
            block_bytes=block_bytes(workspace.root),
        ),
    )
    findings = look_before(run, workspace, found, asked)
    link(run, workspace, trees, found)
    plan = decide(run, found, findings)
    sweep_before(run, workspace, plan)
    sent = fetch(run, workspace, plan, found, progress)
    judge_left_out(run, found)
    receipt = conclude(run, workspace, plan, findings, found, sent, earlier, progress)
    if receipt is not None:
        _remove(run, abandoned)
    return receipt


def dry_run(run: Run, asked: Future[BucketFindings], closing: ExitStack) -> Receipt:
    """Say what a staging would do and cost."""
    request, recorder = run.request, run.recorder
    check_own_files(run.place(), request.receipt_directory or os.path.join(request.destination, OWN_DIRECTORY))
    existing = nearest_existing(request.destination)
    root_fd = open_root(request.destination, closing)
    own_fd = None if root_fd is None else open_own_directory(root_fd, request.receipt_directory, closing)
    found = scan(
        run,
        ScanInputs(
            root_fd=root_fd,
            earlier=earlier_stagings(own_fd, run.scope),
            trees=_linkable_trees(run, [], closing),
            block_bytes=block_bytes(existing),
        ),
    )
    findings = asked.result()
    recorder.note(*findings.lines, check_space(existing, found.needed, request.destination))
    plan = make_plan(run.manifest, request, found, findings, workers=request.workers)
    for batch in plan.batches():
        recorder.planned.add(batch)
    recorder.deleted = run.extraneous.count(found, root_fd)
    return run.figures.dry_receipt(found, plan, findings, run.counts())


def scan(run: Run, inputs: ScanInputs) -> ScanResult:
    """Walk over manifest and destination; refuse what cannot be staged here."""
    with run.recorder.phase("survey"):
        found = scan_destination(run.manifest, run.request, inputs)
    run.extraneous.refuse_to_empty(found)
    return found


def look_before(run: Run, workspace: Workspace, found: ScanResult, asked: Future[BucketFindings]) -> BucketFindings:
    """Wait for what the bucket says, check the space, and tell what was found."""
    request, recorder = run.request, run.recorder
    with recorder.phase("preflight"):
        findings = asked.result()
        space = check_space(workspace.root, found.needed, request.destination)
        findings = _probe(run, findings, found)
    recorder.note(*findings.lines, space)
    if workspace.no_rename:
        recorder.note(f"destination: built in place, {workspace.no_rename}")
    if found.unsafe_count:
        shown = "; ".join(f"{name!r} {reason}" for name, reason in list(found.unsafe.items())[:_NAMES_IN_LOG])
        _LOG.warning(
            "%d objects are left out, because their names cannot become paths below %s: %s",
            found.unsafe_count,
            request.destination,
            shown,
        )
        recorder.note(f"names: {found.unsafe_count} objects are left out, because their names cannot become paths")
    if found.gzip_encoded:
        done = "unpacked" if request.decompress else "staged as they are stored; decompress=True unpacks them"
        recorder.note(f"gzip: {found.gzip_encoded} objects have the content encoding gzip and are {done}")
    for line in recorder.lines:
        run.emit("preflight", line)
    return findings


def link(run: Run, workspace: Workspace, trees: list[LinkableTree], found: ScanResult) -> None:
    """Link what other trees have."""
    if not found.linkable:
        return
    with run.recorder.phase("link"):
        for linked in link_found(run.manifest, run.request, trees, workspace.tree, found):
            run.recorder.linked = linked
            run.context.cancel.raise_if_cancelled()
    run.emit("preflight", f"linked: {run.recorder.linked} objects that other trees have")


def decide(run: Run, found: ScanResult, findings: BucketFindings) -> FetchPlan:
    """Decide how to fetch what is missing. Raises CostLimitError if that is estimated to cost more than allowed."""
    request, workers = run.request, run.context.workers.count
    plan = make_plan(run.manifest, request, found, findings, workers=workers)
    run.recorder.note(plan.line)
    run.emit("preflight", plan.line)
    if request.max_usd is not None:
        for batch in plan.batches():
            run.recorder.planned.add(batch)
        check_cost(run.figures.expected_costs(found, findings, run.counts()), request.max_usd, "staging")
    return plan


def sweep_before(run: Run, workspace: Workspace, plan: FetchPlan) -> None:
    """Delete composites of earlier tries, and write down where those of this one are."""
    with run.recorder.phase("sweep"):
        run.cleanup.before()
        if workspace.stale is not None:
            run.cleanup.sweep_record(workspace.stale)
        for scope in abandoned_scopes(workspace):
            if scope.record is None or run.cleanup.sweep_record(scope.record):
                scope.clear()
        if plan.rules.compose:
            workspace.record(run.cleanup.record())


def fetch(run: Run, workspace: Workspace, plan: FetchPlan, found: ScanResult, progress: ProgressFile) -> RequestCounts:
    """Fetch what is missing, and return the requests that workers sent. A composite that stays is told."""
    recorder, workers = run.recorder, run.context.workers

    def on_result(batch: Batch, result: BatchResult) -> None:
        recorder.batch(batch, result)
        status = DECOMPRESSED if batch.kind is BatchKind.DECOMPRESSED else DOWNLOADED
        for ordinal, mtime_ns, inode in zip(result.ordinals, result.mtimes_ns, result.inodes, strict=True):
            found.states.place(ordinal, status, mtime_ns, inode)
        progress.add(result.ordinals, result.mtimes_ns, result.inodes)
        plan.learn(result)

    def clean_up(leftovers: tuple[str, ...], lost_at: float | None) -> None:
        if run.cleanup.after(leftovers, lost_at):
            workspace.clear_record()

    threads = max(1, -(-plan.in_flight // max(1, workers.count)))
    bucket = run.manifest.bucket
    dispatcher: Dispatcher[Batch, BatchResult] = Dispatcher(
        workers,
        StageSetup(
            request=run.request,
            store_config=run.store_config,
            bucket=bucket,
            names=run.names,
            threads=threads,
            fetches=threads,
            budget_share=1 / max(1, workers.count),
            root=workspace.root,
            scope=run.scope,
            chooser_inputs=plan.chooser_inputs,
        ),
        WorkKind(
            run="staging",
            plural="batches",
            describe=lambda batch: f"fetched the same batch, from {object_uri(bucket, batch.names[0])} on",
        ),
        ahead=threads * _AHEAD,
        cancel=run.context.cancel,
        on_result=on_result,
        on_pause=lambda: run.figures.pulse(dispatcher.in_flight, found, run.context.emit),
        clean_up=clean_up,
    )
    with recorder.phase("transfer"):
        try:
            dispatcher.run(plan.batches(), lambda: is_hopeless(run.request, recorder.totals))
        except InsufficientSpaceError as error:
            done = recorder.totals
            still_needed = {
                "bytes": max(0, found.needed.bytes - done.downloaded_bytes),
                "inodes": max(0, found.needed.files - done.downloaded),
            }
            raise workspace.tree.no_space(error.path, still_needed) from error
    recorder.processes, recorder.workers_lost = dispatcher.processes, dispatcher.workers_lost
    return dispatcher.counts()


def judge_left_out(run: Run, found: ScanResult) -> None:
    """Decide what objects mean whose listed generation is gone, or that cannot be read."""
    in_place = run.recorder.totals.downloaded + found.reused + run.recorder.linked
    for ordinal in left_out(run.request, run.recorder.totals, in_place, run.manifest.bucket):
        found.states.place(ordinal, SKIPPED, 0, 0)


def conclude(
    run: Run,
    workspace: Workspace,
    plan: FetchPlan,
    findings: BucketFindings,
    found: ScanResult,
    sent: RequestCounts,
    earlier: list[EarlierStaging],
    progress: ProgressFile,
) -> Receipt | None:
    """Remove extraneous files, write receipt and report, publish; None if another staging was first."""
    recorder, tree = run.recorder, workspace.tree
    with recorder.phase("publish"):
        missing = len(recorder.totals.changed) + len(recorder.totals.unreadable)
        kept, recorder.deleted = run.extraneous.settle(found, missing, tree)
        if workspace.new_tree:
            # What a killed try of this very manifest fetched is all in the manifest; nothing else can be here.
            kept = []
        tree.remove_left(run.scope)  # a worker may have been killed
        files = ReceiptFiles(tree, run.scope)
        name, digest = files.write_objects(final_states(run.manifest, found.states, run.request.strip_prefix, kept))
        receipt = run.figures.receipt(
            found, plan, findings, run.counts(sent), run.cleanup.leftovers, objects_file=name, objects_digest=digest
        )
        files.write(receipt)
        files.remove_superseded([one.receipt for one in earlier if one.accountable])
        if removed := run.extraneous.settle_inline_shards(tree):
            receipt = msgspec.structs.replace(receipt, deleted=removed)
            files.write(receipt)
        info = _report(run, workspace, receipt, found)
        tree.finish()
        progress.finish()  # last: as long as it is there, the next try looks for what is left
        try:
            workspace.publish()
        except DestinationBusyError:
            run.emit("summary", f"{receipt.destination} was made by another staging meanwhile: going on in place")
            return None
    run.emit("summary", run.figures.summary_line(receipt))
    if info is not None:
        run.context.emit(info)
    return receipt


def _ask_bucket(run: Run) -> BucketFindings:
    return look_at_bucket(
        run.store,
        run.manifest.bucket,
        sample=lambda: _first_object(run.manifest),
        user_project=run.store_config.user_project,
    )


def _first_object(manifest: Manifest) -> ObjectVersion | None:
    for rows in manifest.batches():
        return ObjectVersion(name=rows["name"][0].as_py(), generation=rows["generation"][0].as_py())
    return None


def _probe(run: Run, findings: BucketFindings, found: ScanResult) -> BucketFindings:
    """Where the bucket's settings are unknown, find out with one composite whether composites can be deleted."""
    sample = found.sample
    if findings.settings_known or not findings.compose or sample is None or run.request.strategy == "direct":
        return findings
    reason = probe_composing(run.tidy_store, run.manifest.bucket, run.names, sample, found.sample_class)
    if not reason:
        return findings
    line = f"composing: no, {reason}"
    return msgspec.structs.replace(findings, compose=False, no_compose_reason=reason, lines=(*findings.lines, line))


def _earlier_stagings(run: Run, workspace: Workspace) -> list[EarlierStaging]:
    request = run.request
    earlier = earlier_stagings(workspace.tree.own_fd, run.scope)
    for staging in earlier if request.receipt_directory is not None else ():
        other = staging.receipt.destination
        if other != request.destination:
            raise DestinationError(
                f"receipt_directory {request.receipt_directory} has the receipt of another destination, {other}. "
                "Give each destination a directory of its own, or remove what is in this one.",
                path=request.receipt_directory,
            )
    return earlier


def _linkable_trees(run: Run, unfinished: list[str], closing: ExitStack) -> list[LinkableTree]:
    """Open the trees to link from: those that were asked for, and unfinished ones of this destination."""
    request = run.request
    return open_trees(
        expand_trees(request.reuse_from, request.destination),
        unfinished,
        bucket=run.manifest.bucket,
        strip_prefix=request.strip_prefix,
        closing=closing,
    )


def _remove(run: Run, abandoned: list[AbandonedTree]) -> None:
    """Remove unfinished trees, once no composite of theirs is left: their record is all that knows of them.

    Not for an empty manifest, which is more often a misspelt prefix than the next version of the data.
    """
    for tree in abandoned if len(run.manifest) else ():
        if tree.record is None or run.cleanup.sweep_record(tree.record):
            tree.remove()


def _report(run: Run, workspace: Workspace, receipt: Receipt, found: ScanResult) -> ReportInfo | None:
    """Write the report if one was asked for."""
    if not run.request.report:
        return None
    # Not above: it draws, which is of no use without a report.
    from airflow_dataflux.core.staging.staging_report import StagingHistory, write_report

    history = StagingHistory(recorder=run.recorder, found=found)
    return write_report(workspace.tree, receipt, history, run.request.identity.run)
