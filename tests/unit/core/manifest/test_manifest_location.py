"""URIs of manifests: what is one place, and what is none."""

from __future__ import annotations

import pytest

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.manifest.location import join_uri, manifest_location, parse_location, relative_path


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("/data/m", "file:///data/m"),
        ("//data//m/", "file:///data/m"),
        ("/data/x/../m", "file:///data/m"),
        ("file:///data/m/", "file:///data/m"),
        ("FILE:///data/m", "file:///data/m"),
        ("/data/m/manifest.json", "file:///data/m"),
        ("gs://a-bucket/path/m/", "gs://a-bucket/path/m"),
        ("gcs://a-bucket/path/m", "gs://a-bucket/path/m"),
        ("gs://a-bucket/path/m/manifest.json", "gs://a-bucket/path/m"),
        ("s3://bucket/m/", "s3://bucket/m"),
        ("memory://m/manifest.json", "memory://m"),
        ("/data/a%20b c", "file:///data/a%20b c"),
    ],
)
def test_spellings_of_one_place_become_one_uri(given: str, normal: str) -> None:
    assert manifest_location(given).uri == normal


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "not the URI"),
        ("   ", "not the URI"),
        ("data/m", "relative path"),
        ("./m", "relative path"),
        ("file://data/m", "host or a relative path"),
        ("file:/data/m", "lacks the //"),
        ("gs:/bucket/m", "lacks the //"),
        ("gs://", "not a bucket name"),
        ("gs://Bad_Bucket!/m", "not a bucket name"),
        ("gs://a-bucket", "bucket's root"),
        ("gs://a-bucket/manifest.json", "bucket's root"),
        ("/", "root of the file system"),
        ("/manifest.json", "root of the file system"),
        ("s3://", "names no place"),
        ("/data/m\nx", "line break"),
        ("/data/m\ud800", "surrogate"),
        ("gs://a-bucket/\udcff", "surrogate"),
        ("/data" + "/m" * 2500, "has 5005 bytes"),
        ("/data/" + "m" * 256, "name of 256 bytes"),
        ("file:///data/" + "é" * 128 + "/m", "name of 256 bytes"),
        ("gs://a-bucket/" + "m/" * 481, "is too long"),
    ],
)
def test_what_cannot_be_a_manifest_is_refused_with_its_reason(given: str, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        manifest_location(given)


def test_a_number_is_no_uri() -> None:
    with pytest.raises(InvalidRequestError, match="not the URI"):
        parse_location(7)  # type: ignore[arg-type]


def test_paths_below_a_directory_are_relative_and_others_stay_uris() -> None:
    assert relative_path("gs://b/m", "gs://b/m/0/part.parquet") == "0/part.parquet"
    assert relative_path("gs://b/m", "gs://b/m2/part.parquet") == "gs://b/m2/part.parquet"
    for uri in ("gs://b/m/0/part.parquet", "gs://b/m2/part.parquet"):
        assert join_uri("gs://b/m", relative_path("gs://b/m", uri)) == uri
