"""The pytest plugin: `gcs_server`, a running server for one test.

Loaded by pytest wherever this distribution is installed, so it imports nothing but pytest until a test asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_dataflux.testing.gcs_server import GCSServer


@pytest.fixture(scope="session")
def _gcs_server_process() -> Iterator[GCSServer]:
    """One server process for the session (with pytest-xdist: for the worker)."""
    from airflow_dataflux.testing.gcs_server import GCSServer

    with GCSServer() as server:
        yield server


@pytest.fixture
def gcs_server(_gcs_server_process: GCSServer, monkeypatch: pytest.MonkeyPatch) -> GCSServer:
    """A running, empty embedded GCS server; `STORAGE_EMULATOR_HOST` points to it during the test."""
    server = _gcs_server_process
    if server.running:
        server.reset()
    else:  # a test killed it
        server.stop()
        server.start()
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return server
