"""Manifests in a bucket, over HTTP, against the embedded server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from manifest_samples import numbered, publish_rows, write_parts

from airflow_dataflux.core.errors import (
    BucketNotFoundError,
    ManifestChangedError,
    ManifestError,
    ManifestNotFoundError,
    PermissionDeniedError,
    StoreError,
)
from airflow_dataflux.core.gcs.http_store import StoreConfig, open_store
from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.manifest import Manifest, ManifestFiles, join
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.testing import GCSServer

URI = "gs://manifests/daily/train"


@pytest.fixture
def store(gcs_server: GCSServer) -> Iterator[Store]:
    gcs_server.create_bucket("manifests")
    store = open_store(StoreConfig(endpoint=gcs_server.endpoint), AnonymousTokens(), connections=4)
    yield store
    store.close()


def operations(server: GCSServer) -> dict[str, int]:
    return {name: count for name, count in server.requests().operations.items() if count}


def test_a_manifest_is_written_read_replaced_and_referenced_in_a_bucket(gcs_server: GCSServer, store: Store) -> None:
    files = ManifestFiles(store)
    files.check_writable(URI)
    rows = numbered(30_000)
    made = publish_rows(URI, [rows.slice(0, 12_345), rows.slice(12_345)], files=files, prefix="one")
    names = ["manifest.json", "part-one-0-00000.parquet", "part-one-1-00000.parquet"]
    assert gcs_server.names("manifests") == [f"daily/train/{name}" for name in names]
    assert files.names(URI) == names
    opened = Manifest.from_reference(made.reference(), store=store)
    assert [row.name for row in opened] == rows["name"].to_pylist()
    shards = [Manifest.from_reference(shard.reference(), store=store) for shard in opened.shards(5)]
    assert [row.name for shard in shards for row in shard] == rows["name"].to_pylist()

    publish_rows(URI, [numbered(5)], files=files, prefix="two")
    assert files.names(URI) == ["manifest.json", "part-two-0-00000.parquet"]
    with pytest.raises(ManifestChangedError, match="was replaced"):
        Manifest.from_reference(made.reference(), store=store)


def test_what_reading_costs_in_requests(gcs_server: GCSServer, store: Store) -> None:
    publish_rows(URI, [numbered(100, start=100 * n) for n in range(5)], files=ManifestFiles(store))
    gcs_server.forget_requests()
    manifest = Manifest.open(URI, store=store)
    assert operations(gcs_server) == {"stat": 1, "read": 1}
    assert sum(1 for _ in manifest) == 500
    assert operations(gcs_server) == {"stat": 6, "read": 6}


def test_without_a_store_the_emulator_of_the_environment_is_used(gcs_server: GCSServer, store: Store) -> None:
    publish_rows(URI, [numbered(10)], files=ManifestFiles(store))
    assert len(list(Manifest.open(URI))) == 10


def test_user_project_is_sent_for_the_manifest_s_own_bucket(gcs_server: GCSServer) -> None:
    gcs_server.create_bucket("payers", requester_pays=True)
    config = StoreConfig(endpoint=gcs_server.endpoint, user_project="billed")
    paying = open_store(config, AnonymousTokens(), connections=2)
    free = open_store(StoreConfig(endpoint=gcs_server.endpoint), AnonymousTokens(), connections=2)
    try:
        publish_rows("gs://payers/m", [numbered(10)], files=ManifestFiles(paying))
        assert len(list(Manifest.open("gs://payers/m", store=paying))) == 10
        with pytest.raises(StoreError):
            Manifest.open("gs://payers/m", store=free)
    finally:
        paying.close()
        free.close()


def test_a_place_that_cannot_be_written_is_found_before_the_work(gcs_server: GCSServer, store: Store) -> None:
    files = ManifestFiles(store)
    gcs_server.create_bucket("readable", permissions=["storage.objects.get", "storage.objects.list"])
    with pytest.raises(PermissionDeniedError, match=r"storage\.objects\.create, storage\.objects\.delete"):
        files.check_writable("gs://readable/m")
    with pytest.raises(BucketNotFoundError):
        files.check_writable("gs://not-there/m")
    with pytest.raises(ManifestNotFoundError):
        Manifest.open(f"{URI}/nothing", store=store)


@pytest.mark.parametrize("kind", ["reset_body", "truncate", "flip"])
def test_a_body_that_breaks_or_arrives_wrong_is_read_again(gcs_server: GCSServer, store: Store, kind: str) -> None:
    publish_rows(URI, [numbered(3000, start=3000 * n) for n in range(3)], files=ManifestFiles(store))
    manifest = Manifest.open(URI, store=store)
    fault = gcs_server.fail(kind, operation="read", bucket="manifests", times=2)  # type: ignore[arg-type]
    assert sum(1 for _ in manifest) == 9000
    assert gcs_server.faults()[fault].hits == 2


def test_a_body_that_never_arrives_right_is_an_error(gcs_server: GCSServer, store: Store) -> None:
    publish_rows(URI, [numbered(3000)], files=ManifestFiles(store))
    manifest = Manifest.open(URI, store=store)
    fault = gcs_server.fail("flip", operation="read", bucket="manifests")
    with pytest.raises(ManifestError, match="crc32c"):
        list(manifest)
    assert gcs_server.faults()[fault].hits >= 2


def test_an_index_replaced_between_look_and_read_is_read_in_its_new_form(gcs_server: GCSServer, store: Store) -> None:
    files = ManifestFiles(store)
    publish_rows(URI, [numbered(10)], files=files, prefix="one")
    publish_rows("gs://manifests/other", [numbered(11)], files=files, prefix="two")
    newer = files.read("gs://manifests/other/manifest.json")
    gcs_server.change_later("manifests", "daily/train/manifest.json", newer, operation="read")
    assert len(Manifest.open(URI, store=store)) == 11
    assert gcs_server.changes_made() == 1


def test_a_part_deleted_from_the_bucket_is_named(gcs_server: GCSServer, store: Store) -> None:
    manifest = publish_rows(URI, [numbered(10), numbered(10, start=10)], files=ManifestFiles(store))
    gcs_server.delete("manifests", "daily/train/part-run-1-00000.parquet")
    with pytest.raises(ManifestError, match=r"part-run-1-00000\.parquet is not what the index describes: it does not"):
        list(manifest)


def test_listings_mapped_over_ranges_are_joined_in_the_bucket(gcs_server: GCSServer, store: Store) -> None:
    files = ManifestFiles(store)
    ranges = [publish_rows(f"{URI}/{n}", [numbered(100, start=100 * n)], files=files) for n in range(3)]
    joined = join(ranges, manifest_uri=URI, store=store)
    assert [part.path for part in joined.index.parts] == [f"{n}/part-run-0-00000.parquet" for n in range(3)]
    assert len(list(Manifest.open(URI, store=store))) == 300
    # A later listing to the same place replaces the index and leaves the ranges' own parts alone.
    write_parts(files, URI, [numbered(1)], prefix="unfinished")
    publish_rows(URI, [numbered(2)], files=files, prefix="next")
    assert all(len(list(one)) == 100 for one in ranges)
    assert files.names(URI) == ["manifest.json", "part-next-0-00000.parquet", "part-unfinished-0-00000.parquet"]
