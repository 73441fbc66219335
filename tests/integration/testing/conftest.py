"""The official client, pointed at the embedded server the way its documentation says."""

from __future__ import annotations

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from airflow_dataflux.testing import GCSServer


@pytest.fixture
def client(gcs_server: GCSServer, monkeypatch: pytest.MonkeyPatch) -> storage.Client:
    # Otherwise the client reads each bucket once more, in a background thread, and request counts vary.
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    return storage.Client(project="test", credentials=AnonymousCredentials())


@pytest.fixture
def bucket(gcs_server: GCSServer, client: storage.Client) -> storage.Bucket:
    gcs_server.create_bucket("data")
    return client.bucket("data")
