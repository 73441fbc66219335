"""Stage a manifest: put its objects on local disk, verified, and leave a receipt.

The way of a staging:
1. Nothing changed? One stat per object, against the receipt. Then this is all.
2. Look at the bucket (two requests), open and lock the place to build in, walk over the manifest (names, what is
   there already), check space. Every refusal comes here, before any byte moves.
3. Sweep composites of earlier tries. Plan while workers fetch, verify and write; they delete their composites behind
   them.
4. Remove what is extraneous, write the per-object state, then the receipt, then publish a new tree by one rename.

Whatever ends it early, no composite of this attempt stays without being named, and no file is half-made. What was
fetched stays, and the next try finds it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from airflow_dataflux.core.config import StageRequest, StoreConfig
from airflow_dataflux.core.errors import DatafluxError, InsufficientSpaceError, ObjectsChangedError
from airflow_dataflux.core.gcs.client import open_store
from airflow_dataflux.core.gcs.store import RequestCounts, Store
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.model import object_uri
from airflow_dataflux.core.report.notice import OnReport, ReportNotice
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.jobs import Job, JobContext, run_job
from airflow_dataflux.core.runtime.progress import Progress
from airflow_dataflux.core.runtime.tokens import TokenSource
from airflow_dataflux.core.runtime.usage import Usage
from airflow_dataflux.core.staging import effort
from airflow_dataflux.core.staging.accounts import Accounts
from airflow_dataflux.core.staging.composites import (
    CompositeNames,
    SweepResult,
    sweep_attempt,
    sweep_earlier_tries,
)
from airflow_dataflux.core.staging.destination import (
    AttemptRecord,
    Place,
    Workspace,
    abandoned_trees,
    check_destination,
    nearest_existing,
    open_workspace,
)
from airflow_dataflux.core.staging.dispatch import Dispatcher
from airflow_dataflux.core.staging.extraneous import missing_in_manifest, remove_files
from airflow_dataflux.core.staging.localpath import FileSystemTraits
from airflow_dataflux.core.staging.plan import Batch
from airflow_dataflux.core.staging.planning import FetchPlan, make_plan
from airflow_dataflux.core.staging.preflight import (
    BucketFindings,
    block_bytes,
    check_space,
    look_at_bucket,
    look_at_file_system,
    probe_composing,
)
from airflow_dataflux.core.staging.receipt import SKIPPED, Receipt, ReceiptFiles, notice_of, report_name
from airflow_dataflux.core.staging.recording import StagingRecord
from airflow_dataflux.core.staging.reuse import EarlierObject, EarlierStaging, earlier_stagings
from airflow_dataflux.core.staging.states import final_states
from airflow_dataflux.core.staging.survey import Ground, Survey, survey
from airflow_dataflux.core.staging.transfer import Outcome
from airflow_dataflux.core.staging.unchanged import unchanged_since
from airflow_dataflux.core.staging.worker import Setup, stage_worker

_LOG = logging.getLogger(__name__)

_NAMED_IN_MESSAGE = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class _Payload:
    """What travels to the engine. `started` is on the monotonic clock, which all processes of a machine share."""

    reference: dict[str, Any]
    request: StageRequest
    store_config: StoreConfig
    started: float


def stage(
    manifest: Manifest,
    request: StageRequest,
    *,
    store_config: StoreConfig,
    tokens: TokenSource,
    cancel: CancelToken | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_report: OnReport | None = None,
    isolated: bool = True,
) -> Receipt:
    """Stage a manifest or one of its shards, and return the receipt.

    A second staging of the same data to an intact destination costs one stat per file and no request.

    Args:
        manifest: what to stage.
        request: where to and how.
        store_config: how to reach Cloud Storage.
        tokens: where access tokens come from; asked in the calling thread.
        cancel: stops the staging within seconds; also set when it fails.
        on_progress: called every few seconds in the calling thread.
        on_report: called once the report is beside the receipt, if the request asks for one.
        isolated: use an engine process with worker processes if there is enough to do; else threads of this process.

    Raises:
        DestinationError, UnsafeNameError, InsufficientSpaceError: found before anything was fetched (space: possibly
            later, if others use it up).
        BucketNotFoundError, PermissionDeniedError, AuthenticationError: before anything was fetched.
        ObjectsChangedError: objects changed since they were listed, and `on_changed_object` is "fail".
        VerificationError: an object arrived wrong twice.
        UnavailableError, EngineError: worth another try, which goes on where this one ended.
        CancelledError: `cancel` was set.
    """
    cancel = cancel or CancelToken()
    emit = on_progress or (lambda _progress: None)
    request = replace(request, destination=os.path.normpath(request.destination))
    accounts = Accounts(manifest, request, started=time.monotonic())
    known = unchanged_since(manifest, request, accounts)
    if known is not None:
        emit(Progress(stage="summary", text=f"{request.destination} is up to date: {len(manifest)} objects reused"))
        notice = notice_of(known)
        # The report that is there tells how the files came here.
        if request.report and on_report is not None and os.path.isfile(notice.uri.removeprefix("file://")):
            on_report(notice)
        return known
    payload = _Payload(
        reference=manifest.reference(), request=request, store_config=store_config, started=accounts.started
    )
    worth_it = isolated and effort.engine_pays(len(manifest), manifest.total_bytes, request.strategy)
    in_process = request.dry_run or not worth_it
    job = Job(
        run=_run,
        worker_body=stage_worker,
        workers=0 if request.dry_run else 1 if in_process else request.workers,
        payload=payload,
    )

    def on_event(event: object) -> None:
        if isinstance(event, Progress):
            emit(event)
        elif isinstance(event, ReportNotice) and on_report is not None:
            on_report(event)

    result = run_job(job, tokens=tokens, cancel=cancel, on_event=on_event, isolated=not in_process)
    if not isinstance(result, Receipt):
        raise TypeError(f"a staging ended with {type(result).__name__} instead of a Receipt")
    return result


def _run(context: JobContext, payload: _Payload) -> Receipt:
    """Run in the engine, or in the calling process for little work."""
    store = open_store(payload.store_config, context.tokens, connections=4, cancel=context.cancel)
    # What tidies up must work after a cancel.
    tidy_store = open_store(payload.store_config, context.tokens, connections=16)
    try:
        manifest = Manifest.from_reference(payload.reference, store=store)
        return _Staging(context, payload, manifest, store, tidy_store).run()
    finally:
        store.close()
        tidy_store.close()


class _Staging:
    """One staging in the making."""

    def __init__(
        self,
        context: JobContext,
        payload: _Payload,
        manifest: Manifest,
        store: Store,
        tidy_store: Store,
    ) -> None:
        request = payload.request
        self._context = context
        self._request = request
        self._store_config = payload.store_config
        self._manifest = manifest
        self._store = store
        self._tidy_store = tidy_store
        self._accounts = Accounts(manifest, request, started=payload.started)
        self._accounts.began()
        self._names = CompositeNames(composite_prefix=request.composite_prefix, identity=request.identity)
        self._record = StagingRecord(payload.started) if request.report else None

    def run(self) -> Receipt:
        request, manifest, accounts = self._request, self._manifest, self._accounts
        check_destination(request.destination)
        with ThreadPoolExecutor(1, thread_name_prefix="dataflux-preflight") as pool:
            asked = pool.submit(self._look_at_bucket)
            if request.dry_run:
                return self._dry_run(asked)
            place = Place(
                destination=request.destination,
                scope=accounts.scope,
                key=f"{manifest.fingerprint}\n{request.strip_prefix}",
            )
            with open_workspace(place, self._context.cancel) as workspace:
                return self._build(workspace, asked)

    def _look_at_bucket(self) -> BucketFindings:
        return look_at_bucket(
            self._store,
            self._manifest.bucket,
            sample=self._accounts.first_object(),
            user_project=self._store_config.user_project,
        )

    def _dry_run(self, asked: Future[BucketFindings]) -> Receipt:
        request, accounts = self._request, self._accounts
        existing = nearest_existing(request.destination)
        with accounts.phase("survey"), _opened(request.destination) as root_fd:
            ground = Ground(
                root_fd,
                [] if root_fd is None else earlier_stagings(root_fd, accounts.scope),
                FileSystemTraits(),
                block_bytes(existing),
                request.composite_prefix,
            )
            found = survey(self._manifest, request.destination, request.strip_prefix, ground)
        findings = asked.result()
        accounts.note(*findings.lines, check_space(existing, found.needed))
        plan = make_plan(self._manifest, request, found, findings, workers=request.workers)
        for batch in plan.batches(lambda: ""):
            accounts.plan(batch)
        return accounts.dry_receipt(found, plan, findings, self._counts(None))

    def _build(self, workspace: Workspace, asked: Future[BucketFindings]) -> Receipt:
        request, accounts = self._request, self._accounts
        self._remove_abandoned(workspace)
        with accounts.phase("survey"):
            traits = look_at_file_system(workspace.tree)
            root_fd = None if workspace.found_empty else workspace.tree.root_fd
            earlier = [] if root_fd is None else earlier_stagings(root_fd, accounts.scope)
            ground = Ground(root_fd, earlier, traits, block_bytes(workspace.root), request.composite_prefix)
            found = survey(self._manifest, request.destination, request.strip_prefix, ground)
        with accounts.phase("preflight"):
            findings = asked.result()
            space = check_space(workspace.root, found.needed)
            findings = self._probe(findings, found)
        accounts.note(*findings.lines, space)
        if found.temporary:
            accounts.note(
                f"manifest: {found.temporary} temporary objects of other stagings were listed; they are left out"
            )
        for line in accounts.lines:
            self._emit("preflight", line)
        plan = make_plan(self._manifest, request, found, findings, workers=self._context.workers.count)
        accounts.note(plan.line)
        self._emit("preflight", plan.line)
        self._sweep_before(workspace, plan)
        dispatcher = self._fetch(workspace, plan, found)
        return self._conclude(workspace, plan, findings, found, dispatcher, earlier)

    def _remove_abandoned(self, workspace: Workspace) -> None:
        """Remove unfinished trees of other manifests, once no composite of theirs is left."""
        if not workspace.new_tree:
            return
        for abandoned in abandoned_trees(workspace.place):
            record = abandoned.record
            if record is not None and (record.bucket != self._manifest.bucket or not self._sweep_record(record)):
                continue  # its record is all that knows of them
            abandoned.remove()

    def _probe(self, findings: BucketFindings, found: Survey) -> BucketFindings:
        """Where the bucket's settings are unknown, find out with one composite whether composites can be deleted."""
        sample = found.sample
        if findings.settings_known or not findings.compose or sample is None or self._request.strategy == "direct":
            return findings
        reason = probe_composing(self._tidy_store, self._manifest.bucket, self._names, sample, found.sample_class)
        if not reason:
            return findings
        line = f"composing: no, {reason}"
        return replace(findings, compose=False, no_compose_reason=reason, lines=(*findings.lines, line))

    def _sweep_before(self, workspace: Workspace, plan: FetchPlan) -> None:
        """Delete what earlier tries left: those of this task by name, and that of a killed one by its record."""
        bucket, names = self._manifest.bucket, self._names
        with self._accounts.phase("sweep"):
            if names.identity.try_number > 1:
                self._accounts.swept(self._sweep(lambda: sweep_earlier_tries(self._tidy_store, bucket, names)) or ())
            stale = workspace.stale
            if stale is not None and stale.bucket == bucket:
                self._sweep_record(stale)
            if plan.rules.compose:
                workspace.record(
                    AttemptRecord(
                        bucket=bucket, composite_prefix=names.composite_prefix, attempt_prefix=names.attempt_prefix
                    )
                )

    def _sweep_record(self, record: AttemptRecord) -> bool:
        """Delete what a killed attempt left; return whether nothing of it is left."""
        leftovers = self._sweep(
            lambda: sweep_attempt(self._tidy_store, record.bucket, record.composite_prefix, record.attempt_prefix)
        )
        self._accounts.swept(leftovers or ())
        return leftovers == ()

    def _sweep(self, sweep: Callable[[], SweepResult]) -> tuple[str, ...] | None:
        """Sweep; return what could not be deleted, None if that is unknown. It must not stop the staging."""
        try:
            result = sweep()
        except DatafluxError as error:
            _LOG.warning("Composites of an earlier try could not be swept: %s", error)
            return None
        if result.found:
            _LOG.info("Swept %d composites of an earlier try.", result.deleted)
        return tuple(failure.version.name for failure in result.failures)

    def _fetch(self, workspace: Workspace, plan: FetchPlan, found: Survey) -> Dispatcher:
        accounts, workers = self._accounts, self._context.workers

        def on_outcome(batch: Batch, outcome: Outcome) -> None:
            accounts.take(outcome, found.states)
            plan.learn(batch, outcome)
            if self._record:
                self._record.took(batch, outcome)

        dispatcher = Dispatcher(
            workers,
            Setup(
                store_config=self._store_config,
                bucket=self._manifest.bucket,
                root=workspace.root,
                scope=accounts.scope,
                strip_prefix=self._request.strip_prefix,
                names=self._names,
                threads=max(1, -(-plan.in_flight // max(1, workers.count))),
                budget_share=1 / max(1, workers.count),
            ),
            cancel=self._context.cancel,
            on_outcome=on_outcome,
            on_pause=lambda: accounts.pulse(dispatcher, found, self._context.emit),
        )
        with accounts.phase("transfer"):
            try:
                dispatcher.run(
                    plan.batches(lambda: dispatcher.stop_composing),
                    stop_at_change=self._request.on_changed_object == "fail",
                )
            except BaseException as error:
                dispatcher.stop()
                self._tidy(dispatcher, workspace)
                if isinstance(error, InsufficientSpaceError):
                    needed = max(0, found.needed.bytes - dispatcher.totals.downloaded_bytes)
                    raise workspace.tree.no_space(error.message.partition(":")[0], needed) from error
                raise
            leftovers = self._tidy(dispatcher, workspace)
        accounts.leftovers += leftovers
        self._judge_changes(dispatcher, found)
        return dispatcher

    def _tidy(self, dispatcher: Dispatcher, workspace: Workspace) -> tuple[str, ...]:
        """Delete composites that no worker accounts for; return the names of those that stay. Raises nothing."""
        leftovers: tuple[str, ...] = ()
        if dispatcher.unclean:
            dispatcher.wait_for_late_composes()
            names = self._names
            try:
                result = sweep_attempt(
                    self._tidy_store, self._manifest.bucket, names.composite_prefix, names.attempt_prefix
                )
                leftovers = tuple(failure.version.name for failure in result.failures)
            except DatafluxError as error:
                _LOG.warning("Whether composites are left below %s is unknown: %s", names.attempt_prefix, error)
                leftovers = dispatcher.reported_leftovers or (names.attempt_prefix,)
        if leftovers:
            _LOG.warning("Composites left in gs://%s: %s", self._manifest.bucket, ", ".join(leftovers))
        else:
            workspace.clear_record()
        return leftovers

    def _judge_changes(self, dispatcher: Dispatcher, found: Survey) -> None:
        """Decide what objects whose listed generation is gone mean."""
        changed = sorted(dispatcher.totals.changed)
        if not changed:
            return
        names = [name for _, name in changed]
        if self._request.on_changed_object == "fail":
            bucket = self._manifest.bucket
            shown = ", ".join(object_uri(bucket, name) for name in names[:_NAMED_IN_MESSAGE])
            more = len(names) - _NAMED_IN_MESSAGE
            raise ObjectsChangedError(
                f"{len(names)} object(s) were overwritten or deleted since they were listed: {shown}"
                f"{f' and {more} more' if more > 0 else ''}. List again and stage the new manifest (what is there "
                'already is reused), or leave them out with on_changed_object="skip".',
                names=names,
            )
        for ordinal, _ in changed:
            found.states.place(ordinal, SKIPPED, 0, 0)

    def _conclude(
        self,
        workspace: Workspace,
        plan: FetchPlan,
        findings: BucketFindings,
        found: Survey,
        dispatcher: Dispatcher,
        earlier: list[EarlierStaging],
    ) -> Receipt:
        accounts = self._accounts
        with accounts.phase("publish"):
            kept = self._extraneous(workspace, found)
            if workspace.new_tree:
                # What a killed try of this very manifest fetched is all in the manifest; nothing else can be here.
                kept = []
            files = ReceiptFiles(workspace.tree, accounts.scope)
            name, digest = files.write_objects(
                final_states(self._manifest, found.states, self._request.strip_prefix, kept)
            )
            receipt = accounts.receipt(
                found, plan, findings, dispatcher, self._counts(dispatcher), objects_file=name, objects_digest=digest
            )
            files.write(receipt)
            files.remove_superseded([one.receipt for one in earlier if one.accountable])
            notice = self._report(workspace, files, receipt, found, dispatcher)
            workspace.publish()
        self._emit("summary", accounts.summary_line(receipt))
        if notice is not None:
            self._context.emit(notice)
        return receipt

    def _report(
        self, workspace: Workspace, files: ReceiptFiles, receipt: Receipt, found: Survey, dispatcher: Dispatcher
    ) -> ReportNotice | None:
        """Write the report if one was asked for; else remove that of an earlier staging, whose receipt is gone, too."""
        if self._record is None:
            files.remove(report_name(receipt.scope))
            return None
        from airflow_dataflux.core.staging.runreport import Course, write_report  # much, and of use to nobody else

        workers = dispatcher.totals.processes
        course = Course(
            record=self._record,
            found=found,
            # Publishing is not over yet, but all of it that takes long is.
            phases=(*self._accounts.courses, ("publish", self._accounts.courses[-1][2], receipt.seconds)),
            processes=(("engine" if workers else "task", self._accounts.own_usage()), *sorted(workers, key=_role)),
        )
        return write_report(workspace.tree, receipt, course)

    def _extraneous(self, workspace: Workspace, found: Survey) -> list[EarlierObject]:
        """Deal with files of earlier stagings; return those that stay and are to be remembered."""
        if not found.extraneous:
            return []
        whole = self._manifest
        if self._accounts.scope:
            reference = {key: value for key, value in self._manifest.reference().items() if key != "shard"}
            if reference.get("uri") is None:
                return found.extraneous  # an inline shard knows nothing of its neighbours
            whole = Manifest.from_reference(reference, store=self._store)
        extraneous = missing_in_manifest(found.extraneous, whole, self._request.strip_prefix)
        if not self._request.delete_extraneous:
            return extraneous
        self._accounts.deleted = remove_files(workspace.tree, extraneous)
        return []

    def _counts(self, dispatcher: Dispatcher | None) -> RequestCounts:
        counts = self._store.counts() + self._tidy_store.counts()
        return counts if dispatcher is None else counts + dispatcher.counts()

    def _emit(self, stage_name: str, text: str) -> None:
        self._context.emit(Progress(stage=stage_name, text=text))


def _role(process: tuple[str, Usage]) -> str:
    return process[0]


@contextmanager
def _opened(path: str) -> Iterator[int | None]:
    """Open an existing directory; None if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
