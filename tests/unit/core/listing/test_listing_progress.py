"""The progress line of a listing goes on where the job before it ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from airflow_dataflux.core.listing.messages import Figures
from airflow_dataflux.core.listing.stats import progress_line


def running(listed: int, pages: int, left: float | None) -> Any:
    totals = SimpleNamespace(listed=listed, pages=pages)
    return SimpleNamespace(totals=totals, active_streams=1, remaining_pages=lambda: left)


def test_no_counter_runs_backwards_when_threads_hand_over_to_an_engine() -> None:
    before = Figures(requests=100, steals=7, retries=2, listed=90_000)
    line = progress_line(running(0, 0, None), Figures(), before=before, before_s=45.0, elapsed_s=0.0)
    assert {name: line.figures[name] for name in ("objects", "requests", "steals", "retries")} == {
        "objects": 90_000,
        "requests": 100,
        "steals": 7,
        "retries": 2,
    }
    assert line.text == (
        "Listed 90,000 objects at 2,000/s, how much is left is not known yet; "
        "100 requests, 1 stream, 7 steals, 2 retries"
    )


def test_a_line_counts_in_the_singular_and_tells_what_is_left() -> None:
    line = progress_line(running(1, 1, 1.0), Figures(requests=1, retries=1), before=Figures(), elapsed_s=2.0)
    assert line.text == ("Listed 1 object at 0/s, about 2 s left (1 page); 1 request, 1 stream, 0 steals, 1 retry")


def test_an_estimate_from_the_first_names_alone_is_not_told() -> None:
    figures = Figures(requests=10)
    for left, told in ((200.0, True), (201.0, False)):
        line = progress_line(running(9000, 9, left), figures, before=Figures(), elapsed_s=2.0)
        assert ("eta_s" in line.figures, "not known yet" in line.text) == (told, not told)


def test_what_an_earlier_listing_had_is_the_total_until_there_is_more() -> None:
    figures = Figures(requests=10)
    line = progress_line(running(9000, 9, 5.0), figures, before=Figures(listed=1000), elapsed_s=2.0, expected=40_000)
    assert line.text.startswith("Listed 10,000 of about 40,000 objects at 5,000/s, about 6 s left; ")
    assert (line.figures["objects"], line.figures["expected_objects"], line.figures["eta_s"]) == (10_000, 40_000, 6.0)
    assert "remaining_pages" not in line.figures
    grown = progress_line(running(9000, 9, 5.0), figures, before=Figures(), elapsed_s=2.0, expected=9000)
    assert grown == progress_line(running(9000, 9, 5.0), figures, before=Figures(), elapsed_s=2.0)
