"""Progress as log lines."""

from __future__ import annotations

import pytest

from airflow_dataflux.core.runtime.progress import Progress
from airflow_dataflux.hooks.narrator import Narrator


class Lines(list[str]):
    def info(self, message: str, *arguments: object) -> None:
        self.append(message % arguments if arguments else message)


def test_each_stage_is_one_group_and_the_last_is_closed() -> None:
    lines = Lines()
    narrator = Narrator(lines.info)
    with narrator.telling("preflight"):
        for stage, text in [("preflight", "a"), ("staging", "b"), ("staging", "100 %"), ("summary", "d")]:
            narrator.tell(Progress(stage=stage, text=text))
    assert lines == [
        *["::group::preflight", "a", "::endgroup::"],
        *["::group::staging", "b", "100 %", "::endgroup::"],
        *["::group::summary", "d", "::endgroup::"],
    ]


def test_an_error_is_logged_outside_of_the_group() -> None:
    lines = Lines()
    with pytest.raises(ZeroDivisionError), Narrator(lines.info).telling("listing"):
        1 / 0  # noqa: B018 - whatever goes wrong
    assert lines[-1] == "::endgroup::"


def test_work_that_tells_nothing_still_has_its_group() -> None:
    lines = Lines()
    with Narrator(lines.info).telling("listing"):
        lines.append("the core's own log line")
    assert lines == ["::group::listing", "the core's own log line", "::endgroup::"]
