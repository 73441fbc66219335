"""A Redis server of the tests' own: a random port of 127.0.0.1, a random password, a directory that is thrown away."""

from __future__ import annotations

import secrets
import shutil
import socket
import time

import pytest
from airflow_deployment import AirflowDeployment

START_S = 30.0
TRIES = 5


def redis_program() -> str:
    """Return Redis' server program. Fails the tests, with what to install, where there is none."""
    # Debian puts servers where only root's PATH looks on some installations.
    found = shutil.which("redis-server") or shutil.which("redis-server", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.fail("These tests need Redis. On Debian and Ubuntu, as root: apt-get install redis-server")
    return found


def start_redis(airflow: AirflowDeployment) -> str:
    """Start a Redis server as a component of the deployment, which also ends it, and return its URL."""
    program = redis_program()
    directory = airflow.home / "redis"
    directory.mkdir(parents=True)
    password = secrets.token_hex(16)
    for number in range(TRIES):
        port = free_port()
        settings = directory / f"redis-{number}.conf"  # not on the command line, where others would read the password
        settings.write_text(
            f"bind 127.0.0.1\nport {port}\ndir {directory}\nrequirepass {password}\n"
            'save ""\nappendonly no\ndaemonize no\nmaxmemory 64mb\n'
        )
        settings.chmod(0o600)
        process = airflow.start_component("redis", [program, str(settings)])
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            if answers(port, password):
                return f"redis://:{password}@127.0.0.1:{port}"
            time.sleep(0.05)
        # Between our look and its start somebody else may have taken the port: it ended then.
    raise AssertionError(f"Redis did not start: {airflow.component_log('redis')[-2000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int, password: str) -> bool:
    """Tell whether our own server listens there: another one does not know the password."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(f"AUTH {password}\r\n".encode())
            return connection.recv(16).startswith(b"+OK")
    except OSError:
        return False
