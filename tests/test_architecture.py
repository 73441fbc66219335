"""The direction of the arrows: who may import whom, read from the source, and what an import really loads."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import airflow_dataflux

PACKAGE = Path(airflow_dataflux.__file__).parent
GOOGLE_AND_HTTP = ("google", "urllib3", "requests", "httpx", "aiohttp", "http.client", "gcsfs", "gcloud")
CHECKSUMS = "google_crc32c"


@dataclass(frozen=True)
class Import:
    """One imported module, where it stands."""

    importer: str
    line: int
    imported: str
    for_types_only: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def imports_of(path: Path) -> Iterator[Import]:
    importer = ".".join(("airflow_dataflux", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    guarded = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    typing = {id(inner) for guard in guarded for statement in guard.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(importer, node.lineno, alias.name, id(node) in typing)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{importer}:{node.lineno} is a relative import"
            assert node.module is not None
            # `from package import module` imports package.module: both readings are checked.
            for alias in node.names:
                yield Import(importer, node.lineno, f"{node.module}.{alias.name}", id(node) in typing)


ALL_IMPORTS = [found for path in sorted(PACKAGE.rglob("*.py")) for found in imports_of(path)]


def is_in(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def imports_from(*packages: str) -> list[Import]:
    found = [one for one in ALL_IMPORTS if is_in(one.importer, *(f"airflow_dataflux.{name}" for name in packages))]
    assert found, f"nothing is left of {packages}: this rule checks nothing"
    return found


def offenders(imports: list[Import], *forbidden: str) -> list[str]:
    return [str(one) for one in imports if is_in(one.imported, *forbidden)]


def ours(*names: str) -> tuple[str, ...]:
    return tuple(f"airflow_dataflux.{name}" for name in names)


MODULES = {
    ".".join(("airflow_dataflux", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
}


def test_imports_go_in_no_circle() -> None:
    """Neither do those for types only, nor those within functions: who reads one module must not need the next."""
    makes_manifests = ours("core.manifest.manifest", "core.manifest.deriving")  # methods of Manifest that make others
    graph: dict[str, set[str]] = {}
    for one in ALL_IMPORTS:
        module = one.imported if one.imported in MODULES else one.imported.rpartition(".")[0]
        if module in MODULES - {one.importer} and (one.importer, module) != makes_manifests:
            graph.setdefault(one.importer, set()).add(module)
    graphlib.TopologicalSorter(graph).prepare()  # its CycleError names a circle


def test_two_modules_have_one_name_only_for_one_role() -> None:
    names = [path.stem for path in PACKAGE.rglob("*.py") if path.stem != "__init__"]
    assert {name for name in names if names.count(name) > 1} == {"__main__", "messages", "recorder", "run", "stats"}


def test_unit_tests_stand_where_what_they_test_stands() -> None:
    unit = Path(__file__).parent / "unit"
    folders = {path.parent.relative_to(unit) for path in unit.rglob("*.py")}
    assert folders
    assert [str(folder) for folder in sorted(folders) if not (PACKAGE / folder / "__init__.py").is_file()] == []


def test_the_core_knows_neither_airflow_nor_the_layers_above_it() -> None:
    above = ours("hooks", "operators", "addresses", "links", "plugin", "compat", "failures", "provider_info", "testing")
    assert offenders(imports_from("core"), "airflow", *above) == []


def test_only_core_gcs_speaks_to_google_or_over_http() -> None:
    others = [one for one in imports_from("core") if not is_in(one.importer, *ours("core.gcs"))]
    assert offenders(others, *GOOGLE_AND_HTTP) == []


def test_only_airflows_side_of_google_is_known_above_the_core() -> None:
    outside = imports_from("hooks", "operators", "links", "plugin", "compat", "failures", "provider_info")
    assert offenders(outside, *GOOGLE_AND_HTTP, CHECKSUMS) == []


def test_listing_and_staging_meet_only_in_the_manifest() -> None:
    assert offenders(imports_from("core.listing"), *ours("core.staging")) == []
    assert offenders(imports_from("core.staging"), *ours("core.listing")) == []


def test_packing_knows_nothing_of_listing_and_nobody_below_knows_packing() -> None:
    assert offenders(imports_from("core.packing"), *ours("core.listing")) == []
    assert offenders(imports_from("core.listing", "core.staging"), *ours("core.packing")) == []


def test_what_listing_and_staging_share_knows_neither() -> None:
    shared = imports_from(
        "core.gcs", "core.manifest", "core.report", "core.runtime", "core.model", "core.arrow", "core.config"
    )
    assert offenders(shared, *ours("core.listing", "core.staging", "core.packing")) == []


def test_the_report_is_drawn_from_data_alone() -> None:
    rest = sorted({one.imported for one in imports_from("core.report") if is_in(one.imported, *ours("core"))})
    assert [imported for imported in rest if not is_in(imported, *ours("core.report", "core.arrow"))] == []


def test_the_runtime_knows_nothing_of_cloud_storage() -> None:
    assert offenders(imports_from("core.runtime"), *ours("core.gcs", "core.manifest")) == []


def test_threads_are_started_where_a_refusal_becomes_an_error_of_ours() -> None:
    """Which is `start_threads` and `ThreadPool`: a container may permit no more of them."""
    product = [one for one in ALL_IMPORTS if not is_in(one.importer, *ours("testing", "core.runtime.threads"))]
    assert offenders(product, "concurrent.futures.ThreadPoolExecutor", "concurrent.futures.thread") == []
    sources = [path.read_text("utf-8") for path in PACKAGE.rglob("*.py") if "testing" not in path.parts]
    assert [source for source in sources if "threading.Thread(" in source and "start_threads(" not in source] == []


def test_what_decodes_into_a_type_is_made_while_its_module_is_imported() -> None:
    """msgspec crashes if two threads are the first to decode into a type (`decode(data, type=…)`)."""
    found = [
        f"{path.name}:{call.lineno}"
        for path in PACKAGE.rglob("*.py")
        if "testing" not in path.parts
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and any(keyword.arg == "type" for keyword in call.keywords)
        if ast.unparse(call.func).endswith(".decode")
    ]
    assert found == []


def test_the_hook_knows_no_operator() -> None:
    assert offenders(imports_from("hooks"), *ours("operators", "links", "plugin")) == []


def test_tasks_know_nothing_of_the_plugin() -> None:
    """It runs in the API server and imports Airflow's database: no worker may pay for that."""
    assert offenders(imports_from("operators", "links", "hooks", "compat"), *ours("plugin")) == []


def test_only_the_plugin_knows_airflows_server_and_database() -> None:
    others = [one for one in ALL_IMPORTS if not is_in(one.importer, *ours("plugin"))]
    server = ("airflow.api_fastapi", "airflow.models", "fastapi", "starlette", "sqlalchemy")
    assert offenders(others, *server) == []
    knowing = ours("plugin.app", "plugin.access", "plugin.records")
    assert {one.importer for one in ALL_IMPORTS if is_in(one.imported, *server)} == set(knowing)


def test_the_product_never_imports_its_test_server() -> None:
    product = [one for one in ALL_IMPORTS if not is_in(one.importer, *ours("testing"))]
    assert offenders(product, *ours("testing")) == []


def test_only_compat_asks_for_airflows_version() -> None:
    elsewhere = [one for one in ALL_IMPORTS if not is_in(one.importer, *ours("compat"))]
    versions = ("airflow.version", "airflow.__version__", "packaging", "airflow.providers.common.compat.version_compat")
    assert offenders(elsewhere, *versions) == []


def run_python(code: str) -> str:
    """Run `code` in a new interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LOADED_BY = """
import sys
import tomllib
before = set(sys.modules)
{statement}
heavy = {{"airflow", "google", "pyarrow", "aiohttp", "urllib3"}}
print(sorted(name for name in set(sys.modules) - before if name.partition(".")[0] in heavy))
"""


def test_importing_the_package_imports_neither_airflow_nor_google() -> None:
    assert run_python(LOADED_BY.format(statement="import airflow_dataflux; dir(airflow_dataflux)")) == "[]"


def test_a_listing_asks_for_its_first_page_before_it_imports_arrow() -> None:
    """`core/listing/lister.py` imports it while the page is on its way."""
    statement = "from airflow_dataflux.core import StoreConfig, list_objects"
    loaded = ast.literal_eval(run_python(LOADED_BY.format(statement=statement)))
    assert "urllib3" in loaded
    assert [name for name in loaded if not name.startswith("urllib3")] == []


def test_loading_the_airflow_plugin_loads_no_server() -> None:
    """Every process of Airflow loads plugins, the one that parses DAGs, too."""
    code = """
import sys
import airflow.providers.common.compat.sdk as sdk
sdk.AirflowPlugin
before = set(sys.modules)
import airflow_dataflux.plugin.registration
print(sorted(set(sys.modules) - before))
"""
    loaded = run_python(code).splitlines()[-1]
    expected = ["airflow_dataflux", *ours("addresses", "plugin", "plugin.registration", "plugin.failed_tasks")]
    more = set(ast.literal_eval(loaded)) - set(expected)
    assert {
        name for name in more if not is_in(name, "airflow.listeners", "airflow._shared.listeners", "pluggy")
    } == set()


def test_the_pytest_plugin_costs_other_projects_nothing() -> None:
    """It is loaded by every pytest run beside this package, also where the [testing] extra is not installed."""
    assert run_python(LOADED_BY.format(statement="import airflow_dataflux.testing.plugin")) == "[]"


AIRFLOW_BLOCKED = """
import sys
import tomllib
class Block:
    asked = 0
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "airflow":
            Block.asked += 1
            raise ImportError(f"{name} is blocked: the core must run without Airflow")
sys.meta_path.insert(0, Block())
try:
    import airflow
except ImportError:
    pass
assert Block.asked == 1, "the block does not work"
"""


def core_modules() -> list[str]:
    """Return every module of the core except those that are programs."""
    core = PACKAGE / "core"
    names = (".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in sorted(core.rglob("*.py")))
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def test_every_module_of_the_core_can_be_imported_with_airflow_blocked() -> None:
    imports = "\n".join(f"import {name}" for name in core_modules())
    assert run_python(f"{AIRFLOW_BLOCKED}\n{imports}\nprint(Block.asked)") == "1"


@pytest.mark.parametrize("isolated", [False, True], ids=["in this process", "in an engine process"])
def test_the_core_lists_and_stages_with_airflow_blocked(isolated: bool, tmp_path: Path) -> None:
    # The engine process is a new interpreter: the block must reach it too, so it is installed by sitecustomize.
    (tmp_path / "sitecustomize.py").write_text(AIRFLOW_BLOCKED, encoding="utf-8")
    code = f"""
import os, sys
sys.path.insert(0, {str(tmp_path)!r})
os.environ["PYTHONPATH"] = {str(tmp_path)!r}
{AIRFLOW_BLOCKED}
from airflow_dataflux.testing import GCSServer
from airflow_dataflux.core import list_objects, stage
from airflow_dataflux.core.config import ListRequest, StageRequest
from airflow_dataflux.core.gcs.auth import default_store_config, default_tokens

with GCSServer() as server:
    os.environ.update(server.environment())
    server.create_bucket("blocked")
    for number in range(50):
        server.put("blocked", f"train/{{number:03}}.txt", str(number).encode())
    access = {{"store_config": default_store_config(), "tokens": default_tokens(), "isolated": {isolated}}}
    manifest = list_objects(ListRequest(bucket="blocked", manifest_uri={(tmp_path / "manifest").as_uri()!r}), **access)
    receipt = stage(manifest, StageRequest(destination={str(tmp_path / "staged")!r}), **access)
print(len(manifest), receipt.summary()["downloaded"])
"""
    assert run_python(code) == "50 50"
    staged = sorted((tmp_path / "staged" / "train").glob("*.txt"))
    assert [path.read_text(encoding="utf-8") for path in staged] == [str(number) for number in range(50)]


DISTRIBUTIONS = {
    "airflow": "apache-airflow",
    "fastapi": "apache-airflow",  # Airflow 3 hands these to the plugins of its API server; 2.11 loads none
    "sqlalchemy": "apache-airflow",
    "starlette": "apache-airflow",
    "airflow.providers.common.compat": "apache-airflow-providers-common-compat",
    "airflow.providers.google": "apache-airflow-providers-google",
    "google.auth": "google-auth",
    "google_crc32c": "google-crc32c",
}
"""Imports whose distribution has another name, the most exact one last."""


def distribution_of(module: str) -> str:
    matches = [name for name in DISTRIBUTIONS if is_in(module, name)]
    return DISTRIBUTIONS[max(matches, key=len)] if matches else module.partition(".")[0]


def test_exactly_what_is_imported_is_declared() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours_or_python = {*sys.stdlib_module_names, "airflow_dataflux"}
    really = [one for one in ALL_IMPORTS if not one.for_types_only]
    foreign = [one for one in really if one.imported.partition(".")[0] not in ours_or_python]
    product = {distribution_of(one.imported) for one in foreign if not is_in(one.importer, *ours("testing"))}
    testing = {distribution_of(one.imported) for one in foreign if is_in(one.importer, *ours("testing"))}

    def declared(requirements: list[str]) -> set[str]:
        return {re.split(r"[^A-Za-z0-9._-]", one)[0] for one in requirements}

    # Airflow is what all of this runs in, whether or not a module of it is imported beside its providers'.
    assert declared(project["dependencies"]) == product | {"apache-airflow"}
    assert declared(project["optional-dependencies"]["testing"]) == testing - product
