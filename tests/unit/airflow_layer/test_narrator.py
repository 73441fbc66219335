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
    with narrator.telling():
        for stage, text in [("preflight", "a"), ("staging", "b"), ("staging", "100 %"), ("summary", "d")]:
            narrator.tell(Progress(stage=stage, text=text))
    assert lines == [
        *["::group::preflight", "a", "::endgroup::"],
        *["::group::staging", "b", "100 %", "::endgroup::"],
        *["::group::summary", "d", "::endgroup::"],
    ]


def test_an_error_is_logged_outside_of_the_group() -> None:
    lines = Lines()
    narrator = Narrator(lines.info)
    with pytest.raises(KeyError), narrator.telling():
        narrator.tell(Progress(stage="listing", text="a"))
        raise KeyError
    assert lines[-1] == "::endgroup::"


def test_nothing_told_writes_nothing() -> None:
    lines = Lines()
    with Narrator(lines.info).telling():
        pass
    assert lines == []
