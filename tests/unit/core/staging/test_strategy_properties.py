"""How `auto` chooses, in virtual time over a grid of regimes, and whatever was measured."""

from __future__ import annotations

from itertools import product

import pytest
import simulated_staging
from hypothesis import given
from hypothesis import strategies as st
from simulated_staging import DIRECT_CPU_S, Regime, simulate

from airflow_dataflux.core.gcs.store import MAX_COMPONENTS, Pace
from airflow_dataflux.core.staging.strategy import (
    AWAITED,
    FASTER_DIRECTLY,
    PROBED,
    WRITES_LIMITED,
    ChooserInputs,
    RunConditions,
    StrategyChooser,
    help_pays,
)

KIB, MIB = 1 << 10, 1 << 20
SMALL = [10_240] * MAX_COMPONENTS
FREE = Pace()
SECONDS = st.floats(0.001, 100.0)

LATENCIES = list(product((0.005, 0.040, 0.200), (0.060, 0.120, 0.300, 0.800)))
LIMITS = list(product((None, 50.0, 500.0), (None, 200.0, 2000.0)))


def ratio(regime: Regime) -> float:
    """Return the time of `auto` to that of the better of both ways."""
    return simulate(regime).seconds / min(simulate(regime, way).seconds for way in ("compose", "direct"))


@pytest.mark.parametrize(("writes_per_s", "reads_per_s"), LIMITS)
def test_auto_is_within_a_tenth_of_the_better_way(writes_per_s: float | None, reads_per_s: float | None) -> None:
    for read_s, compose_s in LATENCIES:
        regime = Regime(read_s=read_s, compose_s=compose_s, writes_per_s=writes_per_s, reads_per_s=reads_per_s)
        assert ratio(regime) <= 1.1, regime


@pytest.mark.parametrize(("count", "size"), [(11_098, KIB), (4000, 100 * KIB), (600, MIB)])
@pytest.mark.parametrize(("writes_per_s", "reads_per_s"), [(50.0, 2000.0), (100.0, 2000.0), (50.0, 200.0)])
def test_composes_under_way_when_a_low_limit_is_found_do_not_make_a_staging_slower(
    count: int, size: int, writes_per_s: float, reads_per_s: float
) -> None:
    regime = Regime(count=count, size=size, writes_per_s=writes_per_s, reads_per_s=reads_per_s)
    assert ratio(regime) <= 1.05


@pytest.mark.parametrize("read_s", [0.005, 0.040, 0.200])
def test_threads_wait_for_a_first_answer_no_longer_than_one_is_expected_to_take(read_s: float) -> None:
    for count in (3200, 4000, 4800, 6400):
        regime = Regime(count=count, size=100 * KIB, read_s=read_s, compose_s=0.8)
        assert ratio(regime) <= 1.05, regime


@pytest.mark.parametrize("read_s", [0.005, 0.040, 0.200])
def test_idle_threads_read_large_objects_while_composites_are_awaited(read_s: float) -> None:
    for compose_s in (0.12, 0.3, 0.8):
        regime = Regime(count=600, size=MIB, read_s=read_s, compose_s=compose_s)
        found, composed = simulate(regime), simulate(regime, "compose")
        assert found.seconds <= 0.9 * composed.seconds, regime
        assert found.reasons[AWAITED] >= 100, regime
        # A compose that was sent is waited for, however soon all objects are there.
        slowest_s = 1.2 * (compose_s + MAX_COMPONENTS * 0.003)
        assert found.seconds <= max(slowest_s, 600 * DIRECT_CPU_S + 4 * read_s) + 0.1, regime


def test_small_objects_are_left_to_their_composites() -> None:
    assert AWAITED not in simulate(Regime(count=2000, compose_s=0.8)).reasons
    assert help_pays([400_000, 400_000])
    assert not help_pays([390_000, 390_000])


@pytest.mark.parametrize("reads_per_s", [100.0, 200.0, 2000.0])
@pytest.mark.parametrize("writes_per_s", [50.0, 500.0, None])
def test_where_requests_are_limited_helpers_delay_nothing(
    writes_per_s: float | None, reads_per_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"writes_per_s": writes_per_s, "reads_per_s": reads_per_s}
    regimes = [Regime(count=count, size=MIB, **limits) for count in (320, 600, 2000)]
    helped = [simulate(regime).seconds for regime in regimes]
    monkeypatch.setattr(simulated_staging, "help_pays", lambda _sizes: False)
    alone = [simulate(regime).seconds for regime in regimes]
    assert all(with_help <= 1.05 * without for with_help, without in zip(helped, alone, strict=True)), (helped, alone)


@pytest.mark.parametrize("size", [KIB, 100 * KIB, MIB])
@pytest.mark.parametrize(
    "other", [{"file_s": 0.0007}, {"file_s": 0.003}, {"busy": 2.0}, {"busy": 4.0}, {"stalls": 0.01}]
)
def test_a_slow_disk_busy_processors_and_stalls_change_nothing(size: int, other: dict[str, float]) -> None:
    for read_s, compose_s in ((0.005, 0.060), (0.040, 0.120), (0.200, 0.300)):
        regime = Regime(size=size, read_s=read_s, compose_s=compose_s, **other)
        found = simulate(regime)
        assert found.reasons[FASTER_DIRECTLY] <= 0.02 * regime.count, regime
        assert ratio(regime) <= 1.1, regime


def test_at_the_usual_latencies_nearly_all_is_composed_and_a_few_objects_are_read_to_measure() -> None:
    found = simulate(Regime())
    assert set(found.reasons) == {PROBED}
    assert 8 <= found.reasons[PROBED] <= 8 + 11_098 // MAX_COMPONENTS // 64


def test_where_writes_are_limited_both_budgets_are_used() -> None:
    regime = Regime(count=40_000, writes_per_s=50, reads_per_s=200)
    found = simulate(regime)
    both = 25 * MAX_COMPONENTS + 200
    assert regime.count / found.seconds >= 0.85 * both
    assert found.reasons[WRITES_LIMITED] > 500


def test_no_more_is_composed_than_can_be_deleted_soon() -> None:
    """Deletions take the same writes. They waited until all else was done: 3 s of 7, with 50 writes a second."""
    chooser = StrategyChooser(ChooserInputs(conditions=RunConditions(in_flight=160), count=11_098), threads=160)
    limited = Pace(found_per_s=50, kept_per_s=50, turn_s=0.0)
    assert chooser.first(SMALL, FREE, limited, undeleted=20).direct == 0
    assert chooser.first(SMALL, FREE, limited, undeleted=60).reason == WRITES_LIMITED
    assert chooser.following(SMALL, FREE, limited, undeleted=60).reason == WRITES_LIMITED


def test_composing_that_became_slow_is_left_and_found_again() -> None:
    chooser = StrategyChooser(ChooserInputs(conditions=RunConditions(in_flight=4), count=100_000), threads=4)

    def fetch(composed_s: float) -> int:
        """Fetch a group; return how many objects were composed."""
        left, choose = list(SMALL), chooser.first
        while left:
            way = choose(left, FREE, FREE)
            if way.probe:
                chooser.composed(left[:-1], composed_s, 0.005)
                chooser.read(left[-1:], 0.041, 0.0007)
                return len(left) - 1
            if not way.direct:
                chooser.composed(left, composed_s, 0.005)
                return len(left)
            chooser.read(left[: way.direct], 0.041 * way.direct, 0.0007 * way.direct)
            left, choose = left[way.direct :], chooser.following
        return 0

    assert sum(fetch(0.26) for _ in range(50)) >= 49 * MAX_COMPONENTS
    slow = [fetch(6.0) for _ in range(200)]
    assert sum(slow[16:]) <= 4 * MAX_COMPONENTS
    again = [fetch(0.26) for _ in range(64 * 20)]
    assert set(again[-64:-1]) <= {MAX_COMPONENTS, MAX_COMPONENTS - 1}


def test_too_little_work_to_learn_from_is_left_as_it_was_planned() -> None:
    assert simulate(Regime(count=1000)).reasons == {}


def test_no_more_than_a_part_of_the_threads_compose_before_the_first_answer() -> None:
    chooser = StrategyChooser(ChooserInputs(conditions=RunConditions(in_flight=100), count=100), threads=100)
    ways = [chooser.first(SMALL, FREE, FREE) for _ in range(70)]
    assert [way.wait for way in ways] == [False] * 60 + [True] * 10
    chooser.answered()
    assert not chooser.first(SMALL, FREE, FREE).wait


def test_what_soft_delete_bills_can_outweigh_the_time_saved() -> None:
    months = RunConditions(in_flight=96, workers=2, soft_delete_s=90 * 86400)
    chooser = StrategyChooser(ChooserInputs(conditions=months, count=500), threads=48)
    way = chooser.first([500_000] * MAX_COMPONENTS, FREE, FREE)
    assert (way.direct, way.reason) == (MAX_COMPONENTS, FASTER_DIRECTLY)


PACES = st.builds(Pace, kept_per_s=st.none() | st.floats(1.0, 5000.0), turn_s=st.floats(0.0, 30.0))


@given(
    st.lists(st.tuples(st.booleans(), SECONDS, SECONDS, st.lists(st.integers(1, 1 << 21), max_size=40)), max_size=60),
    st.lists(st.lists(st.integers(1, 1 << 20), min_size=2, max_size=MAX_COMPONENTS), min_size=1, max_size=80),
    st.integers(1, 256),
    st.integers(0, 200_000),
    PACES,
    PACES,
)
def test_whatever_was_measured_a_choice_is_within_its_group(
    measurements: list[tuple[bool, float, float, list[int]]],
    groups: list[list[int]],
    in_flight: int,
    count: int,
    reads: Pace,
    writes: Pace,
) -> None:
    chooser = StrategyChooser(ChooserInputs(conditions=RunConditions(in_flight=in_flight), count=count), in_flight)
    for composed, seconds, cpu_s, sizes in measurements:
        (chooser.composed if composed else chooser.read)(sizes, seconds, cpu_s)
    for sizes in groups:
        way = chooser.first(sizes, reads, writes)
        assert 0 <= way.direct <= len(sizes)
        assert bool(way.direct) == bool(way.reason)


@given(st.floats(0.005, 1.0), SECONDS, st.floats(1.0, 50.0))
def test_slower_composites_never_make_composing_likelier(direct_s: float, composed_s: float, slower: float) -> None:
    def composes(seconds: float) -> bool:
        chooser = StrategyChooser(ChooserInputs(conditions=RunConditions(in_flight=96), count=500), 96)
        for _ in range(30):
            chooser.read(SMALL[:4], 4 * direct_s, 0.003)
            chooser.composed(SMALL, seconds, 0.005)
        return not chooser.first(SMALL, FREE, FREE).direct

    assert composes(composed_s * slower) <= composes(composed_s)
