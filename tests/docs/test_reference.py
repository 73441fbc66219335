"""The reference pages say what the code says."""

from __future__ import annotations

import inspect
import re

from markdown_blocks import ROOT

from airflow_dataflux.core import errors


def test_the_errors_page_has_every_error_with_its_parents_and_its_worth_of_a_retry() -> None:
    written = {
        name: (re.findall(r"`(\w+)`", parents), retry)
        for name, parents, retry in re.findall(
            r"^\| `(\w+)` \| (.+?) \| (yes|no) \|", (ROOT / "docs/reference/errors.md").read_text("utf-8"), re.MULTILINE
        )
    }
    real = {
        name: ([parent.__name__ for parent in kind.__bases__], "yes" if kind.retryable else "no")
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.DatafluxError) and kind is not errors.DatafluxError
    }
    assert written == real
