"""What a report is made of: series, bars and counts stay small, and lose nothing."""

from __future__ import annotations

import pickle
import random
import time

import msgspec
import pyarrow as pa
import pytest

from airflow_dataflux.core.report.activity import BUCKETS, MOST_MARKS, MOST_SPANS, Series, SpanKind, SpanLog
from airflow_dataflux.core.report.object_statistics import ObjectStatistics
from airflow_dataflux.core.staging.batching import Batch, BatchKind
from airflow_dataflux.core.staging.recorder import StagingRecorder
from airflow_dataflux.core.staging.transfer import BatchResult


@pytest.mark.parametrize("seconds", [0.01, 1.0, 90.0, 40_000.0])
def test_a_series_of_any_length_keeps_its_total_and_its_size(seconds: float) -> None:
    series, dice = Series(), random.Random(1)
    for _ in range(2000):
        series.add(dice.uniform(0, seconds), 3)
        start = dice.uniform(-0.01, seconds)
        series.spread(start, start + dice.uniform(0, seconds / 10), 2)
    assert series.total == pytest.approx(2000 * 5)
    rates = series.per_second(seconds * 1.1)
    assert len(rates) <= BUCKETS
    assert sum(rates) * series.width_s >= series.total * 0.999


def test_a_rate_is_that_of_its_stretch_of_time() -> None:
    series = Series(buckets=4, width_s=1.0)
    series.spread(1.0, 3.0, 10)
    assert list(series.per_second(4.0))[:4] == pytest.approx([0, 5, 5, 0])
    series.add(7.5, 8)  # beyond the last bucket: each is twice as wide now
    assert series.width_s == 2.0
    assert list(series.per_second(8.0))[:4] == pytest.approx([2.5, 2.5, 0, 4])


def test_series_of_jobs_add_up() -> None:
    early, late = Series(), Series()
    early.spread(0.0, 2.0, 100)
    late.spread(2.0, 900.0, 400)
    early.add_all(late)
    assert early.total == pytest.approx(500)


def test_bytes_of_a_composite_batch_are_told_by_the_way_that_each_object_came() -> None:
    recorder = StagingRecorder(time.monotonic() - 1.0)
    names = ("a", "b", "c")
    batch = Batch(0, BatchKind.COMPOSITE, "STANDARD", (0, 1, 2), names, (10, 20, 30), (1, 1, 1), (1, 2, 3))
    recorder.batch(batch, BatchResult(0, ordinals=[0, 1, 2], downloaded_bytes=60, direct_bytes=50))
    recorder.batch(msgspec.structs.replace(batch, kind=BatchKind.DIRECT), BatchResult(1, [3], [1], [1], 7, 7))
    told = {kind: series.total for kind, series in recorder.bytes_by_kind.items() if series.total}
    assert told == pytest.approx({BatchKind.COMPOSITE: 10, BatchKind.DIRECT: 57})


def test_streams_take_the_first_free_lane_of_their_worker() -> None:
    log = SpanLog()
    log.begin(1, 0, 0.0, low="a", high=None)
    log.begin(2, 0, 0.0, low="m", high=None)
    log.begin(3, 1, 0.0, low="x", high=None)
    log.end(1, 1.0)
    log.begin(4, 0, 1.5, low="c", high="m", probe=True)
    log.close(2.0)
    lanes = {span.low: (span.worker, span.lane) for span in log.spans}
    assert lanes == {"a": (0, 0), "m": (0, 1), "x": (1, 0), "c": (0, 0)}
    assert log.lanes == {0: 2, 1: 1}


def test_a_lost_worker_ends_its_bars_and_no_others() -> None:
    log = SpanLog()
    log.begin(1, 0, 0.0, low="a", high="m")
    log.begin(2, 1, 0.0, low="m", high=None)
    log.lose(0, 3.0)
    log.end(2, 4.0)
    assert [(span.low, span.kind, span.end_s) for span in log.spans] == [
        ("a", SpanKind.LOST, 3.0),
        ("m", SpanKind.LISTED, 4.0),
    ]


def test_a_steal_is_marked_where_its_victim_is_at_work() -> None:
    log = SpanLog()
    log.begin(1, 0, 0.0, low="a", high=None)
    log.shrunk(1, 0.5, "k")
    log.shrunk(99, 0.6, "k")  # of a range that has ended
    log.end(1, 1.0)
    assert (log.spans[0].high, log.mark_count, log.marks[0].at_s) == ("k", 1, 0.5)


@pytest.mark.parametrize("pause_s", [0.0, 0.001, 5.0])
def test_bars_of_a_huge_run_are_merged_and_nothing_is_lost(pause_s: float) -> None:
    log, ranges = SpanLog(), 20_000
    for number in range(ranges):
        at_s = (number // 8) * (0.1 + pause_s)
        log.begin(number, 0, at_s, low=f"{number:06}", high=f"{number + 1:06}")
        log.listed(number, at_s + 0.05, 7)
        log.shrunk(number, at_s + 0.06, f"{number + 1:06}")
        if number % 8 == 7:
            for each in range(number - 7, number + 1):
                log.end(each, at_s + 0.1)
    assert len(log.spans) <= MOST_SPANS
    assert sum(span.count for span in log.spans) == ranges
    assert sum(span.objects for span in log.spans) == 7 * ranges
    assert sum(span.pages for span in log.spans) == ranges
    assert (len(log.marks), log.mark_count, log.lanes) == (MOST_MARKS, ranges, {0: 8})
    assert len(pickle.dumps(log)) < 200_000


def rows(sizes: list[int], classes: list[str]) -> pa.RecordBatch:
    return pa.record_batch({"size": pa.array(sizes, pa.int64()), "storage_class": classes})


def test_a_census_counts_every_object_by_size_and_class() -> None:
    dice = random.Random(2)
    sizes = [0, 1, 2, 3, 4, 1023, 1024, 1025, (1 << 40) - 1, 1 << 40, (1 << 62)]
    sizes += [int(dice.lognormvariate(9, 4)) for _ in range(20_000)]
    classes = [dice.choice(["STANDARD", "NEARLINE"]) for _ in sizes]
    object_statistics = ObjectStatistics()
    for start in range(0, len(sizes), 999):
        object_statistics.add(rows(sizes[start : start + 999], classes[start : start + 999]))
    object_statistics.add(rows([], []))
    whole = ObjectStatistics()
    whole.merge(pickle.loads(pickle.dumps(object_statistics)))
    expected: dict[int, int] = {}
    for size in sizes:
        expected[size.bit_length()] = expected.get(size.bit_length(), 0) + 1
    assert whole.sizes == expected
    for name in ("STANDARD", "NEARLINE"):
        mine = [size for size, one in zip(sizes, classes, strict=True) if one == name]
        assert (whole.classes[name], whole.bytes_by_class[name]) == (len(mine), sum(mine))


def test_a_census_of_one_class_and_of_nothing() -> None:
    object_statistics = ObjectStatistics()
    assert (object_statistics.count().sizes, object_statistics.classes) == ({}, {})
    object_statistics.add(rows([5, 6], ["ARCHIVE", "ARCHIVE"]))
    assert (object_statistics.count().sizes, object_statistics.classes, object_statistics.bytes_by_class) == (
        {3: 2},
        {"ARCHIVE": 2},
        {"ARCHIVE": 11},
    )
