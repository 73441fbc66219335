"""Progress as log lines."""

from __future__ import annotations

import pytest

from airflow_dataflux.core.runtime.progress import Progress
from airflow_dataflux.hooks.log_groups import LogGroups


class Lines(list[str]):
    def info(self, message: str, *arguments: object) -> None:
        self.append(message % arguments if arguments else message)


def test_what_comes_before_the_work_is_a_group_and_progress_is_in_the_open() -> None:
    lines = Lines()
    log_groups = LogGroups(lines.info)
    with log_groups.closed_at_the_end():
        told = [("preflight", "a"), ("preflight", "b"), ("staging", "c"), ("staging", "100 %"), ("summary", "d")]
        for stage, text in told:
            log_groups.observe(Progress(stage=stage, text=text))
    assert lines == ["::group::preflight", "a", "b", "::endgroup::", "c", "100 %", "d"]


def test_an_error_is_logged_outside_of_the_group() -> None:
    lines = Lines()
    log_groups = LogGroups(lines.info)
    log_groups.observe(Progress(stage="preflight", text="a"))
    with pytest.raises(ZeroDivisionError), log_groups.closed_at_the_end():
        1 / 0  # noqa: B018 - whatever goes wrong
    assert lines[-1] == "::endgroup::"


def test_work_that_tells_nothing_leaves_no_empty_group() -> None:
    lines = Lines()
    log_groups = LogGroups(lines.info)
    with log_groups.closed_at_the_end():
        lines.append("the core's own log line")
    with log_groups.closed_at_the_end():
        log_groups.observe(Progress(stage="summary", text="up to date"))
    assert lines == ["the core's own log line", "up to date"]
