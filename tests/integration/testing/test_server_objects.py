"""Uploads, reads, metadata, copies and deletes of the embedded server, asked by the official client."""

from __future__ import annotations

import gzip
import io
import random

import google_crc32c
import pytest
from google.api_core.exceptions import (
    BadRequest,
    Forbidden,
    NotFound,
    PreconditionFailed,
    RequestRangeNotSatisfiable,
    ServiceUnavailable,
)
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from airflow_dataflux.testing import GCSServer

LEGAL_NAMES = [
    "a b",
    "...",
    "x/../y",
    "//",
    "/lead",
    "tail/",
    "100%",
    "a+b&c=d",
    "q?#",
    "é",
    "e\u0301",
    "😀",
    "n" * 1024,
]


@pytest.mark.parametrize("name", LEGAL_NAMES)
def test_any_legal_name_makes_the_round_trip(bucket: storage.Bucket, name: str) -> None:
    bucket.blob(name).upload_from_string(b"content of it")
    assert bucket.blob(name).download_as_bytes() == b"content of it"
    assert [blob.name for blob in bucket.client.list_blobs(bucket)] == [name]
    bucket.blob(name).delete()
    assert not bucket.blob(name).exists()


@pytest.mark.parametrize("name", ["..", ".", "a\nb", "n" * 1025])
def test_an_illegal_name_is_refused(bucket: storage.Bucket, name: str) -> None:
    with pytest.raises(BadRequest):
        bucket.blob(name).upload_from_string(b"")


def test_a_multipart_upload_keeps_bytes_and_metadata(bucket: storage.Bucket) -> None:
    data = b"\r\n--==boundary\r\n\n\x00\xff" * 3
    blob = bucket.blob("m")
    blob.metadata = {"owner": "tests"}
    blob.cache_control = "no-cache"
    blob.upload_from_string(data, content_type="image/png", checksum="crc32c")
    stored = bucket.get_blob("m")
    assert (stored.size, stored.content_type, stored.cache_control) == (len(data), "image/png", "no-cache")
    assert stored.metadata == {"owner": "tests"}
    assert stored.md5_hash is not None
    assert stored.metageneration == 1
    assert stored.storage_class == "STANDARD"
    assert stored.time_created == stored.updated
    assert stored.download_as_bytes() == data


def test_a_resumable_upload_arrives_in_chunks(bucket: storage.Bucket, gcs_server: GCSServer) -> None:
    data = random.Random(1).randbytes(700_000)
    blob = bucket.blob("large", chunk_size=256 * 1024)
    blob.upload_from_file(io.BytesIO(data), content_type="application/x-large")
    assert [request.status for request in gcs_server.log("upload")] == [200, 308, 308, 200]
    assert bucket.blob("large").download_as_bytes() == data
    assert bucket.get_blob("large").content_type == "application/x-large"


def test_a_resumable_upload_of_unknown_length_is_finished_by_its_last_chunk(bucket: storage.Bucket) -> None:
    with bucket.blob("stream").open("wb", chunk_size=256 * 1024) as writer:
        for _ in range(7):
            writer.write(b"0123456789" * 10_000)
    assert bucket.blob("stream").download_as_bytes() == b"0123456789" * 70_000


def test_a_broken_resumable_upload_is_resumed(bucket: storage.Bucket, gcs_server: GCSServer) -> None:
    fault = gcs_server.fail("status", operation="upload", nth=3, status=503)
    data = random.Random(2).randbytes(600_000)
    blob = bucket.blob("large", chunk_size=256 * 1024)
    blob.upload_from_file(io.BytesIO(data), if_generation_match=0, retry=DEFAULT_RETRY.with_delay(initial=0.01))
    assert gcs_server.faults()[fault].hits == 1
    assert bucket.blob("large").download_as_bytes() == data


def test_a_media_upload_over_plain_http_works(bucket: storage.Bucket, gcs_server: GCSServer) -> None:
    url = f"{gcs_server.endpoint}/upload/storage/v1/b/data/o?uploadType=media&name=plain"
    answer = bucket.client._http.request("POST", url, data=b"plain bytes", headers={"Content-Type": "text/plain"})
    assert answer.json()["size"] == "11"
    assert bucket.get_blob("plain").content_type == "text/plain"


def test_a_stated_checksum_is_checked(bucket: storage.Bucket) -> None:
    blob = bucket.blob("c")
    blob.crc32c = "AAAAAA=="
    with pytest.raises(BadRequest, match="doesn't match calculated"):
        blob.upload_from_string(b"something else", checksum=None)
    assert not bucket.blob("c").exists()


def test_a_ranged_read_carries_the_hash_of_the_whole(bucket: storage.Bucket, gcs_server: GCSServer) -> None:
    data = random.Random(3).randbytes(5000)
    version = gcs_server.put("data", "r", data)
    assert bucket.blob("r").download_as_bytes(start=10, end=19) == data[10:20]
    assert bucket.blob("r").download_as_bytes(start=4990) == data[4990:]
    assert bucket.blob("r").download_as_bytes(start=-7) == data[-7:]
    assert bucket.blob("r").download_as_bytes(start=4000, end=9999) == data[4000:]
    url = f"{gcs_server.endpoint}/download/storage/v1/b/data/o/r?alt=media"
    answer = bucket.client._http.request("GET", url, headers={"Range": "bytes=1-2"})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == "bytes 1-2/5000"
    assert answer.headers["X-Goog-Generation"] == str(version.generation)
    checksum = google_crc32c.Checksum(data).digest()
    assert int.from_bytes(checksum, "big") == version.crc32c
    assert f"crc32c={bucket.get_blob('r').crc32c}" in answer.headers["X-Goog-Hash"]
    with pytest.raises(RequestRangeNotSatisfiable):
        bucket.blob("r").download_as_bytes(start=5000)


def test_an_old_generation_can_be_read_only_where_versions_are_kept(
    bucket: storage.Bucket, gcs_server: GCSServer
) -> None:
    first = gcs_server.put("data", "v", b"one")
    second = gcs_server.put("data", "v", b"two")
    assert second.generation > first.generation
    with pytest.raises(NotFound):
        bucket.blob("v", generation=first.generation).download_as_bytes()
    gcs_server.change_bucket("data", versioning=True)
    gcs_server.put("data", "v", b"three")
    assert bucket.blob("v", generation=second.generation).download_as_bytes() == b"two"
    assert bucket.blob("v").download_as_bytes() == b"three"


def test_a_gzip_object_is_served_as_stored_or_decompressed(bucket: storage.Bucket, gcs_server: GCSServer) -> None:
    packed = gzip.compress(b"plain text " * 100)
    gcs_server.put("data", "g", packed, content_encoding="gzip")
    blob = bucket.get_blob("g")
    assert blob.content_encoding == "gzip"
    assert blob.size == len(packed)
    assert blob.download_as_bytes() == b"plain text " * 100
    assert blob.download_as_bytes(raw_download=True) == packed
    url = f"{gcs_server.endpoint}/download/storage/v1/b/data/o/g?alt=media"
    answer = bucket.client._http.request("GET", url, headers={"Accept-Encoding": "identity", "Range": "bytes=0-3"})
    assert answer.status_code == 200, "a range of a transcoded object is ignored"
    assert answer.content == b"plain text " * 100
    assert "Content-Length" not in answer.headers
    assert answer.headers["X-Goog-Stored-Content-Encoding"] == "gzip"
    gcs_server.put("data", "fixed", packed, content_encoding="gzip", cache_control="no-transform")
    answer = bucket.client._http.request("GET", url[:-11] + "fixed?alt=media", headers={"Accept-Encoding": "identity"})
    assert answer.headers["Content-Length"] == str(len(packed))


def test_preconditions_hold_or_fail(bucket: storage.Bucket) -> None:
    blob = bucket.blob("p")
    blob.upload_from_string(b"1", if_generation_match=0)
    with pytest.raises(PreconditionFailed) as caught:
        bucket.blob("p").upload_from_string(b"2", if_generation_match=0)
    assert caught.value.errors == [] or caught.value.errors[0]["reason"] == "conditionNotMet"
    generation = bucket.get_blob("p").generation
    bucket.blob("p").upload_from_string(b"3", if_generation_match=generation)
    for operation in (
        lambda: bucket.blob("p").download_as_bytes(if_generation_match=generation),
        lambda: bucket.blob("p").reload(if_generation_match=generation),
        lambda: bucket.blob("p").delete(if_generation_match=generation),
        lambda: bucket.blob("p").delete(if_metageneration_match=7),
    ):
        with pytest.raises(PreconditionFailed):
            operation()
    assert bucket.blob("p").download_as_bytes() == b"3"


def test_a_read_of_what_the_caller_has_is_answered_with_304(bucket: storage.Bucket, gcs_server: GCSServer) -> None:
    generation = gcs_server.put("data", "n", b"1").generation
    for path in ("storage/v1/b/data/o/n?", "download/storage/v1/b/data/o/n?alt=media&"):
        url = f"{gcs_server.endpoint}/{path}ifGenerationNotMatch={generation}"
        answer = bucket.client._http.request("GET", url)
        assert (answer.status_code, answer.content) == (304, b"")


def test_metadata_is_patched_under_a_new_metageneration(bucket: storage.Bucket, gcs_server: GCSServer) -> None:
    generation = gcs_server.put("data", "x", b"1", metadata={"a": "1", "b": "2"}).generation
    blob = bucket.get_blob("x")
    blob.metadata = {"a": None, "c": "3"}
    blob.content_type = "text/x"
    blob.patch()
    again = bucket.get_blob("x")
    assert again.metadata == {"b": "2", "c": "3"}
    assert (again.generation, again.metageneration, again.content_type) == (generation, 2, "text/x")


def test_copies_and_rewrites_have_the_same_bytes(
    bucket: storage.Bucket, client: storage.Client, gcs_server: GCSServer
) -> None:
    gcs_server.create_bucket("other", storage_class="NEARLINE")
    gcs_server.put("data", "s", b"bytes", metadata={"k": "v"})
    copy = bucket.copy_blob(bucket.blob("s"), client.bucket("other"), "copy")
    assert (copy.download_as_bytes(), copy.storage_class) == (b"bytes", "NEARLINE")
    target = bucket.blob("rewritten")
    token, written, total = target.rewrite(bucket.blob("s"))
    assert (token, written, total) == (None, 5, 5)
    assert target.download_as_bytes() == b"bytes"
    assert target.metadata == {"k": "v"}
    target.update_storage_class("COLDLINE")
    assert bucket.get_blob("rewritten").storage_class == "COLDLINE"


def test_holds_and_retention_forbid_deletion(client: storage.Client, gcs_server: GCSServer) -> None:
    gcs_server.create_bucket("held", default_event_based_hold=True)
    gcs_server.put("held", "h", b"1")
    with pytest.raises(Forbidden, match="hold"):
        client.bucket("held").blob("h").delete()
    blob = client.bucket("held").get_blob("h")
    assert blob.event_based_hold
    blob.event_based_hold = False
    blob.patch()
    blob.delete()
    gcs_server.create_bucket("kept", retention_s=3600)
    gcs_server.put("kept", "k", b"1")
    with pytest.raises(Forbidden, match="retention"):
        client.bucket("kept").blob("k").delete()


def test_an_unknown_object_is_not_found(bucket: storage.Bucket) -> None:
    with pytest.raises(NotFound, match="No such object"):
        bucket.blob("none").reload()
    with pytest.raises(NotFound, match="No such object"):
        bucket.blob("none").download_as_bytes()
    with pytest.raises(NotFound):
        bucket.blob("none").delete()
    assert bucket.get_blob("none") is None


def test_each_operation_needs_its_permission(client: storage.Client, gcs_server: GCSServer) -> None:
    gcs_server.create_bucket("limited", permissions=[])
    gcs_server.put("limited", "x", b"1")
    blob = client.bucket("limited").blob("x")
    for operation in (
        blob.reload,
        blob.download_as_bytes,
        blob.delete,
        lambda: blob.upload_from_string(b"2"),
        lambda: blob.compose([blob]),
        lambda: client.get_bucket("limited"),
    ):
        with pytest.raises(Forbidden):
            operation()


def test_the_clients_own_retries_overcome_a_scripted_503(bucket: storage.Bucket, gcs_server: GCSServer) -> None:
    gcs_server.put("data", "x", b"1")
    fault = gcs_server.fail("status", operation="read", times=1)
    assert bucket.blob("x").download_as_bytes(retry=DEFAULT_RETRY.with_delay(initial=0.01)) == b"1"
    assert gcs_server.faults()[fault].hits == 1
    gcs_server.fail("status", operation="read")
    with pytest.raises(ServiceUnavailable):
        bucket.blob("x").download_as_bytes(retry=None)


def test_files_of_a_directory_are_served_in_place(
    bucket: storage.Bucket, gcs_server: GCSServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("seed")
    (root / "sub").mkdir()
    (root / "sub" / "one.bin").write_bytes(bytes(range(256)) * 3000)
    (root / "empty").write_bytes(b"")
    assert gcs_server.seed_directory("data", root, prefix="seeded/") == (2, 768_000)
    assert gcs_server.names("data") == ["seeded/empty", "seeded/sub/one.bin"]
    assert bucket.blob("seeded/sub/one.bin").download_as_bytes() == bytes(range(256)) * 3000
    assert bucket.blob("seeded/sub/one.bin").download_as_bytes(start=255, end=256) == b"\xff\x00"
    assert bucket.blob("seeded/empty").download_as_bytes() == b""
