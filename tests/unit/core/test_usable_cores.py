"""How many worker processes there may be, where a container is limited."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_dataflux.core import config


@pytest.mark.parametrize(
    ("written", "cores"),
    [("400000 100000", 4), ("250000 100000", 3), ("50000 100000", 1), ("max 100000", None), ("", None)],
)
def test_a_containers_limit_is_whole_processors_rounded_up(tmp_path: Path, written: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(written + "\n")
    assert config._container_cores(str(tmp_path / "cpu.max")) == cores


def test_where_nothing_tells_a_limit_there_is_none(tmp_path: Path) -> None:
    assert config._container_cores(str(tmp_path / "nowhere")) is None


def test_the_usable_cores_are_the_smaller_of_affinity_and_limit(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    monkeypatch.setattr(config, "_CPU_LIMIT", str(tmp_path / "nowhere"))
    allowed = config.usable_cores()
    monkeypatch.setattr(config, "_CPU_LIMIT", str(tmp_path / "cpu.max"))
    assert config.usable_cores() == min(allowed, 1)
