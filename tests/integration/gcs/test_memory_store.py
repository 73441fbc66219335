"""A whole listing and a whole staging over buckets in memory: the store is passed in, and no socket is opened."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path

import pytest

from airflow_dataflux.core import ListRequest, StageRequest, list_objects, open_store, stage
from airflow_dataflux.core.errors import PermissionDeniedError
from airflow_dataflux.core.gcs.memory import MemoryStores
from airflow_dataflux.core.gcs.store import PageRequest
from airflow_dataflux.core.runtime.tokens import AnonymousTokens


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> MemoryStores:
    def connect(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", connect)
    return MemoryStores(page_rows=20)


def put_numbered(stores: MemoryStores, count: int) -> dict[str, bytes]:
    stores.create_bucket("bucket")
    store = open_store(stores, AnonymousTokens(), connections=1)
    objects = {f"train/{number // 40:03}/{number:05}.bin": f"object {number}".encode() * 50 for number in range(count)}
    for name, data in objects.items():
        store.upload("bucket", name, data, content_type="application/octet-stream")
    return objects


@pytest.mark.parametrize("strategy", ["direct", "compose"])
def test_a_listing_and_a_staging_need_nothing_but_a_store(stores: MemoryStores, tmp_path: Path, strategy: str) -> None:
    objects = put_numbered(stores, 200)
    access = {"store_config": stores, "tokens": AnonymousTokens(), "isolated": False}
    request = ListRequest(bucket="bucket", prefixes=("train/",), manifest_uri="gs://bucket/manifests/train")
    manifest = list_objects(request, **access)
    assert [row.name for row in manifest.rows()] == sorted(objects)
    receipt = stage(manifest, StageRequest(destination=str(tmp_path / "staged"), strategy=strategy), **access)
    assert receipt.summary()["downloaded"] == len(objects)
    for name, data in objects.items():
        assert (tmp_path / "staged" / name).read_bytes() == data
    left = open_store(stores, AnonymousTokens(), connections=1).list_page(
        "bucket", PageRequest(prefix="dataflux-composed-objects/")
    )
    assert left.rows.num_rows == 0


def test_what_the_caller_may_not_do_is_refused_with_the_same_words(stores: MemoryStores) -> None:
    stores.create_bucket("closed", permissions=["storage.objects.get"])
    store = open_store(stores, AnonymousTokens(), connections=1)
    with pytest.raises(PermissionDeniedError, match=r"Grant storage\.objects\.list on the bucket"):
        store.list_page("closed", PageRequest())
    assert store.test_permissions("closed", ["storage.objects.get", "storage.objects.list"]) == {"storage.objects.get"}


def test_buckets_in_memory_do_not_go_to_another_process(stores: MemoryStores) -> None:
    with pytest.raises(TypeError, match="isolated=False"):
        pickle.dumps(stores)


@pytest.mark.parametrize(
    ("glob", "matching"),
    [
        ("a/*", ["a/1.jpg", "a/2.png"]),
        ("a/**", ["a/1.jpg", "a/2.png", "a/b/3.jpg"]),
        ("**.{jpg,gif}", ["a/1.jpg", "a/b/3.jpg", "c.gif"]),
        ("a/[!1].png", ["a/2.png"]),
        ("?.gif", ["c.gif"]),
    ],
)
def test_globs_match_as_cloud_storage_documents_them(stores: MemoryStores, glob: str, matching: list[str]) -> None:
    stores.create_bucket("bucket")
    store = open_store(stores, AnonymousTokens(), connections=1)
    for name in ("a/1.jpg", "a/2.png", "a/b/3.jpg", "c.gif"):
        store.upload("bucket", name, b"", content_type="text/plain")
    page = store.list_page("bucket", PageRequest(match_glob=glob))
    assert page.rows.column("name").to_pylist() == matching
