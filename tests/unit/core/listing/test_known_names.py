"""Where names that lie side by side are divided, and what is asked to find out how they go on."""

from __future__ import annotations

import pytest

from airflow_dataflux.core.listing.known_names import KnownNames
from airflow_dataflux.core.listing.name_model import NameModel, shape
from airflow_dataflux.core.listing.probing import bounds_above, bounds_behind, branch_lengths
from airflow_dataflux.core.namerange import NameRange


def knowing(examples: list[str], empty: list[tuple[str, str]] | None = None) -> KnownNames:
    known = KnownNames()
    for name in examples:
        known.saw(name)
    for start, end in empty or []:
        known.saw_nothing(start, end)
    return known


def test_a_counter_behind_a_long_common_prefix_is_divided_evenly() -> None:
    prefix = "data/" + "very/" * 30 + "img-"
    low, high = f"{prefix}00001000.jpg", f"{prefix}00900000.jpg"
    points = knowing([f"{prefix}{n:08d}.jpg" for n in (1, 250, 990, 870_011, 455_432)]).split(low, high, 8)
    numbers = [int(point.removeprefix(prefix).ljust(8, "0")[:8]) for point in points]
    assert len(numbers) == 8
    gaps = [after - before for before, after in zip([1000, *numbers], [*numbers, 900_000], strict=True)]
    assert max(gaps) < 1.2 * min(gaps)


def test_names_that_differ_in_nothing_cannot_be_split() -> None:
    known = knowing(["aaa"])
    assert known.split("aaa", "aaa\x01", 4) == []
    assert known.split("b", "a", 4) == []
    assert known.split("a", "a", 4) == []
    assert known.split("a", None, 0) == []


@pytest.mark.parametrize("low", ["\ud7ff", "\ud7ffz", "\U0010ffff", "😀", "日本/\uff11", "\t", "a\x0c"])
def test_points_are_strings_that_can_be_sent(low: str) -> None:
    for point in knowing([low]).split(low, None, 20):
        point.encode()
        assert "\n" not in point
        assert "\r" not in point
        assert point > low


def test_what_is_known_to_be_empty_gets_no_points() -> None:
    points = knowing(["0000", "1234", "2999", "7000", "8123"], [("3", "7000")]).split("0000", "9999", 6)
    assert points
    assert not [point for point in points if "3" < point < "7000"]


def test_names_may_branch_after_separators_and_after_each_digit() -> None:
    assert branch_lengths("cats/img-012.jpg") == [5, 9, 10, 11, 12, 13]


def test_bounds_behind_a_name_share_less_of_it_or_more() -> None:
    bounds = bounds_behind("data/img-0012", None, 8)
    assert list(bounds) == ["data0", "data/img.", "data/img-1", "data/img-01", "data/img-002", "data/img-0013"]


def test_bounds_above_are_above_the_digits_of_any_script() -> None:
    assert bounds_above("a/0012", 2, None) == ["a/:"]
    assert bounds_above("00f3a9/x", 0, None) == [":", "a", "g"]
    assert bounds_above("\u0660\u0660\u0661", 0, None) == [chr(0x066A)]


def test_shapes_tell_scripts_apart_and_nothing_else() -> None:
    assert shape("ab/01.jpg") == shape("zz/99.png")
    assert shape("ab/01.jpg") != shape("abc/01.jpg")
    assert shape("\uff21\uff22/\uff10") != shape("\U0001d49f\U0001d4b6/\U0001d7ce")


def test_a_model_never_decreases() -> None:
    examples = [f"2024-{month:02d}-{day:02d}/x" for month in (1, 7, 12) for day in (1, 15, 31)]
    model = NameModel("2024-01-01/x", "2025", examples)
    positions = [model.position(name) for name in sorted(examples)]
    assert positions == sorted(positions)
    assert len(set(positions)) == len(positions)


def test_the_leading_digit_of_a_counter_may_go_on_where_the_tens_of_an_hour_do_not() -> None:
    """Of 30 hours of three days, the tens are all that there are; of a counter up to 89, a ninth ten may follow."""
    counted = [f"run-{number:04d}" for number in range(0, 90, 3)]
    counter = NameModel(counted[-1], "run-0101", counted[-4:], counted)
    assert counter.position("run-0099") > counter.position("run-0090") > counter.position("run-0089")

    hours = [f"day-{day}/{hour:02d}" for day in (1, 2, 3) for hour in range(0, 24, 2)]
    clock = NameModel("day-1/22", "day-3/22", hours[8:30], hours)
    assert clock.position("day-1/39") == clock.position("day-1/29")


def test_empty_ranges_that_touch_are_joined_and_what_is_between_is_kept() -> None:
    known = KnownNames()
    known.saw_nothing("c", "d")
    known.saw_nothing("a", "b")
    known.saw_nothing("d", "e")
    known.saw_nothing("x", None)
    assert known.empty_ranges == (NameRange("a", "b"), NameRange("c", "e"), NameRange("x", None))
    assert known.bounds("aa", "y") == ("b", "x")


def test_what_is_known_is_bounded() -> None:
    known = KnownNames()
    for number in range(20_000):
        known.saw(f"{number * 7919 % 20_000:05d}")
        known.saw_nothing(f"{number:05d}a", f"{number:05d}b")
    assert len(known.examples) <= 4096
    assert len(known.empty_ranges) <= 1024
