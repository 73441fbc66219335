"""A PostgreSQL of the tests' own: what most deployments keep their data in, and what the page's queries must suit.

The server listens on a Unix socket in a directory that is thrown away, and on no port.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

START_S = 60.0
ACCOUNT = "postgres"
"""Whom the server runs as where the tests run as root, which it refuses. Debian's package makes this account."""


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server with a database `airflow`; yield its address for SQLAlchemy, without a driver's name."""
    programs = _programs()
    # Below /tmp, because a Unix socket's path has 107 characters at most.
    root = Path(tempfile.mkdtemp(prefix="dataflux-pg-", dir="/tmp"))
    account = pwd.getpwnam(ACCOUNT) if os.geteuid() == 0 else None
    if account is not None:
        os.chown(root, account.pw_uid, account.pw_gid)
    who = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    server = None
    try:
        data = root / "data"
        _run([programs / "initdb", "-D", data, "-U", "airflow", "-A", "trust", "-E", "UTF8", "--no-sync"], root, who)
        with (root / "server.log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", root, "-c", "listen_addresses=", "-c", "fsync=off"],
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **who,
            )
        _wait_until_ready(server, root)
        _run([programs / "createdb", "-h", root, "-U", "airflow", "airflow"], root, who)
        yield f"airflow@/airflow?host={quote(str(root), safe='')}"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # "fast": ends sessions, not waiting for them
            server.wait(30)
        shutil.rmtree(root, ignore_errors=True)


def _programs() -> Path:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    on_path = shutil.which("postgres")
    if not found and not on_path:
        pytest.fail("These tests need PostgreSQL. On Debian and Ubuntu, as root: apt-get install postgresql")
    return Path(found[-1] if found else os.path.realpath(str(on_path))).parent


def _wait_until_ready(server: subprocess.Popen[bytes], root: Path) -> None:
    deadline = time.monotonic() + START_S
    # The server's own word for it: the last line of this file.
    ready = root / "data" / "postmaster.pid"
    while not (ready.exists() and ready.read_text().rstrip().endswith("ready")):
        log = root / "server.log"
        assert server.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.05)


def _run(command: list[str | Path], root: Path, who: dict) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        **who,
    )
    assert done.returncode == 0, done.stderr
