"""What users install: the wheel's contents, its metadata, and an installation outside this checkout.

Nothing here needs a network: the wheel is built by the build backend of this environment, and the fresh environment
borrows the dependencies, and only them, from this one.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import airflow_dataflux

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "airflow_dataflux"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIST_INFO = f"airflow_provider_dataflux-{airflow_dataflux.__version__}.dist-info"


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HOME": str(cwd)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", directory, cwd=ROOT)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"{DIST_INFO}/METADATA").decode())


@pytest.fixture(scope="module")
def fresh_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a new environment, outside the checkout, that holds the wheel."""
    directory = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", directory / "venv", cwd=directory)
    python = directory / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=directory)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=directory)
    # A .pth file appends a directory without obeying that directory's own .pth files, so the editable checkout in it
    # stays invisible: what is imported below is the wheel.
    (Path(site) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def test_the_wheel_holds_the_package_and_nothing_else(names: set[str]) -> None:
    sources = {
        str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if not name.startswith(f"{DIST_INFO}/")} == sources


def test_the_wheel_is_typed_and_licensed(names: set[str], metadata: Message) -> None:
    assert "airflow_dataflux/py.typed" in names
    assert f"{DIST_INFO}/licenses/LICENSE" in names
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_wheel_requires_what_the_project_declares(metadata: Message) -> None:
    def plain(requirement: str) -> str:
        return re.sub(r"[\s()'\"]", "", requirement).lower()

    extras = {f"{one}; extra == {name}" for name, some in PROJECT["optional-dependencies"].items() for one in some}
    declared = {plain(one) for one in {*PROJECT["dependencies"], *extras}}
    assert {plain(one) for one in metadata.get_all("Requires-Dist", [])} == declared
    assert metadata["Requires-Python"] == PROJECT["requires-python"]


def test_the_version_is_written_in_one_place(metadata: Message) -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert metadata["Version"] == airflow_dataflux.__version__
    quoted = re.compile(rf"""["']{re.escape(airflow_dataflux.__version__)}["']""")
    files = [ROOT / "pyproject.toml", *PACKAGE.rglob("*.py")]
    holders = [str(path.relative_to(ROOT)) for path in files if quoted.search(path.read_text(encoding="utf-8"))]
    assert holders == ["airflow_dataflux/_version.py"]


def test_the_changelog_tells_what_this_version_brings() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(airflow_dataflux.__version__)}\]", changelog, re.MULTILINE)


def test_an_installed_wheel_is_imported_from_its_own_place(fresh_python: Path) -> None:
    place = run(
        fresh_python, "-c", "import airflow_dataflux; print(airflow_dataflux.__file__)", cwd=fresh_python.parent
    )
    assert Path(place).is_relative_to(fresh_python.parents[1])


def test_an_installed_wheel_has_all_it_needs(fresh_python: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--python", fresh_python, "--disable-pip-version-check")
    assert "No broken requirements" in run(*pip, "check", cwd=fresh_python.parent)


def test_every_module_of_an_installed_wheel_can_be_imported(fresh_python: Path) -> None:
    code = """
import importlib, pkgutil, airflow_dataflux
names = [module.name for module in pkgutil.walk_packages(airflow_dataflux.__path__, "airflow_dataflux.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""
    assert int(run(fresh_python, "-c", code, cwd=fresh_python.parent).splitlines()[-1]) > 20


def test_airflow_finds_the_provider_of_an_installed_wheel(fresh_python: Path) -> None:
    code = """
from importlib.metadata import entry_points, version
(entry,) = [found for found in entry_points(group="apache_airflow_provider") if "dataflux" in found.module]
info = entry.load()()
print(info["package-name"], entry.dist.name, version(info["package-name"]))
"""
    name = "airflow-provider-dataflux"
    printed = run(fresh_python, "-c", code, cwd=fresh_python.parent)
    assert printed.split() == [name, name, airflow_dataflux.__version__]
