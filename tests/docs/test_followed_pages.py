"""Pages that a reader follows are followed to the letter: files written, commands run, answers compared."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_blocks import ROOT, Block, blocks_of, missing_lines

PAGES = {
    "docs/tutorial.md": 8,
    "docs/how-to/test-your-dags.md": 1,
    "docs/how-to/command-line.md": 9,
    "docs/how-to/nightly.md": 1,
}
"""Each page, with the answers that it has at least."""
PORT_IN_THE_PAGE = "9199"


def script(blocks: list[Block]) -> str:
    """Return what a reader types, in one shell: files by their editor, commands at the prompt."""
    lines = ["set -euo pipefail", "trap 'jobs -p | xargs -r kill' EXIT"]
    for block in blocks:
        if block.file:
            lines.append(f"mkdir -p $(dirname {block.file})")
            lines.append(f"printf %s {shlex.quote(block.code)} > {block.file}")
        elif block.runs and block.language == "bash":
            lines += [f"echo '#-- {block}'", block.code]
    return "\n".join(lines)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.airflow
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_is_followed_does_what_it_says(page: str, tmp_path: Path) -> None:
    blocks = blocks_of(ROOT / page)
    done = subprocess.run(
        ["bash", "-c", script(blocks).replace(PORT_IN_THE_PAGE, free_port())],
        cwd=tmp_path,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "STORAGE_"))},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "HOME": str(tmp_path),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    logs = "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(tmp_path.glob("*.log")))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
    answers = {section.partition("\n")[0]: section.partition("\n")[2] for section in done.stdout.split("#-- ")}
    compared = 0
    for block, answer in pairwise(blocks):
        if block.runs and answer.language == "text":
            assert missing_lines(answer.code, answers[str(block)]) == [], f"{block}\n{answers[str(block)]}\n{logs}"
            compared += 1
    assert compared >= PAGES[page], "the page's answers are not compared any more"
