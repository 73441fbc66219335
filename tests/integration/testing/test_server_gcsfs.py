"""The embedded server, asked by gcsfs: how fsspec paths reach it."""

from __future__ import annotations

import gcsfs.core
import pytest

from airflow_dataflux.testing import GCSServer


@pytest.fixture
def files(gcs_server: GCSServer) -> gcsfs.core.GCSFileSystem:
    gcs_server.create_bucket("data")
    # The class itself: what `gcsfs.GCSFileSystem` names by default asks every bucket for its kind over gRPC and TLS
    # first, for a minute, which no emulator speaks (GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false turns that off).
    return gcsfs.core.GCSFileSystem(token="anon", endpoint_url=gcs_server.endpoint, skip_instance_cache=True)


def test_files_are_written_found_read_and_removed(files: gcsfs.core.GCSFileSystem, gcs_server: GCSServer) -> None:
    content = bytes(range(256)) * 5000
    with files.open("data/manifest/part-0.parquet", "wb") as writer:
        writer.write(content)
    files.pipe_file("data/manifest/manifest.json", b"{}")
    assert files.find("data/manifest") == ["data/manifest/manifest.json", "data/manifest/part-0.parquet"]
    assert files.ls("data", detail=False) == ["data/manifest"]
    assert files.info("data/manifest/part-0.parquet")["size"] == len(content)
    assert files.cat_file("data/manifest/part-0.parquet", start=1000, end=1010) == content[1000:1010]
    with files.open("data/manifest/part-0.parquet", "rb") as reader:
        reader.seek(-256, 2)
        assert reader.read() == content[-256:]
    files.rm("data/manifest", recursive=True)
    assert gcs_server.names("data") == []


def test_a_missing_file_is_missing(files: gcsfs.core.GCSFileSystem) -> None:
    assert not files.exists("data/none")
    with pytest.raises(FileNotFoundError):
        files.cat_file("data/none")
