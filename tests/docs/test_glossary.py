"""The glossary's words are those of the code."""

from __future__ import annotations

import ast
import re

import pytest
from markdown_blocks import ROOT
from test_architecture_page import PACKAGE, resolve

PAGE = (ROOT / "docs" / "reference" / "glossary.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("| ").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| term", "|--"))
]
TERMS = [(row[0], name) for row in ROWS for name in re.findall(r"`([\w.]+)`", row[3])]


def test_no_term_is_explained_twice() -> None:
    terms = [term.strip() for row in ROWS for term in row[0].split(",")]
    assert len(terms) == len(set(terms)) > 30


@pytest.mark.airflow
@pytest.mark.parametrize(("term", "name"), TERMS)
def test_what_a_term_stands_for_is_in_the_code(term: str, name: str) -> None:
    assert resolve(name) is not None, f"{term}: there is no {name}"


PRIVATE_WORDS = {
    *("accounts", "account", "branches", "caps", "census", "climb", "courses", "effort", "ground", "guard"),
    *("islands", "keeper", "knowledge", "ladder", "looker", "narrator", "notice", "opening", "placed", "rungs"),
    *("scale", "shares", "survey", "tiling", "unneeded", "voids", "ways"),
}
"""Words that a newcomer would have to ask about. A page's prose may use them; a name may not."""

FIELDS_OWN = {"AxisScale", "time_scale"}
"""A chart has a scale in anybody's words."""


def test_no_file_class_or_function_has_a_name_that_needs_explaining() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        names = [path.stem] + [
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        for name in names:
            words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
            if words & PRIVATE_WORDS and name not in FIELDS_OWN:
                found.append(f"{path.relative_to(PACKAGE)}: {name}")
    assert found == []
