"""Name ranges and split points hold their promises for all strings that can be names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core.listing.scale import Scale
from airflow_dataflux.core.listing.split import ladder, split_points
from airflow_dataflux.core.namerange import NameRange, after, common_prefix, distinct_prefixes, prefix_range, successor

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=12)
similar = st.text("ab01/é日😀", max_size=8)
any_name = names | similar


@given(any_name, any_name)
def test_code_points_order_like_utf8_bytes(one: str, other: str) -> None:
    assert (one < other) == (one.encode() < other.encode())


@given(any_name, any_name)
def test_a_prefix_range_holds_exactly_the_names_with_the_prefix(prefix: str, name: str) -> None:
    assert (name in prefix_range(prefix)) == name.startswith(prefix)


@given(any_name)
def test_a_successor_can_be_sent(prefix: str) -> None:
    bound = successor(prefix)
    if bound is not None:
        bound.encode()
        assert bound > prefix
        assert not set(bound) & set("\r\n")


@given(any_name, any_name)
def test_nothing_is_between_a_name_and_what_comes_after_it(name: str, other: str) -> None:
    assert not name < other < after(name)


@given(st.lists(similar, min_size=1, max_size=6), similar)
def test_distinct_prefixes_cover_the_same_names_once(prefixes: list[str], name: str) -> None:
    kept = distinct_prefixes(prefixes)
    assert any(name.startswith(prefix) for prefix in prefixes) == (sum(name.startswith(p) for p in kept) == 1)


@given(any_name, any_name)
def test_the_common_prefix_is_the_longest(one: str, other: str) -> None:
    shared = common_prefix(one, other)
    assert one.startswith(shared)
    assert other.startswith(shared)
    assert one[len(shared) : len(shared) + 1] != other[len(shared) : len(shared) + 1] or shared in (one, other)


@given(
    any_name,
    st.none() | any_name,
    st.integers(0, 40),
    st.lists(any_name, max_size=20),
    st.lists(st.tuples(any_name, any_name), max_size=4),
)
def test_split_points_are_usable_whatever_is_known(
    low: str, high: str | None, count: int, examples: list[str], voids: list[tuple[str, str]]
) -> None:
    known: list[NameRange] = []
    for start, end in sorted(tuple(sorted(void)) for void in voids):
        if start < end and (not known or start > (known[-1].end or "")):
            known.append(NameRange(start, end))
    points = split_points(low, high, count, examples=examples, alike=examples, voids=known)
    assert len(points) <= count
    assert points == sorted(set(points))
    for point in points:
        point.encode()
        assert point > low
        assert high is None or point < high
        assert not set(point) & set("\r\n")


@given(any_name, st.none() | any_name, st.lists(any_name, max_size=20))
def test_positions_on_a_scale_never_decrease(low: str, high: str | None, examples: list[str]) -> None:
    if high is not None and high <= low:
        return
    scale = Scale(low, high, examples)
    positions = [scale.position(name) for name in sorted(examples)]
    assert positions == sorted(positions)


@given(any_name, st.none() | any_name, st.integers(1, 9))
def test_ladders_stay_between_the_name_and_the_end(name: str, high: str | None, count: int) -> None:
    for bound, length in ladder(name, high, count).items():
        assert bound > name
        assert high is None or bound < high
        assert not bound.startswith(name[:length])
