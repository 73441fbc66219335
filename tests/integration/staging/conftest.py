"""Fixtures of the staging tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from staging_site import BUCKET, Site

from airflow_dataflux.core.config import StoreConfig
from airflow_dataflux.core.gcs.client import open_store
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.testing import GCSServer


@pytest.fixture
def site(gcs_server: GCSServer, tmp_path: Path) -> Iterator[Site]:
    gcs_server.create_bucket(BUCKET)
    config = StoreConfig(endpoint=gcs_server.endpoint)
    store = open_store(config, AnonymousTokens(), connections=4)
    yield Site(gcs_server, store, config, tmp_path)
    store.close()


@pytest.fixture
def hits(gcs_server: GCSServer) -> Callable[[int], int]:
    """How often a scripted fault was really hit."""
    return lambda fault: gcs_server.faults()[fault].hits
