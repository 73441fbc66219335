"""objects.compose of the embedded server, asked by the official client."""

from __future__ import annotations

import base64

import google_crc32c
import pytest
from google.api_core.exceptions import BadRequest, NotFound, PreconditionFailed
from google.cloud import storage

from airflow_dataflux.testing import GCSServer


@pytest.fixture
def sources(gcs_server: GCSServer, bucket: storage.Bucket) -> list[storage.Blob]:
    for index in range(33):
        gcs_server.put("data", f"s/{index:02d}", b"%02d" % index * (index + 1))
    return sorted(bucket.client.list_blobs(bucket, prefix="s/"), key=lambda blob: blob.name)


def content(count: int) -> bytes:
    return b"".join(b"%02d" % index * (index + 1) for index in range(count))


@pytest.mark.parametrize("count", [1, 2, 32])
def test_a_composite_is_its_sources_one_after_the_other(
    bucket: storage.Bucket, sources: list[storage.Blob], count: int
) -> None:
    composite = bucket.blob("c")
    composite.content_type = "application/x-composite"
    composite.metadata = {"run": "1"}
    composite.compose(sources[:count], if_generation_match=0)
    stored = bucket.get_blob("c")
    assert stored.download_as_bytes() == content(count)
    assert stored.component_count == count
    assert stored.md5_hash is None
    assert stored.content_type == "application/x-composite"
    assert stored.metadata == {"run": "1"}
    digest = google_crc32c.Checksum(content(count)).digest()
    assert stored._properties["crc32c"] == base64.b64encode(digest).decode()


def test_a_composite_of_composites_counts_its_leaves(bucket: storage.Bucket, sources: list[storage.Blob]) -> None:
    left, right, both = bucket.blob("l"), bucket.blob("r"), bucket.blob("b")
    left.compose(sources[:20])
    right.compose(sources[20:33])
    both.compose([left, right])
    assert both.download_as_bytes() == content(33)
    assert both.download_as_bytes(start=100, end=500) == content(33)[100:501]
    assert both.component_count == 33


def test_more_than_32_sources_and_none_are_refused(bucket: storage.Bucket, sources: list[storage.Blob]) -> None:
    with pytest.raises(BadRequest, match="32"):
        bucket.blob("c").compose(sources)
    with pytest.raises(BadRequest):
        bucket.blob("c").compose([])
    assert not bucket.blob("c").exists()


def test_sources_of_different_classes_are_refused(
    gcs_server: GCSServer, bucket: storage.Bucket, sources: list[storage.Blob]
) -> None:
    gcs_server.put("data", "cold", b"x", storage_class="NEARLINE")
    with pytest.raises(BadRequest, match="storage class"):
        bucket.blob("c").compose([sources[0], bucket.blob("cold")])


def test_the_composite_inherits_the_class(gcs_server: GCSServer, bucket: storage.Bucket) -> None:
    for name in ("1", "2"):
        gcs_server.put("data", name, b"x", storage_class="COLDLINE")
    bucket.blob("c").compose([bucket.blob("1"), bucket.blob("2")])
    assert bucket.get_blob("c").storage_class == "COLDLINE"


def test_a_source_precondition_that_fails_makes_no_composite(
    bucket: storage.Bucket, sources: list[storage.Blob]
) -> None:
    generations = [blob.generation for blob in sources[:3]]
    bucket.blob("c").compose(sources[:3], if_source_generation_match=generations)
    assert bucket.blob("c").download_as_bytes() == content(3)
    with pytest.raises(PreconditionFailed):
        bucket.blob("d").compose(sources[:3], if_source_generation_match=[*generations[:2], 5])
    assert not bucket.blob("d").exists()


def test_a_pinned_generation_that_is_gone_is_not_found(
    gcs_server: GCSServer, bucket: storage.Bucket, sources: list[storage.Blob]
) -> None:
    gcs_server.put("data", "s/01", b"changed")
    pinned = bucket.blob("s/01", generation=sources[1].generation)
    with pytest.raises(NotFound):
        bucket.blob("c").compose([sources[0], pinned])


def test_the_destination_precondition_makes_a_second_compose_fail(
    bucket: storage.Bucket, sources: list[storage.Blob]
) -> None:
    bucket.blob("c").compose(sources[:2], if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        bucket.blob("c").compose(sources[:2], if_generation_match=0)


def test_a_missing_source_is_not_found(bucket: storage.Bucket) -> None:
    with pytest.raises(NotFound):
        bucket.blob("c").compose([bucket.blob("none")])


def test_a_composite_survives_the_deletion_of_its_sources(bucket: storage.Bucket, sources: list[storage.Blob]) -> None:
    bucket.blob("c").compose(sources[:4])
    for source in sources[:4]:
        source.delete()
    assert bucket.blob("c").download_as_bytes() == content(4)


def test_synthetic_sources_compose(gcs_server: GCSServer, bucket: storage.Bucket) -> None:
    gcs_server.synthesize("data", count=32, size=[10_240, 3, 70_000], prefix="syn/")
    sources = sorted(bucket.client.list_blobs(bucket, prefix="syn/"), key=lambda blob: blob.name)
    bucket.blob("c").compose(sources)
    assert bucket.blob("c").download_as_bytes() == b"".join(blob.download_as_bytes() for blob in sources)
