"""The pages build as a site: strict, from the same Markdown."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from markdown_blocks import ROOT


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="the group `docs` is not installed: make site installs it")
def test_the_site_builds_strictly_with_search_and_a_reference_of_docstrings(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {page.replace("README.html", "index.html") for page in pages} - built == set()
    assert (site / "search" / "search_index.json").is_file()
    reference = (site / "reference" / "docstrings.html").read_text(encoding="utf-8")
    for name in ("FastListOperator", "DatafluxHook", "list_objects", "GCSServer"):
        assert f".{name}" in reference, name
