"""How `auto` learns which way is faster, whatever the measurements."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core.gcs.store import MAX_COMPONENTS
from airflow_dataflux.core.staging.choice import Circumstances
from airflow_dataflux.core.staging.ways import Ways

AROUND = Circumstances(in_flight=96, workers=2)
SMALL = [10_240] * MAX_COMPONENTS
COMPOSED_S, DIRECT_S = 0.26, 0.041
SECONDS = st.floats(0.001, 100.0)


def taught(around: Circumstances, composed_s: float, direct_s: float, count: int = 100_000) -> Ways:
    """Return ways that have seen a dozen batches of each kind; `direct_s` is for one object."""
    ways = Ways(around, count)
    for _ in range(12):
        ways.took(SMALL, composed_s, composed=True)
        ways.took(SMALL[:4], 4 * direct_s, composed=False)
    return ways


def choices(ways: Ways, groups: int) -> list[int]:
    return [ways.read_directly(SMALL) for _ in range(groups)]


def test_at_the_expected_latencies_nearly_all_is_composed_and_a_few_objects_are_read_to_measure() -> None:
    chosen = choices(taught(AROUND, COMPOSED_S, DIRECT_S), 340)
    assert chosen[:4] == [4, 4, 4, 0]
    assert set(chosen) == {0, 4}
    assert sum(chosen) < 340 * MAX_COMPONENTS / 250


def test_when_composing_turns_out_to_be_slow_the_groups_that_follow_are_read_directly() -> None:
    chosen = choices(taught(AROUND, 6.0, DIRECT_S), 340)
    assert chosen.count(0) <= 3 + 340 // 64
    assert chosen[3:63] == [MAX_COMPONENTS] * 60


def test_when_composing_recovers_its_probes_bring_it_back() -> None:
    ways = taught(AROUND, 6.0, DIRECT_S)
    groups = 0
    while ways.read_directly(SMALL) or ways.read_directly(SMALL):
        groups += 2
        assert groups < 64 * 20
        ways.took(SMALL, COMPOSED_S, composed=True)


def test_one_stalled_request_does_not_change_the_way() -> None:
    ways = taught(AROUND, COMPOSED_S, DIRECT_S)
    ways.took(SMALL, 60.0, composed=True)
    assert choices(ways, 60)[3:] == [0] * 57


def test_reads_that_wait_for_a_small_budget_make_composites_pay_even_when_those_are_slow() -> None:
    assert choices(taught(AROUND, 6.0, 0.5), 60)[3:] == [0] * 57


def test_too_little_work_to_learn_from_is_left_as_it_was_planned() -> None:
    ways = taught(AROUND, 60.0, DIRECT_S, count=500)
    assert choices(ways, 20) == [0] * 20


def test_what_soft_delete_bills_can_outweigh_the_time_saved() -> None:
    months = Circumstances(in_flight=96, workers=2, soft_delete_s=90 * 86400)
    ways = taught(months, COMPOSED_S, DIRECT_S)
    assert [ways.read_directly([500_000] * MAX_COMPONENTS) for _ in range(10)][3:] == [MAX_COMPONENTS] * 7


@given(
    st.lists(st.tuples(st.booleans(), SECONDS, st.lists(st.integers(1, 1 << 21), max_size=40)), max_size=60),
    st.lists(st.lists(st.integers(1, 1 << 20), min_size=2, max_size=MAX_COMPONENTS), min_size=1, max_size=80),
    st.integers(1, 256),
    st.integers(0, 200_000),
)
def test_whatever_was_measured_a_choice_is_within_its_group(
    measurements: list[tuple[bool, float, list[int]]], groups: list[list[int]], in_flight: int, count: int
) -> None:
    ways = Ways(Circumstances(in_flight=in_flight), count)
    for composed, seconds, sizes in measurements:
        ways.took(sizes, seconds, composed=composed)
    for sizes in groups:
        assert 0 <= ways.read_directly(sizes) <= len(sizes)


@given(st.lists(SECONDS, min_size=1, max_size=30), SECONDS, st.floats(1.0, 50.0))
def test_slower_composites_never_make_composing_likelier(direct: list[float], composed_s: float, slower: float) -> None:
    def composed_groups(seconds: float) -> int:
        ways = Ways(AROUND, 100_000)
        for one in direct:
            ways.took(SMALL[:4], one, composed=False)
            ways.took(SMALL, seconds, composed=True)
        return sum(MAX_COMPONENTS - chosen for chosen in choices(ways, 50))

    assert composed_groups(composed_s * slower) <= composed_groups(composed_s)
