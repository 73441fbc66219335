"""One range's listing, answer by answer."""

from __future__ import annotations

from airflow_dataflux.core.listing.cursor import Cursor
from airflow_dataflux.core.namerange import NameRange, after, prefix_range


def test_a_whole_prefix_needs_no_offsets() -> None:
    request = Cursor(prefix_range("a/"), "a/").request()
    assert (request.prefix, request.start, request.end) == ("a/", "", None)


def test_every_page_is_asked_for_with_the_same_number_of_rows() -> None:
    cursor = Cursor(NameRange("b", "x"), "", page_rows=5000)
    assert cursor.request().max_results == 5000
    cursor.accept(["b", "c"], "token")
    assert cursor.request().max_results == 5000
    assert Cursor(NameRange("b", "x"), "").request().max_results is None


def test_pages_of_an_unchanged_range_follow_the_token() -> None:
    cursor = Cursor(NameRange("b", "x"), "")
    assert cursor.accept(["b", "c"], "token") == slice(0, 2)
    request = cursor.request()
    assert (request.start, request.end, request.page_token) == ("b", "x", "token")


def test_a_shrunk_range_goes_on_from_its_last_name_without_repeating_it() -> None:
    cursor = Cursor(NameRange("b", "x"), "")
    cursor.accept(["b", "c"], "token")
    assert cursor.shrink(["b", "c", "m", "p"]) == "m"
    request = cursor.request()
    assert (request.start, request.end, request.page_token) == ("c", "m", None)
    assert cursor.accept(["c", "d"], None) == slice(1, 2)
    assert cursor.ended


def test_what_arrives_beyond_a_new_end_is_left_to_the_thief() -> None:
    cursor = Cursor(NameRange("a", None), "")
    cursor.request()
    assert cursor.shrink(["m"]) == "m"
    assert cursor.accept(["a", "l", "m", "n"], "token") == slice(0, 2)
    assert cursor.ended
    assert cursor.end == "m"


def test_an_ended_range_refuses_to_shrink() -> None:
    cursor = Cursor(NameRange("a", None), "")
    cursor.accept(["a"], None)
    assert cursor.shrink(["b"]) is None


def test_a_point_that_was_passed_is_skipped_and_points_past_all_are_refused() -> None:
    cursor = Cursor(NameRange("a", "z"), "")
    cursor.accept(["a", "f"], "token")
    assert cursor.shrink(["c", "f"]) is None
    assert cursor.shrink(["c", "g"]) == "g"


def test_a_shrink_between_empty_pages_keeps_the_token() -> None:
    cursor = Cursor(NameRange("a", "z"), "")
    cursor.accept(["b"], "one")
    cursor.accept([], "two")
    cursor.shrink(["m"])
    assert cursor.request().page_token == "two"


def test_a_start_after_a_name_is_sent_without_its_nul_and_the_name_is_dropped() -> None:
    cursor = Cursor(NameRange(after("k"), None), "")
    assert cursor.request().start == "k"
    assert cursor.accept(["k", "l"], None) == slice(1, 2)


def test_a_halted_range_ends_after_its_last_name() -> None:
    cursor = Cursor(NameRange("a", "z"), "")
    cursor.halt()
    cursor.accept(["b", "c"], "token")
    assert cursor.ended
    assert cursor.end == after("c")
    assert cursor.more


def test_a_halted_range_that_was_at_its_end_has_no_more_names() -> None:
    cursor = Cursor(NameRange("a", "z"), "")
    cursor.halt()
    cursor.accept(["b", "c"], None)
    assert cursor.ended
    assert not cursor.more
