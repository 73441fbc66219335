"""The promises name tests that exist, and commands that can be run."""

from __future__ import annotations

import ast
import re

from markdown_blocks import ROOT

PAGE = (ROOT / "docs" / "concepts" / "guarantees.md").read_text(encoding="utf-8")
TESTS = {
    node.name
    for path in (ROOT / "tests").rglob("test_*.py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.FunctionDef | ast.ClassDef)
}
PROMISES = [
    line.strip("| ").split(" | ")
    for line in PAGE.partition("## How often")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| promise |")
]


def test_every_promise_names_what_attacks_it() -> None:
    assert len(PROMISES) > 30
    for promise, _, tests in PROMISES:
        assert re.findall(r"`[\w ]+`", tests), promise


def test_every_test_that_a_promise_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE)) | set(re.findall(r"`(\w+)` in `tests/", PAGE))
    assert named
    assert sorted(named - TESTS) == []


def test_every_command_names_files_targets_and_variables_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")) + makefile
    for path in re.findall(r"(tests/[\w/]+(?:\.py)?)", PAGE):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"`make ([\w-]+)", PAGE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for variable in re.findall(r"\b([A-Z][A-Z_]{4,})=", PAGE):
        assert variable in sources, variable
