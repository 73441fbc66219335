"""The fenced code blocks of this project's pages, and what their info strings ask for.

The first word is the language. A second word says what a test does with the block, beyond compiling it:

    ```python run                  run, after the page's earlier ones, in one interpreter in an empty directory
    ```python part=dags/one.py     checked to be a part of that file of this project, whatever its indentation
    ```python file=dags/first.py   written to that file; a path below dags/ is also loaded by Airflow
    ```bash run                    run, after the page's earlier ones, in one shell in an empty directory
    ```text                        after a block that runs: what it printed, line by line; `…` stands for anything
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block.

    Attributes:
        page: path below the root of the project.
        line: of its first line of code, counted from 1.
        language, instruction: the two words of the info string; empty if absent.
        code: its text, ends in a newline.
    """

    page: str
    line: int
    language: str
    instruction: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.instruction == "run"

    @property
    def part(self) -> str | None:
        """Of which file of this project the block is a part, None if of none."""
        return self.instruction.removeprefix("part=") if self.instruction.startswith("part=") else None

    @property
    def file(self) -> str | None:
        """Where the block's text is to be written, None if nowhere."""
        return self.instruction.removeprefix("file=") if self.instruction.startswith("file=") else None


def pages() -> list[Path]:
    """Return every page that users read."""
    top = [ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CODE_OF_CONDUCT", "CONTRIBUTING", "SECURITY")]
    return [*top, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """Return a page's blocks in their order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, _, instruction = match["info"].strip().partition(" ")
        indent = match["indent"]
        code = "".join(line.removeprefix(indent) for line in match["code"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start("code")) + 1
        name = str(page.relative_to(ROOT))
        found.append(Block(page=name, line=line, language=language, instruction=instruction.strip(), code=code))
    return found


ALL_BLOCKS = [block for page in pages() if page.exists() for block in blocks_of(page)]


def missing_lines(expected: str, printed: str) -> list[str]:
    """Return the lines of `expected` that `printed` does not hold in this order; `…` stands for anything."""
    position, missing = 0, []
    lines = printed.splitlines()
    for line in filter(str.strip, expected.splitlines()):
        pattern = re.compile(".*".join(re.escape(part) for part in line.strip().split("…")))
        for number in range(position, len(lines)):
            if pattern.fullmatch(lines[number].strip()):
                position = number + 1
                break
        else:
            missing.append(line)
    return missing
