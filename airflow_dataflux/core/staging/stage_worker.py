"""What a worker of a staging does: it fetches batches into a tree, and large objects range by range."""

from __future__ import annotations

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.runtime.workers import WorkerLink
from airflow_dataflux.core.staging.batching import BatchKind
from airflow_dataflux.core.staging.fetch_worker import BucketAccess, WorkAnswer, WorkerThreads, run_worker
from airflow_dataflux.core.staging.localfile import DestinationTree, TreeWriter
from airflow_dataflux.core.staging.messages import Assignment, WorkerSetup
from airflow_dataflux.core.staging.ranged import RangedObject
from airflow_dataflux.core.staging.strategy import ChooserInputs, StrategyChooser
from airflow_dataflux.core.staging.transfer import BatchResult, Cutting, Transfer, cutting_at_once


class StageSetup(WorkerSetup[StageRequest], frozen=True, kw_only=True):
    """The setup of a staging's worker.

    Attributes:
        root: existing directory to build in; not the request's, as long as a new tree is being made.
        scope: begins the names of temporary files.
        chooser_inputs: what the way of each group is chosen by; None: all are composed.
    """

    root: str
    scope: str
    chooser_inputs: ChooserInputs | None


def stage_worker(link: WorkerLink) -> None:
    """Run a staging worker until it is told to finish."""
    run_worker(link, StageSetup, _stage)


def _stage(setup: StageSetup, access: BucketAccess, threads: WorkerThreads) -> None:
    request = setup.request
    tree = DestinationTree(setup.root, setup.scope, request.receipt_directory, destination=request.destination)
    try:
        transfer = Transfer(
            access.reader,
            access.composing_store,
            lambda: TreeWriter(tree),
            access.registry,
            setup.names,
            request.strip_prefix,
            Cutting(cutting_at_once(tree.seconds_a_file())),
            None if setup.chooser_inputs is None else StrategyChooser(setup.chooser_inputs, setup.threads),
            threads.enqueue,
        )

        def work(assignment: Assignment, answer: WorkAnswer) -> None:
            batch = assignment.work
            if batch.kind is not BatchKind.RANGED:
                answer.done(transfer.run(batch, assignment.round_))
                return

            def on_done(result: BatchResult | BaseException) -> None:
                answer.done(result) if isinstance(result, BatchResult) else answer.failed(result)

            RangedObject(transfer, batch, enqueue=threads.enqueue, on_done=on_done).start()

        threads.serve(work)
    finally:
        tree.close()
