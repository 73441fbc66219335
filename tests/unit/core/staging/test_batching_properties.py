"""Whatever the objects: each is in exactly one batch, and no composite breaks a rule."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core.arrow import ROW_SCHEMA
from airflow_dataflux.core.staging.batching import COLD_CLASSES, Batch, Batcher, BatchKind, BatchRules
from airflow_dataflux.core.staging.cost import Prices, estimate
from airflow_dataflux.core.staging.strategy import (
    AUTO_MAX_OBJECT_BYTES,
    RunConditions,
    SizeHistogram,
    composing_is_faster,
    largest_composed_object,
)

CLASSES = st.sampled_from(["STANDARD", "STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "REGIONAL"])
OBJECTS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 3), st.integers(0, 5000)),
        CLASSES,
        st.sampled_from([None, None, None, "gzip"]),
        st.booleans() | st.just(True),
    ),
    max_size=150,
)
RULES = st.builds(
    BatchRules,
    compose=st.booleans() | st.just(True),
    max_composite_bytes=st.integers(1, 20_000),
    max_object_bytes=st.none() | st.integers(0, 3000),
    direct_objects=st.integers(1, 16),
    ranged_bytes=st.integers(1000, 6000),
)
Spec = tuple[int, str, str | None, bool]


def rows_of(objects: list[Spec]) -> pa.RecordBatch:
    columns = [
        [f"n{index:06}" for index in range(len(objects))],
        [size for size, *_ in objects],
        [index + 1 for index in range(len(objects))],
        [7 if has_crc else None for *_, has_crc in objects],
        [storage_class for _, storage_class, *_ in objects],
        [datetime(2026, 1, 1, tzinfo=UTC)] * len(objects),
        [None] * len(objects),
        [encoding for _, _, encoding, _ in objects],
    ]
    return pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, ROW_SCHEMA, strict=True)], schema=ROW_SCHEMA)


def plan(
    objects: list[Spec],
    rules: BatchRules,
    cuts: list[int],
    wanted: list[bool] | None = None,
    stop_after: int = -1,
) -> tuple[list[Batch], Counter[str]]:
    planner, rows = Batcher(rules), rows_of(objects)
    batches: list[Batch] = []
    edges = sorted({0, len(objects), *(cut % (len(objects) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        flags = None if wanted is None else pa.array(wanted[start:end], pa.bool_())
        batches += planner.add(rows.slice(start, end - start), start, flags)
        if len(batches) > stop_after >= 0:
            batches += planner.stop_composing("enough")
            stop_after = -1
    return batches + list(planner.finish()), planner.reasons


@given(OBJECTS, RULES, st.lists(st.integers(0, 1000), max_size=4), st.data())
def test_every_wanted_object_is_in_exactly_one_batch_as_it_was_listed(
    objects: list[Spec], rules: BatchRules, cuts: list[int], data: st.DataObject
) -> None:
    wanted = data.draw(st.none() | st.lists(st.booleans(), min_size=len(objects), max_size=len(objects)))
    batches, _ = plan(objects, rules, cuts, wanted, data.draw(st.integers(-1, 3)))
    seen = [ordinal for batch in batches for ordinal in batch.ordinals]
    assert sorted(seen) == [index for index in range(len(objects)) if wanted is None or wanted[index]]
    assert [batch.number for batch in batches] == list(range(len(batches)))
    for batch in batches:
        for ordinal, name, size, generation, crc in zip(
            batch.ordinals, batch.names, batch.sizes, batch.generations, batch.crcs, strict=True
        ):
            assert (name, size, generation, crc) == (
                f"n{ordinal:06}",
                objects[ordinal][0],
                ordinal + 1,
                7 if objects[ordinal][3] else None,
            )


@given(OBJECTS, RULES, st.lists(st.integers(0, 1000), max_size=4))
def test_no_composite_breaks_a_rule(objects: list[Spec], rules: BatchRules, cuts: list[int]) -> None:
    batches, _ = plan(objects, rules, cuts)
    for batch in batches:
        if batch.kind is not BatchKind.COMPOSITE:
            continue
        assert rules.compose
        assert 2 <= len(batch.names) <= 32
        assert batch.total_bytes <= rules.max_composite_bytes
        assert {objects[ordinal][1] for ordinal in batch.ordinals} == {batch.storage_class}
        assert batch.storage_class not in COLD_CLASSES
        assert all(objects[ordinal][2] is None and objects[ordinal][3] for ordinal in batch.ordinals)
        assert rules.max_object_bytes is None or max(batch.sizes) <= rules.max_object_bytes


@given(OBJECTS, RULES, st.lists(st.integers(0, 1000), max_size=4))
def test_every_object_read_directly_has_a_reason_and_large_ones_are_ranged(
    objects: list[Spec], rules: BatchRules, cuts: list[int]
) -> None:
    batches, reasons = plan(objects, rules, cuts)
    by_kind = Counter({kind: sum(len(b.names) for b in batches if b.kind is kind) for kind in BatchKind})
    assert sum(reasons.values()) == by_kind[BatchKind.DIRECT] + by_kind[BatchKind.RANGED]
    for batch in batches:
        if batch.kind is BatchKind.RANGED:
            assert len(batch.sizes) == 1
            assert batch.sizes[0] > rules.ranged_bytes
        if batch.kind is BatchKind.DIRECT:
            assert max(batch.sizes) <= rules.ranged_bytes
            assert len(batch.sizes) <= rules.direct_objects


@given(OBJECTS, RULES, st.lists(st.integers(0, 1000), max_size=4))
def test_the_plan_does_not_depend_on_how_the_manifest_is_cut_into_batches(
    objects: list[Spec], rules: BatchRules, cuts: list[int]
) -> None:
    assert plan(objects, rules, cuts) == plan(objects, rules, [])


def test_a_thousand_small_objects_become_full_composites() -> None:
    batches, reasons = plan([(10, "STANDARD", None, True)] * 1000, BatchRules(compose=True), [])
    assert [len(batch.names) for batch in batches] == [32] * 31 + [8]
    assert not reasons


@given(st.integers(1, 512), st.integers(1, 64), st.integers(0, 90 * 86400))
def test_longer_soft_delete_never_raises_the_size_that_is_composed(
    in_flight: int, workers: int, soft_delete_s: int
) -> None:
    shorter = largest_composed_object(RunConditions(in_flight=in_flight, workers=workers, soft_delete_s=soft_delete_s))
    longer = largest_composed_object(
        RunConditions(in_flight=in_flight, workers=workers, soft_delete_s=soft_delete_s + 86400)
    )
    assert 0 <= longer <= shorter <= AUTO_MAX_OBJECT_BYTES


def test_seven_days_of_soft_delete_put_the_break_even_near_the_published_53_kb() -> None:
    # With a second worth nothing, only dollars count: gcs.md works out 53 KB.
    worthless = RunConditions(in_flight=64, soft_delete_s=7 * 86400, second_usd=0.0)
    assert 45_000 < largest_composed_object(worthless) < 60_000


def test_a_handful_of_objects_is_read_directly_and_thousands_are_composed() -> None:
    around = RunConditions(in_flight=96, workers=2)
    assert not composing_is_faster(0, around)
    assert not composing_is_faster(111, around)
    assert composing_is_faster(11_098, around)


@given(st.lists(st.integers(1, 1 << 40), max_size=50), st.integers(0, 41))
def test_the_histogram_counts_what_is_up_to_a_power_of_two(sizes: list[int], power: int) -> None:
    histogram = SizeHistogram()
    histogram.add(sizes)
    assert histogram.up_to(1 << power) == sum(size <= 1 << power for size in sizes)


def test_a_million_objects_of_a_megabyte_cost_what_was_worked_out() -> None:
    direct = estimate(
        Prices(),
        class_a=0,
        class_b=1_000_000,
        composed_bytes=0,
        soft_delete_s=7 * 86400,
        bytes_by_class={"STANDARD": 10**12},
    )
    composed = estimate(
        Prices(),
        class_a=31_250,
        class_b=31_250,
        composed_bytes=10**12,
        soft_delete_s=7 * 86400,
        bytes_by_class={"STANDARD": 10**12},
    )
    assert round(direct.total, 2) == 0.40
    assert round(composed.total, 2) == 4.46


def test_reading_cold_objects_costs_their_retrieval() -> None:
    costs = estimate(
        Prices(),
        class_a=0,
        class_b=0,
        composed_bytes=0,
        soft_delete_s=0,
        bytes_by_class={"ARCHIVE": 2 << 30, "STANDARD": 1 << 40},
    )
    assert costs.total == costs.retrieval == 0.1
    assert sum(costs.items().values()) == costs.total
