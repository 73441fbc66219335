"""Stage a manifest: put its objects on local disk, verified, and leave a receipt. The task's side.

Nothing changed? One stat per object, against the receipt, shows it; then this is all. Else `run.py` does the work, in
an engine process if there is enough of it.

Whatever ends a staging early, no composite of this attempt stays without being named, and no file is half-made. What
was fetched stays, and the next try finds it.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.errors import (
    DestinationBusyError,
    StagingError,
)
from airflow_dataflux.core.gcs.store import StoreFactory
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.report.formatting import plural
from airflow_dataflux.core.report.report_info import ReportInfo
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.jobs import run_job
from airflow_dataflux.core.runtime.progress import Progress, RunStatistics
from airflow_dataflux.core.runtime.tokens import TokenSource
from airflow_dataflux.core.runtime.workers import Job
from airflow_dataflux.core.staging import strategy
from airflow_dataflux.core.staging.destination_scan import (
    unchanged_since,
)
from airflow_dataflux.core.staging.localfile import DestinationTree
from airflow_dataflux.core.staging.messages import RunPayload
from airflow_dataflux.core.staging.receipt import Receipt
from airflow_dataflux.core.staging.recorder import StagingRecorder
from airflow_dataflux.core.staging.run import run_staging
from airflow_dataflux.core.staging.stage_worker import stage_worker
from airflow_dataflux.core.staging.stats import StagingFigures, scope_of

if TYPE_CHECKING:
    from airflow_dataflux.core.runtime.progress import Observer

_LOG = logging.getLogger(__name__)

_RACES = 3
"""How often another staging may make the destination first."""


def stage(
    manifest: Manifest,
    request: StageRequest,
    *,
    store_config: StoreFactory,
    tokens: TokenSource,
    cancel: CancelToken | None = None,
    observer: Observer | None = None,
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
        observer: called in the calling thread with `Progress` every few seconds, with `ReportInfo` once a report is
            beside the receipt, and with `RunStatistics` at the end.
        isolated: use an engine process with worker processes if there is enough to do; else threads of this process.

    Raises:
        DestinationError, UnsafeNameError, InsufficientSpaceError: found before anything was fetched (space: possibly
            later, if others use it up).
        DeletionRefusedError: `delete_extraneous` would have left no file at the destination.
        BucketNotFoundError, PermissionDeniedError, AuthenticationError: before anything was fetched.
        ObjectsChangedError: objects changed since they were listed, and `on_changed_object` is "fail".
        VerificationError: an object arrived wrong twice.
        UnavailableError, EngineError: worth another try, which goes on where this one ended.
        CancelledError: `cancel` was set.
    """
    cancel = cancel or CancelToken()
    observe = observer or (lambda _event: None)
    request = replace(request, destination=os.path.normpath(request.destination))
    recorder = StagingRecorder(time.monotonic())
    figures = StagingFigures(manifest, request, recorder)
    with recorder.phase("survey"):
        unchanged = unchanged_since(manifest, request, scope_of(manifest))
    if unchanged is not None:
        known = figures.unchanged_receipt(*unchanged)
        observe(
            Progress(
                stage="summary", text=f"{request.destination} is up to date: {plural(len(manifest), 'object')} reused"
            )
        )
        info = _unchanged_report(recorder, known, request) if request.report else None
        if info is not None:
            observe(info)
        observe(RunStatistics(kind="staging", figures=known.summary()))
        return known
    payload = RunPayload(
        reference=manifest.reference(), request=request, store_config=store_config, started=recorder.started
    )
    worth_it = isolated and strategy.engine_pays(len(manifest), manifest.total_bytes, request.strategy)
    in_process = request.dry_run or not worth_it
    job = Job(
        run=run_staging,
        worker_body=stage_worker,
        workers=0 if request.dry_run else 1 if in_process else request.workers,
        payload=payload,
    )

    def on_event(event: object) -> None:
        if isinstance(event, Progress | ReportInfo):
            observe(event)

    for _ in range(_RACES):
        result = run_job(job, tokens=tokens, cancel=cancel, on_event=on_event, isolated=not in_process)
        if isinstance(result, Receipt):
            observe(RunStatistics(kind="staging", figures=result.summary()))
            return result
        # Another staging made the destination meanwhile. Now it exists, so this one goes on in place, and links what
        # it has fetched already.
    raise DestinationBusyError(
        f"{request.destination} was made and removed by others {_RACES} times while it was staged. Run again, or give "
        "each run a destination of its own.",
        path=request.destination,
    )


def _unchanged_report(recorder: StagingRecorder, receipt: Receipt, request: StageRequest) -> ReportInfo | None:
    """Write the report of a staging that had nothing to do: it is that of this run, not of the one that fetched."""
    from airflow_dataflux.core.staging.staging_report import StagingHistory, write_report

    try:
        tree = DestinationTree(request.destination, receipt_directory=request.receipt_directory)
    except (OSError, StagingError) as error:
        _LOG.warning("The report of the staging could not be written below %s: %s", request.destination, error)
        return None
    history = StagingHistory(recorder=recorder, found=None)
    try:
        tree.remove_left()
        return write_report(tree, receipt, history, request.identity.run)
    finally:
        tree.close()
