"""The map shows what exists: all that `docs/architecture.md` names, in the code and as a file, and every package."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from markdown_blocks import ROOT

import airflow_dataflux

PACKAGE = Path(airflow_dataflux.__file__).parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TOP = "|".join(sorted(path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"))
NAMES = sorted(set(re.findall(rf"(?<![\w./])((?:{TOP})(?:\.\w+)+)", PAGE)))


def resolve(name: str) -> object:
    """Return what a dotted name below the package stands for."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        module = ".".join(["airflow_dataflux", *parts[:count]])
        try:
            found: object = import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def test_the_page_names_enough_to_find_ones_way() -> None:
    assert len(NAMES) > 30


@pytest.mark.airflow
@pytest.mark.parametrize("name", NAMES)
def test_what_the_map_names_exists(name: str) -> None:
    assert resolve(name) is not None


def test_the_files_that_the_page_names_exist() -> None:
    files = set(re.findall(r"(?<![\w./])(?:tests|dags|airflow_dataflux)/[\w./]*\w", PAGE))
    assert len(files) > 5
    assert [name for name in sorted(files) if not (ROOT / name).exists()] == []


def test_every_package_has_its_place_on_the_map() -> None:
    packages = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")} - {".", "core"}
    table = {name.replace(".", "/") for name in re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE)}
    assert packages == table
