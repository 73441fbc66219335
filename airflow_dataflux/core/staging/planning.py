"""From what was found to a plan: how to fetch, how much at once, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.staging.choice import Circumstances, composing_is_faster, largest_composed_object
from airflow_dataflux.core.staging.plan import DIRECT_BATCH_OBJECTS, RANGE_BYTES, Batch, BatchKind, Planner, PlanRules
from airflow_dataflux.core.staging.preflight import BucketFindings
from airflow_dataflux.core.staging.survey import ObjectStates, Survey
from airflow_dataflux.core.staging.transfer import Outcome
from airflow_dataflux.core.staging.ways import Ways

DEFAULT_IN_FLIGHT = 160
"""Requests in flight in all: a composite takes a quarter of a second, most of it waiting, so that many of them are 600
composites and deletions each a second, which is what a bucket bears at first. docs/decisions/0006 has the figures."""

_BATCHES_EACH = 4
"""Direct batches for each thread: enough that the last ones to end keep the others waiting only briefly."""


@dataclass(slots=True)
class FetchPlan:
    """How the objects of a survey are fetched.

    Attributes:
        rules: the planner's.
        ways: chooses for each group that may be composed; None where the strategy leaves no choice.
        in_flight: requests in flight in all.
        line: the decision, for the log and the receipt.
        reasons: why objects are read directly; filled while batches are taken.
    """

    manifest: Manifest
    states: ObjectStates
    rules: PlanRules
    ways: Ways | None
    in_flight: int
    line: str
    reasons: Counter[str]

    def batches(self, stop_composing: Callable[[], str]) -> Iterator[Batch]:
        """Yield all batches, planned as they are taken.

        `stop_composing` returns a reason from the moment on at which no more composites should be planned.
        """
        planner = Planner(self.rules, self.ways)
        self.reasons = planner.reasons
        first, composing = 0, self.rules.compose
        for rows in self.manifest.batches():
            wanted = self.states.wanted(first, rows.num_rows)
            for batch in planner.add(rows, first, wanted):
                yield batch
                if composing and (reason := stop_composing()):
                    composing = False
                    yield from planner.stop_composing(reason)
            first += rows.num_rows
        yield from planner.finish()

    def learn(self, batch: Batch, outcome: Outcome) -> None:
        """Take from a batch that came back how long its way takes."""
        composed = batch.kind is BatchKind.COMPOSITE
        if self.ways is not None and (composed or batch.kind is BatchKind.DIRECT):
            self.ways.took(batch.sizes, outcome.compose_s + outcome.read_s, composed=composed)


def make_plan(
    manifest: Manifest, request: StageRequest, found: Survey, findings: BucketFindings, *, workers: int
) -> FetchPlan:
    """Decide how to fetch what a survey found."""
    in_flight = request.max_in_flight or DEFAULT_IN_FLIGHT
    # A large object is several requests.
    in_flight = max(1, min(in_flight, found.fetch_count + found.fetch_bytes // RANGE_BYTES))
    around = Circumstances(in_flight=in_flight, workers=max(1, workers), soft_delete_s=findings.soft_delete_s)
    compose, reason, max_object_bytes = _choose(request, found, findings, around)
    threads_full = found.fetch_count // (in_flight * _BATCHES_EACH)
    rules = PlanRules(
        compose=compose,
        no_compose_reason=reason,
        max_composite_bytes=request.max_composite_bytes,
        max_object_bytes=max_object_bytes,
        direct_objects=max(1, min(DIRECT_BATCH_OBJECTS, threads_full)),
    )
    ways = None
    if compose and request.strategy == "auto":
        ways = Ways(around, found.sizes.up_to(max_object_bytes or request.max_composite_bytes))
    how = f"composites of objects up to {max_object_bytes or request.max_composite_bytes} bytes" if compose else reason
    line = (
        f"plan: {found.fetch_count} objects ({found.fetch_bytes} bytes) to fetch, {found.reused} reused; strategy "
        f"{request.strategy}: {how}; {in_flight} requests in flight"
    )
    return FetchPlan(manifest, found.states, rules, ways, in_flight, line, Counter())


def _choose(
    request: StageRequest, found: Survey, findings: BucketFindings, around: Circumstances
) -> tuple[bool, str, int | None]:
    """Return whether to compose, why not, and the largest object to compose."""
    if request.strategy == "direct":
        return False, "direct reads were asked for", None
    if not findings.compose:
        return False, findings.no_compose_reason, None
    if request.strategy == "compose":
        return True, "", None
    largest = largest_composed_object(around)
    if not largest:
        return False, "composing costs more than it saves here", None
    count = found.sizes.up_to(largest)
    if not composing_is_faster(count, around):
        return False, "too few small objects for composing to pay", None
    return True, "", largest
