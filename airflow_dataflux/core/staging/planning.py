"""From what was found to a plan: how to fetch, how much at once, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from airflow_dataflux.core.config import StageRequest, Strategy
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.staging.batching import (
    DIRECT_BATCH_OBJECTS,
    RANGE_BYTES,
    Batch,
    Batcher,
    BatchRules,
)
from airflow_dataflux.core.staging.destination_scan import ObjectStates, ScanResult
from airflow_dataflux.core.staging.preflight import BucketFindings
from airflow_dataflux.core.staging.strategy import (
    ChooserInputs,
    RunConditions,
    SizeHistogram,
    composing_is_faster,
    largest_composed_object,
)
from airflow_dataflux.core.staging.transfer import BatchResult, ComposeRefusals

DEFAULT_IN_FLIGHT = 160
"""Requests in flight in all: a composite takes a quarter of a second, most of it waiting, so that many of them are 600
composites and deletions each a second, which is what a bucket bears at first. docs/decisions/0006 has the figures."""

_BATCHES_EACH = 4
"""Direct batches for each thread: enough that the last ones to end keep the others waiting only briefly."""


class FetchPlan(msgspec.Struct):
    """How the objects that a scan found missing are fetched.

    Attributes:
        rules: the planner's.
        chooser_inputs: what workers choose the way of each group by; None where the strategy leaves no choice.
        in_flight: requests in flight in all.
        line: the decision, for the log and the receipt.
        reasons: why objects are read directly; filled while batches are taken.
    """

    manifest: Manifest
    states: ObjectStates
    rules: BatchRules
    chooser_inputs: ChooserInputs | None
    in_flight: int
    line: str
    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    _refusals: ComposeRefusals = msgspec.field(default_factory=ComposeRefusals)

    def batches(self) -> Iterator[Batch]:
        """Yield all batches, planned as they are taken; what `learn` was told meanwhile decides how."""
        planner = Batcher(self.rules)
        self.reasons = planner.reasons
        first, composing = 0, self.rules.compose
        for rows in self.manifest.batches():
            wanted = self.states.wanted(first, rows.num_rows)
            for batch in planner.add(rows, first, wanted):
                yield batch
                if composing and (reason := self._refusals.stop_reason):
                    composing = False
                    yield from planner.stop_composing(reason)
            first += rows.num_rows
        yield from planner.finish()

    def learn(self, result: BatchResult) -> None:
        """Take from a batch that came back whether it could be composed."""
        self._refusals.count(result)


def make_plan(
    manifest: Manifest, request: StageRequest, found: ScanResult, findings: BucketFindings, *, workers: int
) -> FetchPlan:
    """Decide how to fetch what a scan found missing."""
    in_flight = request.max_in_flight or DEFAULT_IN_FLIGHT
    # A large object is several requests.
    in_flight = max(1, min(in_flight, found.fetch_count + found.fetch_bytes // RANGE_BYTES))
    conditions = RunConditions(in_flight=in_flight, workers=max(1, workers), soft_delete_s=findings.soft_delete_s)
    compose, reason, max_object_bytes = choose_composing(request.strategy, found.sizes, findings, conditions)
    threads_full = found.fetch_count // (in_flight * _BATCHES_EACH)
    rules = BatchRules(
        compose=compose,
        no_compose_reason=reason,
        max_composite_bytes=request.max_composite_bytes,
        max_object_bytes=max_object_bytes,
        decompress=request.decompress,
        direct_objects=max(1, min(DIRECT_BATCH_OBJECTS, threads_full)),
    )
    chooser_inputs = None
    if compose and request.strategy == "auto":
        count = found.sizes.up_to(max_object_bytes or request.max_composite_bytes)
        chooser_inputs = ChooserInputs(conditions=conditions, count=count)
    how = f"composites of objects up to {max_object_bytes or request.max_composite_bytes} bytes" if compose else reason
    line = (
        f"plan: {found.fetch_count} objects ({found.fetch_bytes} bytes) to fetch, {found.reused} reused; strategy "
        f"{request.strategy}: {how}; {in_flight} requests in flight"
    )
    return FetchPlan(manifest, found.states, rules, chooser_inputs, in_flight, line)


def choose_composing(
    strategy: Strategy, sizes: SizeHistogram, findings: BucketFindings, conditions: RunConditions
) -> tuple[bool, str, int | None]:
    """Return whether to compose, why not, and the largest object to compose."""
    if strategy == "direct":
        return False, "direct reads were asked for", None
    if not findings.compose:
        return False, findings.no_compose_reason, None
    if strategy == "compose":
        return True, "", None
    largest = largest_composed_object(conditions)
    if not largest:
        return False, "composing costs more than it saves here", None
    if not composing_is_faster(sizes.up_to(largest), conditions):
        return False, "too few small objects for composing to pay", None
    return True, "", largest
