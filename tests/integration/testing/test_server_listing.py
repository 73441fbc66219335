"""objects.list of the embedded server, asked by the official client."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import BadRequest, Forbidden, NotFound
from google.cloud import storage

from airflow_dataflux.testing import GCSServer

NAMES = sorted(
    ["a", "a/b", "a/c/d", "a/c/e", "a//x", "b/", "b/../c", "c#1?", "é", "z", "\uff21", "\U0001f600", "日本/語"],
    key=str.encode,
)


@pytest.fixture
def named(gcs_server: GCSServer, bucket: storage.Bucket) -> storage.Bucket:
    gcs_server.put_many("data", {name: name.encode() for name in reversed(NAMES)})
    return bucket


def names(bucket: storage.Bucket, **parameters: object) -> list[str]:
    return [blob.name for blob in bucket.client.list_blobs(bucket, **parameters)]


def test_a_listing_is_in_utf8_byte_order_also_beyond_the_bmp(named: storage.Bucket, gcs_server: GCSServer) -> None:
    assert names(named) == NAMES == gcs_server.names("data")
    # UTF-16 order, which a careless server would use, is another one.
    assert sorted(NAMES, key=lambda name: name.encode("utf-16-be")) != NAMES


def test_a_prefix_selects_names_that_begin_with_it(named: storage.Bucket) -> None:
    assert names(named, prefix="a") == ["a", "a//x", "a/b", "a/c/d", "a/c/e"]
    assert names(named, prefix="a/c/") == ["a/c/d", "a/c/e"]
    assert names(named, prefix="日") == ["日本/語"]
    assert names(named, prefix="nothing") == []


def test_the_start_is_inclusive_and_the_end_exclusive(named: storage.Bucket) -> None:
    assert names(named, start_offset="a/b", end_offset="b/") == ["a/b", "a/c/d", "a/c/e"]
    assert names(named, start_offset="\uff21") == ["\uff21", "\U0001f600"]
    assert names(named, prefix="a/", start_offset="a/c/e", end_offset="zzz") == ["a/c/e"]
    assert names(named, start_offset="b", end_offset="a") == []


def test_a_delimiter_folds_what_is_below_it_into_prefixes(named: storage.Bucket) -> None:
    iterator = named.client.list_blobs(named, delimiter="/", prefix="a/")
    assert [blob.name for blob in iterator] == ["a/b"]
    assert iterator.prefixes == {"a//", "a/c/"}

    iterator = named.client.list_blobs(named, delimiter="/", include_trailing_delimiter=True)
    assert [blob.name for blob in iterator] == ["a", "b/", "c#1?", "z", "é", "\uff21", "\U0001f600"]
    assert iterator.prefixes == {"a/", "b/", "日本/"}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_pages_of_any_size_make_the_same_listing(named: storage.Bucket, size: int) -> None:
    pages = [[blob.name for blob in page] for page in named.client.list_blobs(named, page_size=size).pages]
    assert [name for page in pages for name in page] == NAMES
    assert all(0 < len(page) <= size for page in pages)

    iterator = named.client.list_blobs(named, page_size=size, delimiter="/")
    assert [blob.name for blob in iterator] == ["a", "c#1?", "z", "é", "\uff21", "\U0001f600"]
    assert iterator.prefixes == {"a/", "b/", "日本/"}


def test_a_page_never_exceeds_the_cap_whatever_is_asked(gcs_server: GCSServer, bucket: storage.Bucket) -> None:
    gcs_server.synthesize("data", count=25)
    gcs_server.configure(page_cap=10)
    pages = [len(list(page)) for page in bucket.client.list_blobs(bucket, page_size=5000).pages]
    assert pages == [10, 10, 5]


def test_max_results_ends_the_listing(named: storage.Bucket) -> None:
    assert names(named, max_results=4) == NAMES[:4]


def test_only_the_fields_that_were_asked_for_come(named: storage.Bucket, gcs_server: GCSServer) -> None:
    blobs = list(named.client.list_blobs(named, fields="items(name,size),nextPageToken", page_size=3))
    assert [blob.name for blob in blobs] == NAMES
    assert all(set(blob._properties) == {"name", "size"} for blob in blobs)


def test_without_its_name_the_page_token_does_not_come(named: storage.Bucket) -> None:
    assert len(names(named, fields="items(name)", page_size=3)) == 3


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("a/*", ["a/b"]),
        ("a/**", ["a//x", "a/b", "a/c/d", "a/c/e"]),
        ("**/{d,e}", ["a/c/d", "a/c/e"]),
        ("a/c/[!d]", ["a/c/e"]),
        ("?", ["a", "z", "é", "\uff21", "\U0001f600"]),
        ("日*/*", ["日本/語"]),
    ],
)
def test_a_glob_is_evaluated_by_the_server(named: storage.Bucket, glob: str, expected: list[str]) -> None:
    assert names(named, match_glob=glob) == expected
    assert names(named, match_glob=glob, page_size=1) == expected


def test_a_glob_page_may_be_empty_and_still_go_on(named: storage.Bucket, gcs_server: GCSServer) -> None:
    gcs_server.configure(scan_cap=3)
    pages = [[blob.name for blob in page] for page in named.client.list_blobs(named, match_glob="z").pages]
    assert [] in pages[:-1]
    assert [name for page in pages for name in page] == ["z"]


def test_old_versions_are_listed_on_request(gcs_server: GCSServer, client: storage.Client) -> None:
    gcs_server.create_bucket("old", versioning=True)
    first = gcs_server.put("old", "n", b"1")
    second = gcs_server.put("old", "n", b"22")
    gcs_server.put("old", "m", b"3")
    assert [(blob.name, blob.size) for blob in client.list_blobs("old")] == [("m", 1), ("n", 2)]
    versions = [(blob.name, blob.generation) for blob in client.list_blobs("old", versions=True) if blob.name == "n"]
    assert versions == [("n", first.generation), ("n", second.generation)]


def test_soft_deleted_objects_are_listed_on_request(gcs_server: GCSServer, client: storage.Client) -> None:
    gcs_server.create_bucket("soft", soft_delete_s=3600)
    gcs_server.put("soft", "n", b"1")
    client.bucket("soft").blob("n").delete()
    assert names(client.bucket("soft")) == []
    (gone,) = client.list_blobs("soft", soft_deleted=True)
    assert gone.name == "n"
    assert gone.hard_delete_time is not None
    assert [version.name for version in gcs_server.soft_deleted("soft")] == ["n"]


@pytest.mark.parametrize("style", ["flat", "classes", "deep", "uuid", "unicode", "timestamps"])
def test_synthetic_objects_are_listed_and_read_as_real_ones(
    gcs_server: GCSServer, bucket: storage.Bucket, style: str
) -> None:
    gcs_server.synthesize("data", count=2500, style=style, size=[0, 7, 8, 3000])
    blobs = list(bucket.client.list_blobs(bucket))
    assert [blob.name for blob in blobs] == gcs_server.names("data")
    assert [blob.name.encode() for blob in blobs] == sorted({blob.name.encode() for blob in blobs})
    assert {blob.size for blob in blobs} == {0, 7, 8, 3000}
    for blob in blobs[::499]:
        assert blob._properties == bucket.get_blob(blob.name)._properties
        data = blob.download_as_bytes()  # the client checks its crc32c
        assert len(data) == blob.size


def test_synthetic_and_real_objects_mix_in_order(gcs_server: GCSServer, bucket: storage.Bucket) -> None:
    gcs_server.synthesize("data", count=20, prefix="m/")
    synthetic = gcs_server.names("data")
    between = synthetic[7] + "-and-a-half"
    gcs_server.put_many("data", {"a": b"", between: b"new", "z": b"", synthetic[3]: b"replaced"})
    bucket.blob(synthetic[5]).delete()
    expected = sorted({*synthetic, "a", "z", between} - {synthetic[5]}, key=str.encode)
    for size in (1, 3, 1000):
        assert [blob.name for blob in bucket.client.list_blobs(bucket, page_size=size)] == expected
    assert bucket.blob(synthetic[3]).download_as_bytes() == b"replaced"
    assert not bucket.blob(synthetic[5]).exists()
    digest = gcs_server.listing("data")
    assert (digest.count, digest.first, digest.last) == (len(expected), "a", "z")


def test_bad_parameters_are_refused_in_the_services_shape(named: storage.Bucket) -> None:
    with pytest.raises(BadRequest) as caught:
        names(named, page_token="forged")
    assert caught.value.errors[0]["reason"] == "invalidParameter"
    with pytest.raises(BadRequest):
        names(named, fields="items(name")
    with pytest.raises(BadRequest):
        names(named, match_glob="[a")


def test_an_unknown_bucket_and_a_missing_permission_are_told_apart(
    gcs_server: GCSServer, client: storage.Client
) -> None:
    with pytest.raises(NotFound, match="bucket does not exist"):
        list(client.list_blobs("nowhere"))
    gcs_server.create_bucket("secret", permissions=["storage.objects.get"])
    with pytest.raises(Forbidden, match=r"storage\.objects\.list"):
        list(client.list_blobs("secret"))
