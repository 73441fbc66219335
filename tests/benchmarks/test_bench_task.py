"""What the benchmark of whole tasks prints, and which DAGs it runs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dataflux_bench.task import COLUMNS, DAGS, WAYS, TaskCell, tasks_markdown


def run(task_s: float, core_s: float | None = None) -> dict[str, float | None]:
    return dict(zip(COLUMNS, (task_s, task_s - 0.5, core_s, 1.0, 200.0), strict=True))


def test_the_page_gives_medians_and_says_how_much_faster_than_the_provider() -> None:
    cells = [
        TaskCell(way="list_ours", objects=10_000, runs=[run(2.0, 1.0), run(9.0, 8.0), run(2.5, 1.25)]),
        TaskCell(way="list_google", objects=10_000, runs=[run(5.0), run(4.0), run(6.0)]),
    ]
    ours, theirs = tasks_markdown(cells, "make bench-task").splitlines()[-2:]
    assert ours == "| list_ours | 10,000 | 2.50 | 2.00 | 2.00 | 1.25 | 0.75 | 1.00 | 200.00 |"
    assert theirs == "| list_google | 10,000 | 5.00 |  | 4.50 |  |  | 1.00 | 200.00 |"


def test_a_way_without_its_like_is_not_compared() -> None:
    row = tasks_markdown([TaskCell(way="stage_ours", objects=5, runs=[run(2.0, 1.0)])], "").splitlines()[-1]
    assert row.startswith("| stage_ours | 5 | 2.00 |  | 1.50 |")


@pytest.mark.parametrize("file", ["ours.py", "provider.py"])
def test_each_file_imports_only_its_own_side(file: str) -> None:
    """A task's process reads the file of its DAG: it must not pay for the imports of the other side."""
    text = (DAGS / file).read_text()
    assert ("airflow_dataflux" in text) == (file == "ours.py")
    assert ("airflow.providers" in text) == (file == "provider.py")


def test_every_way_has_its_dag() -> None:
    found: list[Any] = [
        name
        for file in ("ours.py", "provider.py")
        for name in re.findall(r'dag\(\s*"(\w+)"', (DAGS / file).read_text())
    ]
    assert sorted(found) == sorted(WAYS)
