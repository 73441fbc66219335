"""What the build of a documentation site would warn of."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_blocks import ROOT, pages
from test_code_blocks import anchors_of

FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")


def prose(page: Path) -> str:
    """Return a page's text with every character of a fenced block blanked, so that lines keep their numbers."""
    return FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), page.read_text("utf-8"))


def cells(line: str) -> int:
    """Return how many cells a row of a table has; a bar within code that is not escaped divides cells, too."""
    return len(re.findall(r"(?<!\\)\|", line.strip().strip("|"))) + 1


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
class TestPage:
    def test_every_row_of_a_table_has_the_cells_of_its_head(self, page: Path) -> None:
        uneven = []
        for number, (before, line) in enumerate(pairwise(prose(page).splitlines()), start=2):
            if line.startswith("|") and before.startswith("|") and cells(line) != cells(before):
                uneven.append(f"{number}: {line}")
        assert uneven == []

    def test_a_table_begins_with_a_head(self, page: Path) -> None:
        lines = ["", *prose(page).splitlines(), ""]
        headless = [
            line
            for before, line, after in zip(lines, lines[1:], lines[2:], strict=False)
            if line.startswith("|") and not before.startswith("|") and not re.fullmatch(r"\|( *:?-+:? *\|)+", after)
        ]
        assert headless == []

    def test_headings_go_down_one_level_at_a_time_from_a_single_title(self, page: Path) -> None:
        levels = [len(marks) for marks in re.findall(r"^(#+) ", prose(page), re.MULTILINE)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert [(above, below) for above, below in pairwise(levels) if below > above + 1] == []

    def test_no_two_headings_share_an_anchor(self, page: Path) -> None:
        if page.name == "CHANGELOG.md":
            return  # each version has the same headings, by convention, and nothing links to them
        headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
        assert [text for text, count in Counter(headings).items() if count > 1] == []
        assert anchors_of(page)

    def test_every_image_is_there_and_says_what_it_shows(self, page: Path) -> None:
        for text, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", prose(page)):
            assert text, f"{target} has no text"
            assert (page.parent / target).exists(), f"{target} is not there"

    def test_there_is_no_raw_html(self, page: Path) -> None:
        assert re.findall(r"</?[a-zA-Z][\w-]*[^<>\n]*>", CODE.sub("", prose(page))) == []
