"""What the site has besides the Markdown in `docs/`: the example DAGs, a reference made of docstrings, all decisions.

MkDocs calls these functions (hooks). The pages stay plain Markdown that a forge renders: a link to `../../dags/x.py`
leads to the file there, and to a copy of it here.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
DOCSTRINGS = {
    "Operators and hook": ("sphinx", ("airflow_dataflux", "Operator", "DatafluxHook", "Manifest")),
    "Core": ("google", ("airflow_dataflux.core", "")),
    "Testing": ("google", ("airflow_dataflux.testing", "")),
}


def on_config(config):
    """Put every page that the menu does not name into it: decisions, and what is new."""
    docs = Path(config["docs_dir"])
    named = set(re.findall(r"[\w/-]+\.md", str(config["nav"])))
    rest = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    decisions = [page for page in rest if page.startswith("decisions/")]
    config["nav"].append({"Decisions": decisions})
    others = [page for page in rest if page not in named and page not in decisions]
    if others:
        config["nav"].append({"More": others})
    return config


def on_files(files, config):
    """Add the example DAGs and the reference of docstrings."""
    for path in sorted((ROOT / "dags").glob("*.py")):
        files.append(File.generated(config, f"dags/{path.name}", content=path.read_text(encoding="utf-8")))
    listing = "".join(f"- [{path.name}](../dags/{path.name})\n" for path in sorted((ROOT / "dags").glob("*.py")))
    files.append(File.generated(config, "how-to/example-dags.md", content=f"# Example DAGs\n\n{listing}"))
    files.append(File.generated(config, "reference/docstrings.md", content=docstrings()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Lead links to `dags/`, which is beside `docs/`, to the copies."""
    markdown = re.sub(r"\]\((?:\.\./)+dags/([\w.]+)\)", r"](../dags/\1)", markdown)
    return re.sub(r"\]\((?:\.\./)+dags/?\)", "](example-dags.md)", markdown)


def docstrings():
    """Return a page of directives for every public name."""
    text = "# Reference of docstrings\n\nEvery public name, with what its docstring says.\n"
    for title, (style, (package, *only)) in DOCSTRINGS.items():
        text += f"\n## {title}\n"
        source = (ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8")
        for name, module in re.findall(r'^    "(\w+)": "([\w.]+)"', source, re.MULTILINE):
            if any(name.endswith(part) for part in only):
                text += f"\n::: {module}.{name}\n    options:\n      docstring_style: {style}\n      heading_level: 3\n"
    return text
