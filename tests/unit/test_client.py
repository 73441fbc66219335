"""The client of scripts and notebooks, against the embedded server: no Airflow, and nothing to set up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airflow_dataflux import Client
from airflow_dataflux.core.errors import EmptyListingError, InvalidRequestError, SkippedError
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.progress import RunStatistics


@pytest.fixture
def client(gcs_server) -> Client:
    gcs_server.create_bucket("data")
    gcs_server.put_many("data", {f"train/{n:03}": b"x" * n for n in range(50)} | {"other": b"1"})
    return Client()


def test_a_bucket_is_listed_and_staged_with_values_as_people_write_them(client: Client, tmp_path: Path) -> None:
    manifest = client.list("data", prefix=["train/"], min_bytes="40", updated_after="2020-01-01", workers="2")
    assert [row.size for row in manifest.rows()] == list(range(40, 50))
    receipt = client.stage(manifest, str(tmp_path / "tree"), strip_prefix="train/")
    assert receipt.downloaded == 10
    assert (tmp_path / "tree" / "049").stat().st_size == 49
    assert client.stage(manifest.reference(), str(tmp_path / "tree"), strip_prefix="train/").reused == 10


def test_a_manifest_is_opened_by_its_uri_and_seeds_the_next_listing(client: Client, tmp_path: Path) -> None:
    uri = (tmp_path / "manifest").as_uri()
    assert client.find_manifest(uri) is None
    events: list[object] = []
    made = client.list("data", manifest_uri=uri, report=False, observer=events.append)
    assert events == [RunStatistics(kind="listing", figures=made.stats)]
    assert client.open_manifest(uri).fingerprint == made.fingerprint
    with pytest.raises(SkippedError, match="Nothing changed"):
        client.list("data", manifest_uri=uri, seed_manifest=uri, on_unchanged="skip")
    with pytest.raises(EmptyListingError):
        client.list("data", "typo/", manifest_uri=uri, on_empty="fail")
    assert len(client.open_manifest(uri)) == 51


def test_ranges_are_listed_and_joined(client: Client, tmp_path: Path) -> None:
    ranges = client.name_ranges("data", ranges=2)
    parts = [client.list("data", name_range=each, manifest_uri=str(tmp_path / str(n))) for n, each in enumerate(ranges)]
    joined = client.join(parts, str(tmp_path / "joined"))
    assert joined.fingerprint == client.list("data").fingerprint


def test_a_sweep_counts_what_it_found(client: Client) -> None:
    assert client.sweep("data", older_than=0).found == ()


def test_a_cancelled_token_ends_the_work(client: Client) -> None:
    cancel = CancelToken()
    cancel.cancel("no more")
    with pytest.raises(Exception, match="no more"):
        client.list("data", cancel=cancel)


def test_what_cannot_be_right_is_refused_by_its_name(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match="workers must be 1 or more"):
        client.list("data", workers=0)
    with pytest.raises(InvalidRequestError, match="manifest is empty"):
        client.stage("", "/data")


def test_importing_the_client_imports_neither_airflow_nor_arrow_nor_google() -> None:
    code = "import sys; from airflow_dataflux import Client; Client(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {".".join(name.split(".")[:2]) for name in done.stdout.split()}
    assert loaded & {"airflow", "google.auth", "pyarrow", "urllib3", "requests"} == set()
