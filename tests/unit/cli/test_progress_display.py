"""What is shown while a command runs."""

from __future__ import annotations

import io
import threading
from contextlib import suppress

import pytest

from airflow_dataflux.cli.progress_display import ProgressDisplay, extent, shown
from airflow_dataflux.core.runtime.progress import Progress, RunStatistics

HALF = Progress(
    stage="staging",
    text="Fetched 5 of 10 objects",
    figures={"objects": 5, "of_objects": 10, "bytes": 50, "of_bytes": 200, "bytes_per_s": 25, "eta_s": 6.0},
)
END = RunStatistics(kind="staging", figures={})


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _a_terminal_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")


def test_a_terminal_gets_a_bar_that_is_taken_away() -> None:
    stream = Terminal()
    with ProgressDisplay(stream, wanted=True) as display:
        display(HALF)
        display(END)
    text = stream.getvalue()
    assert "Staging" in text
    assert "5 of 10 objects, 50 B at 25 B/s, about 6 s left" in text
    assert text.endswith("\x1b[2K")  # the line is erased
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is hidden, and shown again


def test_an_error_takes_the_bar_away() -> None:
    stream = Terminal()
    with suppress(ZeroDivisionError), ProgressDisplay(stream, wanted=True) as display:
        display(HALF)
        raise ZeroDivisionError
    assert stream.getvalue().endswith("\x1b[2K")


def test_without_a_thread_there_is_no_bar_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    stream = Terminal()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with ProgressDisplay(stream, wanted=True) as display:
        display(HALF)
        display(HALF)
        display(END)
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h")


def test_what_is_no_terminal_gets_lines() -> None:
    stream = io.StringIO()
    with ProgressDisplay(stream, wanted=True) as display:
        display(Progress(stage="preflight", text="Looked"))
        display(HALF)
        display(END)
    assert stream.getvalue() == "Fetched 5 of 10 objects\n"


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_nothing_is_shown_where_that_is_asked_for(stream: io.StringIO) -> None:
    with ProgressDisplay(stream, wanted=False) as display:
        display(HALF)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"objects": 5, "of_objects": 10, "bytes": 50, "of_bytes": 200}, (50, 200)),
        ({"objects": 5, "of_objects": 10, "bytes": 0, "of_bytes": 0}, (5, 10)),
        ({"objects": 4000, "remaining_pages": 6}, (4000, 10000)),
        ({"objects": 4000, "expected_objects": 9000}, (4000, 9000)),
        ({"objects": 4000}, (4000, None)),
    ],
    ids=["bytes", "objects that are all empty", "pages to come", "an earlier listing", "unknown"],
)
def test_a_bar_grows_in_one_unit(figures: dict[str, float], expected: tuple[float, float | None]) -> None:
    assert extent(figures) == expected


def test_figures_are_those_that_there_are() -> None:
    assert shown({"objects": 4000, "objects_per_s": 1234.5}) == "4,000 objects, 1,234 a second"
    assert shown({"objects": 1}) == "1 object"
    assert shown({"objects": 1, "expected_objects": 4000}) == "1 of about 4,000 objects"
