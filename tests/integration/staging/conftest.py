"""Fixtures of the staging tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from staging_site import BUCKET, MemoryServer, Site

from airflow_dataflux.core.gcs.http_store import StoreConfig, open_store
from airflow_dataflux.core.gcs.store import StoreFactory
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.testing import GCSServer


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A bucket in memory for modules and tests marked `in_memory`, on the embedded server for the others."""
    marker = request.node.get_closest_marker("in_memory")
    server: GCSServer | MemoryServer
    config: StoreFactory
    if marker is not None and marker.args != (False,):
        server = MemoryServer()
        config = server.stores
    else:
        server = request.getfixturevalue("gcs_server")
        config = StoreConfig(endpoint=server.endpoint)
    server.create_bucket(BUCKET)
    store = open_store(config, AnonymousTokens(), connections=4)
    yield Site(server, store, config, tmp_path)
    store.close()


@pytest.fixture
def hits(gcs_server: GCSServer) -> Callable[[int], int]:
    """How often a scripted fault was really hit."""
    return lambda fault: gcs_server.faults()[fault].hits
