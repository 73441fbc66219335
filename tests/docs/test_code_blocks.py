"""Every code block of the README and the docs is code: it compiles, imports what exists, and runs where it says so."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import pytest
from markdown_blocks import ALL_BLOCKS, ROOT, Block, missing_lines

PYTHON = [block for block in ALL_BLOCKS if block.language == "python"]
SHELL = [block for block in ALL_BLOCKS if block.language == "bash"]
DAG_FILES = [block for block in PYTHON if block.file and block.file.startswith("dags/")]
PAGES_THAT_RUN = sorted({block.page for block in PYTHON if block.runs})
LANGUAGES = {"", "python", "bash", "text", "json", "toml", "yaml", "ini"}


def test_every_block_says_what_it_is() -> None:
    unknown = [f"{block}: {block.language!r}" for block in ALL_BLOCKS if block.language not in LANGUAGES]
    assert unknown == []
    strange = [
        f"{block}: {block.instruction!r}"
        for block in ALL_BLOCKS
        if block.instruction and not (block.runs or block.file or block.part)
    ]
    assert strange == []


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles(block: Block) -> None:
    compile(textwrap.dedent(block.code), str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def without_layout(code: str) -> str:
    """Return code without what the formatter decides by a line's indentation: white space and trailing commas."""
    return re.sub(r",(?=[)\]}])", "", "".join(code.split()))


@pytest.mark.parametrize("block", [block for block in PYTHON if block.part], ids=str)
def test_a_part_of_a_file_is_still_in_it(block: Block) -> None:
    assert without_layout(block.code) in without_layout((ROOT / str(block.part)).read_text(encoding="utf-8"))


def test_every_example_dag_is_shown_in_the_docs() -> None:
    shown = {block.part for block in PYTHON if block.part}
    assert {f"dags/{path.name}" for path in (ROOT / "dags").glob("*.py")} <= shown


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_shell_parses(block: Block) -> None:
    checked = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("block", [one for one in ALL_BLOCKS if one.language == "json"], ids=str)
def test_json_parses(block: Block) -> None:
    json.loads(block.code)


def imports_of_this_package(block: Block) -> list[tuple[str, str]]:
    """Return (module, name) of everything that a block imports from this package."""
    found = []
    for node in ast.walk(ast.parse(textwrap.dedent(block.code))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "airflow_dataflux":
            found += [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "__name__") for alias in node.names if alias.name.startswith("airflow_dataflux")]
    return found


@pytest.mark.airflow
@pytest.mark.parametrize("block", [one for one in PYTHON if imports_of_this_package(one)], ids=str)
def test_what_a_block_imports_exists(block: Block) -> None:
    for module, name in imports_of_this_package(block):
        assert hasattr(import_module(module), name), f"{block} imports {name} from {module}"


def run_blocks(page: str, directory: Path) -> list[tuple[Block, str]]:
    """Run a page's runnable Python in one interpreter and return what each block printed."""
    blocks = [block for block in PYTHON if block.page == page and block.runs]
    marker = "#-- the next block --#"
    (directory / "blocks.json").write_text(json.dumps([[str(one), one.code] for one in blocks]), encoding="utf-8")
    program = f"""
import json, sys
namespace = {{"__name__": "__main__"}}
for place, code in json.load(open("blocks.json")):
    exec(compile(code, place, "exec"), namespace)
    print({marker!r}, flush=True)
"""
    (directory / "run.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "run.py"],
        cwd=directory,
        env={**os.environ, "HOME": str(directory), "AIRFLOW_HOME": str(directory / "airflow")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{page}\n{done.stdout}\n{done.stderr}"
    return list(zip(blocks, done.stdout.split(marker), strict=False))


@pytest.mark.parametrize("page", PAGES_THAT_RUN)
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    for block, printed in run_blocks(page, tmp_path):
        following = ALL_BLOCKS[ALL_BLOCKS.index(block) + 1 :][:1]
        for answer in following:
            if answer.page == page and answer.language == "text":
                assert missing_lines(answer.code, printed) == [], printed


@pytest.mark.airflow
def test_every_dag_in_the_docs_can_be_loaded_by_airflow(tmp_path: Path) -> None:
    assert DAG_FILES, "no DAG is left in the docs: this test checks nothing"
    files = []
    for number, block in enumerate(DAG_FILES):
        files.append(tmp_path / f"{block.page.replace('/', '_')}_{number}.py")
        files[-1].write_text(block.code, encoding="utf-8")
    program = """
import sys
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag
for file in sys.argv[1:]:
    bag = DagBag(file)
    print("loaded" if len(bag.dags) == 1 else f"{file}: {bag.import_errors or 'no DAG'}")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *map(str, files)],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
            "AIRFLOW_HOME": str(tmp_path / "home"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines().count("loaded") == len(DAG_FILES), done.stdout


LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> list[tuple[Path, str]]:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    found = []
    for page in pages:
        text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        found += [(page, match["target"]) for match in LINK.finditer(text)]
    return [(page, target) for page, target in found if not re.match(r"[a-z]+:", target)]


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = []
    for page, target in links():
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and linked.suffix == ".md" and anchor not in anchors_of(linked)):
            broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_every_page_can_be_reached_from_the_index() -> None:
    reached, waiting = set(), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            targets = [(one.parent / target.partition("#")[0]).resolve() for one, target in links() if one == page]
            waiting += [target for target in targets if target.suffix == ".md" and target.exists()]
    lost = [str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md") if page not in reached]
    assert lost == []
