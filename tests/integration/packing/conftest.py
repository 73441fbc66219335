"""Fixtures of the packing tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from packing_site import SOURCE, TARGET, Site

from airflow_dataflux.core.gcs.http_store import StoreConfig
from airflow_dataflux.core.gcs.store import StoreOptions
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.testing import GCSServer


@pytest.fixture
def site(gcs_server: GCSServer, tmp_path: Path) -> Iterator[Site]:
    gcs_server.create_bucket(SOURCE)
    gcs_server.create_bucket(TARGET)
    config = StoreConfig(endpoint=gcs_server.endpoint)
    store = config.open(AnonymousTokens(), StoreOptions(connections=4))
    yield Site(gcs_server, store, config, tmp_path)
    store.close()


@pytest.fixture(params=["local", "remote"])
def output(request: pytest.FixtureRequest, site: Site) -> str:
    """Each place a pack can be written to."""
    return str(getattr(site, request.param))
