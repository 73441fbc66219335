"""Where ranges are divided: shown on the name styles that other tools fail on."""

from __future__ import annotations

import pytest

from airflow_dataflux.core.listing.knowledge import Knowledge
from airflow_dataflux.core.listing.scale import Scale, shape
from airflow_dataflux.core.listing.split import caps, islands, ladder, rungs, split_points
from airflow_dataflux.core.namerange import NameRange


def test_a_counter_behind_a_long_common_prefix_is_divided_evenly() -> None:
    prefix = "data/" + "very/" * 30 + "img-"
    low, high = f"{prefix}00001000.jpg", f"{prefix}00900000.jpg"
    points = split_points(low, high, 8, examples=[f"{prefix}{n:08d}.jpg" for n in (1, 250, 990, 870_011, 455_432)])
    numbers = [int(point.removeprefix(prefix).ljust(8, "0")[:8]) for point in points]
    assert len(numbers) == 8
    gaps = [after - before for before, after in zip([1000, *numbers], [*numbers, 900_000], strict=True)]
    assert max(gaps) < 1.2 * min(gaps)


def test_names_that_differ_in_nothing_cannot_be_split() -> None:
    assert split_points("aaa", "aaa\x01", 4, examples=["aaa"]) == []
    assert split_points("b", "a", 4) == []
    assert split_points("a", "a", 4) == []
    assert split_points("a", None, 0) == []


@pytest.mark.parametrize("low", ["\ud7ff", "\ud7ffz", "\U0010ffff", "😀", "日本/\uff11", "\t", "a\x0c"])
def test_points_are_strings_that_can_be_sent(low: str) -> None:
    for point in split_points(low, None, 20, examples=[low]):
        point.encode()
        assert "\n" not in point
        assert "\r" not in point
        assert point > low


def test_what_is_known_to_be_empty_gets_no_points() -> None:
    voids = [NameRange("3", "7000")]
    points = split_points("0000", "9999", 6, examples=["0000", "1234", "2999", "7000", "8123"], voids=voids)
    assert points
    assert not [point for point in points if "3" < point < "7000"]


def test_names_of_another_kind_behind_a_void_are_an_island() -> None:
    voids = [NameRange("annotations0", "archive/2023/x/000.png"), NameRange("annotations/5", "annotations/600.json")]
    found = islands("annotations/000.json", None, sorted(voids, key=lambda void: void.start))
    assert found == ["archive/2023/x/000.png"]


def test_a_void_that_ends_where_it_starts_is_no_island() -> None:
    assert islands("a/1.jpg", None, [NameRange("a/2", "a/20.jpg")]) == []


def test_rungs_are_after_separators_and_after_each_digit() -> None:
    assert rungs("cats/img-012.jpg") == [5, 9, 10, 11, 12, 13]


def test_a_ladder_leads_from_the_widest_subtree_to_the_narrowest() -> None:
    bounds = ladder("data/img-0012", None, 8)
    assert list(bounds) == ["data0", "data/img.", "data/img-1", "data/img-01", "data/img-002", "data/img-0013"]


def test_caps_are_above_the_digits_of_any_script() -> None:
    assert caps("a/0012", 2, None) == ["a/:"]
    assert caps("00f3a9/x", 0, None) == [":", "a", "g"]
    assert caps("\u0660\u0660\u0661", 0, None) == [chr(0x066A)]


def test_shapes_tell_scripts_apart_and_nothing_else() -> None:
    assert shape("ab/01.jpg") == shape("zz/99.png")
    assert shape("ab/01.jpg") != shape("abc/01.jpg")
    assert shape("\uff21\uff22/\uff10") != shape("\U0001d49f\U0001d4b6/\U0001d7ce")


def test_a_scale_never_decreases() -> None:
    examples = [f"2024-{month:02d}-{day:02d}/x" for month in (1, 7, 12) for day in (1, 15, 31)]
    scale = Scale("2024-01-01/x", "2025", examples)
    positions = [scale.position(name) for name in sorted(examples)]
    assert positions == sorted(positions)
    assert len(set(positions)) == len(positions)


def test_the_leading_digit_of_a_counter_may_go_on_where_the_tens_of_an_hour_do_not() -> None:
    """Of 30 hours of three days, the tens are all that there are; of a counter up to 89, a ninth ten may follow."""
    counted = [f"run-{number:04d}" for number in range(0, 90, 3)]
    counter = Scale(counted[-1], "run-0101", counted[-4:], counted)
    assert counter.position("run-0099") > counter.position("run-0090") > counter.position("run-0089")

    hours = [f"day-{day}/{hour:02d}" for day in (1, 2, 3) for hour in range(0, 24, 2)]
    clock = Scale("day-1/22", "day-3/22", hours[8:30], hours)
    assert clock.position("day-1/39") == clock.position("day-1/29")


def test_knowledge_joins_voids_that_touch_and_keeps_what_is_between() -> None:
    knowledge = Knowledge()
    knowledge.saw_nothing("c", "d")
    knowledge.saw_nothing("a", "b")
    knowledge.saw_nothing("d", "e")
    knowledge.saw_nothing("x", None)
    assert knowledge.voids == (NameRange("a", "b"), NameRange("c", "e"), NameRange("x", None))
    assert knowledge.bounds("aa", "y") == ("b", "x")


def test_knowledge_is_bounded() -> None:
    knowledge = Knowledge()
    for number in range(20_000):
        knowledge.saw(f"{number * 7919 % 20_000:05d}")
        knowledge.saw_nothing(f"{number:05d}a", f"{number:05d}b")
    assert len(knowledge.examples) <= 4096
    assert len(knowledge.voids) <= 1024
