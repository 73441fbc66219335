"""Run what depends on versions with every supported Airflow and Python: `make test-matrix`.

    python3 .ci/matrix.py                                # all cells
    python3 .ci/matrix.py airflow-3.1-python-3.13        # one of them
    python3 .ci/matrix.py --list                         # their names, and which Python would be used

A cell is an environment below `.venv-matrix`, made by uv: pip has no way to ask for the oldest allowed versions. uv is
installed from the package index into an environment of its own. A cell whose Python is not on this machine is named
and left out; the exit code is 1 if a cell failed, or if none was run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".venv-matrix"
TESTS = ("tests/unit", "tests/airflow")
"""A deployment, and what takes more than ten seconds, are run on the versions of `make test` alone."""

MARKS = "not deployment and not slow and not long"


@dataclass(frozen=True)
class Cell:
    """One combination.

    Attributes:
        airflow: requirement on its version.
        python: version, as in `python3.12`.
        constraints: file with pins; empty for none.
        arguments: for uv, besides.
    """

    airflow: str
    python: str
    constraints: str = ""
    arguments: tuple[str, ...] = ()


CELLS = {
    "airflow-2.11-python-3.12": Cell("==2.11.*", "3.12", "airflow2"),
    "airflow-3.0-python-3.12": Cell("==3.0.*", "3.12", "airflow3.0"),
    "airflow-3.1-python-3.13": Cell("==3.1.*", "3.13", "airflow3.1"),
    "airflow-3.2-python-3.12": Cell("==3.2.*", "3.12", "airflow3.2"),
    "airflow-3.3-python-3.13": Cell("==3.3.*", "3.13", "airflow3"),
    "airflow-3.3-python-3.14": Cell("==3.3.*", "3.14"),
    "newest": Cell(">=3.3", "3.13", arguments=("--upgrade",)),
    "oldest": Cell("==2.11.0", "3.11", arguments=("--resolution", "lowest-direct")),
}


def main() -> int:
    """Run the cells that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="CELL", help="what to run, instead of everything")
    parser.add_argument("--list", action="store_true", help="name the cells")
    parser.add_argument("--only-environments", action="store_true", help="make the environments, run nothing")
    options = parser.parse_args()
    unknown = set(options.cells) - CELLS.keys()
    if unknown:
        parser.error(f"no such cell: {', '.join(sorted(unknown))}; there are {', '.join(CELLS)}")
    outcomes: dict[str, str] = {}
    for name in options.cells or CELLS:
        python = find_python(CELLS[name].python)
        if options.list:
            print(f"{name}: {python or 'no Python ' + CELLS[name].python}")
        elif python is None:
            outcomes[name] = f"not run: there is no python{CELLS[name].python} (PYTHON_{suffix(name)}=path names one)"
        else:
            outcomes[name] = run(name, python, only_environment=options.only_environments)
            print(f"{name}: {outcomes[name]}", flush=True)
    for name, outcome in outcomes.items():
        print(f"| {name} | {outcome} |")
    ran = [outcome for outcome in outcomes.values() if not outcome.startswith("not run")]
    return 0 if options.list or (ran and not any("failed" in outcome for outcome in ran)) else 1


def suffix(name: str) -> str:
    """Return the end of the variable that names a cell's Python: 3_14 for 3.14."""
    return CELLS[name].python.replace(".", "_")


def find_python(version: str) -> str | None:
    """Return an interpreter of a version: the one that is named, on the PATH, or among those of pyenv and uv."""
    named = os.environ.get(f"PYTHON_{version.replace('.', '_')}")
    if named:
        return named
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local/share/uv/python"))
    found = [*pyenv.glob(f"{version}.*/bin/python"), *uv.glob(f"cpython-{version}.*/bin/python")]
    candidates = [shutil.which(f"python{version}"), *map(str, sorted(found, reverse=True))]
    for candidate in candidates:
        # pyenv puts a script on the PATH for every version that it has, and each runs only where it is switched on.
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def run(name: str, python: str, *, only_environment: bool) -> str:
    """Make a cell's environment, run the tests in it, and return how that ended."""
    began = time.monotonic()
    log = PLACE / f"{name}.log"
    made = make_environment(name, python, log)
    if not made or only_environment:
        return "environment ready" if made else f"failed: no environment, see {log}"
    interpreter = PLACE / name / "bin" / "python"
    command = [str(interpreter), "-W", "ignore", "-m", "pytest", "-q", "--tb=short", "-m", MARKS]
    command += ["--numprocesses", str(os.cpu_count()), "--dist", "loadfile", *TESTS]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "STORAGE_"))}
    with open(log, "w", encoding="utf-8") as output:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    last = re.sub(r"\x1b\[[0-9;]*m|=+", "", log.read_text(encoding="utf-8").splitlines()[-1]).strip()
    return f"{'passed' if done.returncode == 0 else 'failed'}: {last} ({time.monotonic() - began:.0f} s)"


def make_environment(name: str, python: str, log: Path) -> bool:
    """Make a cell's environment unless it is what it should be; return whether it is there now."""
    cell, place = CELLS[name], PLACE / name
    constraints = [f".ci/constraints-{cell.constraints}.txt"] if cell.constraints else []
    inputs = [
        repr(cell),
        python,
        *((ROOT / path).read_text(encoding="utf-8") for path in ["pyproject.toml", *constraints]),
    ]
    stamp = hashlib.sha256("\0".join(inputs).encode()).hexdigest()
    held = place / "dataflux-environment"
    if held.exists() and held.read_text(encoding="utf-8") == stamp:
        return True
    PLACE.mkdir(exist_ok=True)
    uv = PLACE / "tools" / "bin" / "uv"
    wanted = [
        f"apache-airflow{cell.airflow}",
        "--editable",
        ".[testing]",
        "--group",
        "test",
        "pytest-xdist>=3.6",
        *cell.arguments,
    ]
    commands = [
        [str(uv), "venv", "--clear", "--no-python-downloads", "--python", python, str(place)],
        [str(uv), "pip", "install", "--python", str(place / "bin" / "python"), *wanted]
        + [word for path in constraints for word in ("--constraint", path)],
    ]
    if not uv.exists():
        commands[:0] = [
            [sys.executable, "-m", "venv", "--clear", str(PLACE / "tools")],
            [str(PLACE / "tools" / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv"],
        ]
    print(f"{name}: making its environment with {python}", flush=True)
    with open(log, "w", encoding="utf-8") as output:
        for command in commands:
            done = subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            )
            if done.returncode:
                return False
    held.write_text(stamp, encoding="utf-8")
    return True


if __name__ == "__main__":
    sys.exit(main())
