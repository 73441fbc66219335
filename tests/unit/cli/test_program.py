"""The program as it runs: what a signal leaves, what it imports, what a shell completes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from process_table import descendants, wait_until_gone

PROGRAM = [sys.executable, "-m", "airflow_dataflux"]


@pytest.fixture
def server(gcs_server):
    gcs_server.create_bucket("data")
    gcs_server.put_many("data", {f"many/{n:04}": b"x" * 100 for n in range(1500)})
    return gcs_server


@pytest.fixture
def manifest(server, tmp_path: Path) -> str:
    command = [*PROGRAM, "list", "data", "--manifest-uri", str(tmp_path / "manifest")]
    subprocess.run(command, env={**os.environ, **server.environment()}, check=True, capture_output=True)
    return str(tmp_path / "manifest")


def interrupted(server, tmp_path: Path, operation: str, *arguments: str, number: int = signal.SIGINT) -> str:
    """Start a command, interrupt it as a terminal does once it has sent some requests; return what it said.

    A terminal sends Ctrl-C to all processes of the command. None of them may be left, nor a temporary file.
    """
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    running = subprocess.Popen(
        [*PROGRAM, *arguments],
        env={**os.environ, **server.environment(), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while server.requests().operations.get(operation, 0) < 2:
            assert running.poll() is None, running.communicate()
        below = descendants(running.pid)
        os.killpg(running.pid, number)
        _, told = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130, told
    assert wait_until_gone(below) == []
    assert list(temporary.iterdir()) == []
    return told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_staging_leaves_nothing(server, manifest: str, tmp_path: Path, number: int) -> None:
    server.configure(latency_s={"read": 5.0})  # nothing is done before it is interrupted
    tree = tmp_path / "tree"
    told = interrupted(
        server, tmp_path, "compose", "stage", manifest, str(tree), "--strategy", "compose", number=number
    )
    assert "Interrupted" in told
    assert server.names("data", "dataflux-composed-objects/") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest", "temporary"]


def test_an_interrupted_staging_in_processes_leaves_nothing(server, manifest: str, tmp_path: Path) -> None:
    """The engine and its workers get the terminal's Ctrl-C, too."""
    server.put_many("data", {f"large/{n:02}": os.urandom(4 << 20) for n in range(24)})
    listed = [*PROGRAM, "list", "data", "--manifest-uri", manifest]
    subprocess.run(listed, env={**os.environ, **server.environment()}, check=True, capture_output=True)
    server.configure(latency_s={"read": 5.0})  # nothing is done before it is interrupted
    interrupted(server, tmp_path, "compose", "stage", manifest, str(tmp_path / "tree"), "--strategy", "compose")
    assert server.names("data", "dataflux-composed-objects/") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest", "temporary"]


def test_an_interrupted_listing_leaves_nothing(server, tmp_path: Path) -> None:
    server.configure(page_cap=10, latency_s={"list": 0.05})
    interrupted(server, tmp_path, "list", "list", "data")


def test_an_interrupted_pack_leaves_no_composite_and_nothing_that_looks_like_a_shard(
    server, manifest: str, tmp_path: Path
) -> None:
    server.configure(latency_s={"read": 5.0})  # nothing is done before it is interrupted
    pack = tmp_path / "pack"
    interrupted(server, tmp_path, "compose", "pack", manifest, str(pack), "--strategy", "compose")
    assert server.names("data", "dataflux-composed-objects/") == []
    assert list(pack.glob("*.tar")) == []
    assert not (pack / "index.json").exists()


def test_a_command_that_only_reads_ends_at_once(server, manifest: str) -> None:
    """Its output is a small pipe that nobody reads: it would wait for ever."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    command = [*PROGRAM, "show", manifest, "--rows"]
    running = subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    try:
        while "pipe_write" not in wchan(running.pid):
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=60)
    finally:
        running.kill()
        os.close(reading)
    assert running.returncode == 130, told


def wchan(pid: int) -> str:
    """Return in which function of the kernel a process waits."""
    with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
        return file.read()


HELP = "import sys\nfrom airflow_dataflux.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
LIST = "import sys\nfrom airflow_dataflux.cli import main\nmain(['list', 'data'])\nprint(*sys.modules)"


def packages_loaded(code: str, **environment: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return {".".join(name.split(".")[:2]) for name in done.stdout.split()}


def test_the_help_loads_nothing_that_is_slow() -> None:
    loaded = packages_loaded(HELP)
    assert "airflow_dataflux.cli" in loaded
    assert (
        loaded & {"airflow", "google.auth", "pyarrow", "urllib3", "requests", "rich", "argcomplete", "asyncio"} == set()
    )


def test_a_listing_loads_neither_airflow_nor_a_bar_nor_googles_libraries(server) -> None:
    loaded = packages_loaded(LIST, **server.environment())
    assert {"pyarrow", "urllib3"} <= loaded
    assert loaded & {"airflow", "google.auth", "requests", "rich", "argcomplete", "numpy", "pandas", "fsspec"} == set()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dataflux pru", {"prune "}),
        ("dataflux stage --on-changed-object ", {"fail", "skip"}),
        ("dataflux list bucket --min-", {"--min-bytes "}),
    ],
)
def test_a_shell_is_told_what_completes_a_line(line: str, expected: set[str]) -> None:
    with tempfile.TemporaryFile() as answers:
        subprocess.run(
            ["bash", "-c", f'exec 8>&{answers.fileno()} 9>/dev/null; exec "$@"', "-", *PROGRAM],
            env={
                **os.environ,
                "_ARGCOMPLETE": "1",
                "COMP_LINE": line,
                "COMP_POINT": str(len(line)),
                "_ARGCOMPLETE_IFS": "\n",
            },
            pass_fds=[answers.fileno()],
            capture_output=True,
            check=False,
        )
        answers.seek(0)
        assert set(answers.read().decode().split("\n")) == expected


def output_refused(server, shell: str, **environment: str) -> tuple[int, str]:
    """List the bucket with the redirection of a shell; return the exit code and what was said."""
    done = subprocess.run(
        ["bash", "-c", f'"$@" list data {shell}', "-", *PROGRAM],
        env={**os.environ, **server.environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("options", ["", "--json"])
def test_an_output_that_cannot_be_written_is_an_error_that_says_so(server, options: str) -> None:
    assert output_refused(server, f"{options} >/dev/full") == (
        1,
        "dataflux: The output could not be written: No space left on device.\n",
    )


def test_a_closed_output_is_not_written_to(server) -> None:
    assert output_refused(server, ">&-") == (0, "")


def test_an_output_that_cannot_hold_a_name_is_an_error_that_says_what_to_set(server) -> None:
    server.put("data", "\u00e9", b"")
    code, told = output_refused(server, "", PYTHONIOENCODING="ascii")
    assert (code, told.count("\n")) == (1, 1)
    assert "because it takes ascii. Set PYTHONIOENCODING=utf-8" in told


def test_the_help_of_serve_has_the_options_that_it_takes() -> None:
    done = subprocess.run([*PROGRAM, "serve", "--help"], capture_output=True, text=True, check=True)
    for option in ("--port", "--bucket", "--seed", "--synthesize", "--set"):
        assert option in done.stdout
    assert "--user-project" not in done.stdout
