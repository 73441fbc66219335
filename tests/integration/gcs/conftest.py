"""The stores that the behaviour suite runs against: buckets in memory, and the embedded server or real Cloud Storage.

DATAFLUX_TEST_BUCKET names a bucket of real Cloud Storage to use instead (with application-default credentials, and
DATAFLUX_TEST_USER_PROJECT where it is a requester-pays bucket), or, with DATAFLUX_TEST_ENDPOINT=http://host:port, of
any other server that speaks its API. Each test keeps to a prefix of its own there and deletes what it made. What
scripts faults needs the embedded server, and stays with it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from airflow_dataflux.core.gcs.auth import default_store_config, default_tokens
from airflow_dataflux.core.gcs.http_store import open_store
from airflow_dataflux.core.gcs.memory import MemoryStores
from airflow_dataflux.core.gcs.retry import RetryPolicy
from airflow_dataflux.core.gcs.store import ObjectVersion, PageRequest, Store, StoredObject
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.testing import GCSServer

ENDPOINT = os.environ.get("DATAFLUX_TEST_ENDPOINT")
REAL_BUCKET = os.environ.get("DATAFLUX_TEST_BUCKET")

IMPATIENT = RetryPolicy(first_delay_s=0.001, max_delay_s=0.01)
"""Everything as in production but the length of the back-offs."""


@dataclass(frozen=True)
class Place:
    """A store, a bucket, and the prefix that belongs to one test."""

    store: Store
    bucket: str
    prefix: str

    def put(self, name: str, data: bytes = b"content") -> StoredObject:
        return self.store.upload(self.bucket, self.prefix + name, data, content_type="text/plain")

    def names(self, **request: object) -> list[str]:
        page = self.store.list_page(self.bucket, PageRequest(prefix=self.prefix, **request))  # type: ignore[arg-type]
        return [name.removeprefix(self.prefix) for name in page.rows.column("name").to_pylist()]


@pytest.fixture(params=["memory", "http"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    prefix = f"dataflux-test/{uuid.uuid4().hex}/"
    if request.param == "memory":
        stores = MemoryStores()
        stores.create_bucket("contract")
        yield Place(open_store(stores, AnonymousTokens(), connections=4), "contract", prefix)
        return
    if REAL_BUCKET is None:
        server: GCSServer = request.getfixturevalue("gcs_server")
        server.create_bucket("contract")
        store = open_store(default_store_config(), AnonymousTokens(), connections=4, policy=IMPATIENT)
        yield Place(store, "contract", prefix)
        store.close()
        return
    if ENDPOINT is not None:
        request.getfixturevalue("monkeypatch").setenv("STORAGE_EMULATOR_HOST", ENDPOINT)
    config = default_store_config(os.environ.get("DATAFLUX_TEST_USER_PROJECT"))
    store = open_store(config, default_tokens(), connections=4)
    yield Place(store, REAL_BUCKET, prefix)
    token: str | None = None
    while True:
        page = store.list_page(REAL_BUCKET, PageRequest(prefix=prefix, page_token=token))
        rows = page.rows.to_pylist()
        failures = store.delete_many(
            REAL_BUCKET, [ObjectVersion(name=row["name"], generation=row["generation"]) for row in rows]
        )
        assert not failures
        token = page.next_page_token
        if token is None:
            break
    store.close()


@pytest.fixture
def embedded(gcs_server: GCSServer) -> Iterator[tuple[GCSServer, Store]]:
    """The embedded server with a bucket "b", and a store that retries without long waits."""
    gcs_server.create_bucket("b")
    store = open_store(default_store_config(), AnonymousTokens(), connections=8, policy=IMPATIENT)
    yield gcs_server, store
    store.close()
