"""Name ranges and split points hold their promises for all strings that can be names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core.listing.known_names import KnownNames
from airflow_dataflux.core.listing.name_model import NameModel
from airflow_dataflux.core.listing.probing import bounds_behind, directory_questions
from airflow_dataflux.core.listing.splitting import Outlook
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
    low: str, high: str | None, count: int, examples: list[str], empty: list[tuple[str, str]]
) -> None:
    known = KnownNames()
    for name in examples:
        known.saw(name)
    for start, end in empty:
        known.saw_nothing(*sorted((start, end)))
    points = known.split(low, high, count)
    assert len(points) <= count
    assert points == sorted(set(points))
    for point in points:
        point.encode()
        assert point > low
        assert high is None or point < high
        assert not set(point) & set("\r\n")


@given(any_name, st.none() | any_name, st.lists(any_name, max_size=20))
def test_positions_in_a_model_never_decrease(low: str, high: str | None, examples: list[str]) -> None:
    if high is not None and high <= low:
        return
    model = NameModel(low, high, examples)
    positions = [model.position(name) for name in sorted(examples)]
    assert positions == sorted(positions)


@given(any_name, st.none() | any_name, st.integers(1, 9))
def test_bounds_behind_a_name_stay_between_it_and_the_end(name: str, high: str | None, count: int) -> None:
    for bound, length in bounds_behind(name, high, count).items():
        assert bound > name
        assert high is None or bound < high
        assert not bound.startswith(name[:length])


paths = st.lists(st.text("ab é", max_size=3), min_size=1, max_size=4).map("/".join)


@given(paths, st.none() | paths, st.booleans())
def test_questions_about_directories_are_about_what_lies_ahead(low: str, end: str | None, unlisted: bool) -> None:
    if end is not None and end <= low:
        return
    for question in directory_questions(low, end, "", unlisted=unlisted):
        assert question.parent is not None
        assert low.startswith(question.parent)
        assert NameRange(low, end).covers(question.names)
        assert prefix_range(question.parent).covers(question.names)


@given(st.sets(paths, min_size=1), paths, st.none() | paths, st.integers(1, 20), st.floats(0, 50), st.booleans())
def test_points_of_an_outlook_are_usable_whatever_is_known(
    names: set[str], low: str, end: str | None, count: int, pages: float, more: bool
) -> None:
    if end is not None and end <= low:
        return
    known = KnownNames()
    for question in directory_questions(low, end, "", unlisted=True):
        found = sorted({name[: name.index("/", len(question.parent or "")) + 1] for name in names
                        if name in question.names and "/" in name[len(question.parent or ""):]})  # fmt: skip
        inside = [directory for directory in found if directory in question.names]
        known.saw_directories(question.parent or "", question.names, inside, more=more)
    outlook = Outlook.of(known, low, low, end, lambda directory: pages)
    points = outlook.points(count, known)
    assert len(points) <= count
    assert points == sorted(set(points))
    assert all(low < point and (end is None or point < end) for point in points)
    assert outlook.pages >= 0
