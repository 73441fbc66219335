"""Manifests that somebody made to do harm: an error in bounded memory, and no foreign place is asked."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from manifest_samples import batch, numbered, publish_rows

from airflow_dataflux.core.arrow import ROW_SCHEMA
from airflow_dataflux.core.errors import InvalidRequestError, ManifestChangedError, ManifestError
from airflow_dataflux.core.manifest import Manifest, ManifestFiles
from airflow_dataflux.core.manifest.fingerprint import Digest
from airflow_dataflux.core.manifest.index import INDEX_MOST_BYTES, decode_index
from airflow_dataflux.core.manifest.schema import PARQUET_OPTIONS


def edit_index(directory: Path, change: Any) -> None:
    path = directory / "manifest.json"
    index = json.loads(path.read_text("utf-8"))
    change(index)
    path.write_text(json.dumps(index), "utf-8")


def replace_part(directory: Path, table: pa.Table, **options: Any) -> None:
    """Put another file in the place of the only part, and make the index vouch for it."""
    (path,) = directory.glob("*.parquet")
    pq.write_table(table, path, **{**PARQUET_OPTIONS, **options})
    data = path.read_bytes()

    def vouch(index: dict) -> None:
        index["parts"][0].update(sha256=hashlib.sha256(data).hexdigest(), file_bytes=len(data))

    edit_index(directory, vouch)


def rows_with(**columns: list) -> pa.Table:
    count = len(next(iter(columns.values())))
    whole = pa.Table.from_batches([batch([f"{number:06d}" for number in range(count)])])
    for name, values in columns.items():
        at = ROW_SCHEMA.names.index(name)
        whole = whole.set_column(at, ROW_SCHEMA.field(name), pa.array(values, ROW_SCHEMA.field(name).type))
    return whole


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token",
        "https://example.org/manifest",
        "ftp://10.0.0.1/m",
        "sftp://10.0.0.1/m",
        "simplecache://x::http://10.0.0.1/m",
        "zip://m::https://10.0.0.1/m.zip",
        "s3://bucket/m::http://10.0.0.1/m",
        "reference://x",
        "data://text/plain,x",
        "local:///etc/passwd",
        "github://org:repo@main/m",
    ],
)
def test_a_uri_makes_no_worker_call_a_host_of_its_choice(uri: str) -> None:
    for ask in (ManifestFiles().read, Manifest.open, lambda uri: ManifestFiles().write(uri, b"")):
        with pytest.raises(InvalidRequestError, match=r"is not followed|lacks the //"):
            ask(uri)


@pytest.mark.parametrize(
    "path",
    [
        "http://169.254.169.254/latest/part.parquet",
        "../../other/part.parquet",
        "/etc/passwd",
        "a/../../b.parquet",
        "s3://bucket/part.parquet",
        "memory://x/part.parquet",
        "simplecache::http://10.0.0.1/part.parquet",
        "part\0.parquet",
    ],
)
def test_an_index_names_no_part_in_a_foreign_place(tmp_path: Path, path: str) -> None:
    publish_rows(tmp_path, [numbered(10)])
    edit_index(tmp_path, lambda index: index["parts"][0].update(path=path))
    with pytest.raises((ManifestError, InvalidRequestError), match=r"may not name|is not followed|lacks the //"):
        Manifest.open(str(tmp_path))


def test_an_index_on_a_bucket_names_no_file_of_the_worker(tmp_path: Path) -> None:
    publish_rows("memory://hostile/m", [numbered(10)])
    files = ManifestFiles()
    index = json.loads(files.read("memory://hostile/m/manifest.json"))
    index["parts"][0]["path"] = "file:///etc/passwd"
    files.write("memory://hostile/m/manifest.json", json.dumps(index).encode())
    with pytest.raises(ManifestError, match="may not name"):
        Manifest.open("memory://hostile/m")


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index["parts"][0].update(file_bytes=10**12),
        lambda index: index["parts"][0].update(object_count=10**12),
        lambda index: index.update(bucket="../other"),
    ],
)
def test_an_index_that_no_writer_makes_is_refused(tmp_path: Path, change: Any) -> None:
    publish_rows(tmp_path, [numbered(10)])
    edit_index(tmp_path, change)
    with pytest.raises((ManifestError, InvalidRequestError), match=r"at most|not a bucket name"):
        Manifest.open(str(tmp_path))


def test_an_index_that_is_nested_too_deeply_is_refused() -> None:
    nested = b'{"format": "dataflux-manifest/1", "unknown": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(ManifestError, match="no manifest index"):
        decode_index(nested, "file:///m/manifest.json")


def test_an_oversized_index_or_part_is_not_read_into_memory(tmp_path: Path) -> None:
    publish_rows(tmp_path, [numbered(10)])
    (part,) = tmp_path.glob("*.parquet")
    with part.open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(ManifestError, match="at most"):
        list(Manifest.open(str(tmp_path)))
    with (tmp_path / "manifest.json").open("r+b") as file:
        file.truncate(INDEX_MOST_BYTES + 1)
    with pytest.raises(ManifestError, match="at most"):
        Manifest.open(str(tmp_path))


def test_a_manifest_of_another_bucket_than_the_reference_says_is_refused(tmp_path: Path) -> None:
    reference = publish_rows(tmp_path, [numbered(10)]).reference()
    edit_index(tmp_path, lambda index: index.update(bucket="another-bucket"))
    with pytest.raises(
        ManifestChangedError, match=r"lists gs://another-bucket, the reference was made of gs://a-bucket"
    ):
        Manifest.from_reference(reference)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"name": [f"{n:06d}" for n in range(10)], "more": ["x"] * 10}),
        rows_with(size=list(range(10))).append_column("more", pa.array(["x"] * 10)),
        rows_with(size=list(range(10))).drop_columns(["updated"]),
    ],
    ids=["other", "more", "fewer"],
)
def test_a_part_with_other_columns_is_no_part(tmp_path: Path, table: pa.Table) -> None:
    publish_rows(tmp_path, [batch([f"{n:06d}" for n in range(10)])])
    replace_part(tmp_path, table, column_encoding=None)
    with pytest.raises(ManifestError, match="columns are not those"):
        list(Manifest.open(str(tmp_path)))


def test_a_name_that_is_no_text_is_found(tmp_path: Path) -> None:
    names = [f"{n:06d}" for n in range(10)]
    publish_rows(tmp_path, [batch(names)])
    broken = pa.array([b"\xff" + name.encode() for name in names], pa.binary()).cast(pa.string(), safe=False)
    table = rows_with(size=[1] * 10).set_column(0, ROW_SCHEMA.field("name"), broken)
    replace_part(tmp_path, table)
    with pytest.raises(ManifestError, match="rows cannot be read"):
        list(Manifest.open(str(tmp_path)))


_BOMB = textwrap.dedent(
    """
    import resource, sys
    from airflow_dataflux.core.errors import ManifestError
    from airflow_dataflux.core.manifest import Manifest
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        list(Manifest.open(sys.argv[1]))
    except ManifestError as error:
        print(error)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
)


def bomb(kind: str) -> pa.Table:
    """A table that is small as a file."""
    if kind == "many rows":
        return rows_with(size=[0] * 100_000)
    count = 2000
    if kind == "one long text":
        indexes = pa.array([0] * count, pa.int32())
        types = pa.DictionaryArray.from_arrays(indexes, pa.array(["x" * (8 << 20)]))  # 16 GB as text
        table = rows_with(size=[0] * count)
        return table.set_column(ROW_SCHEMA.names.index("content_type"), "content_type", types)
    return rows_with(name=["x" * 100_000 + f"{number:06d}" for number in range(count)])


@pytest.mark.parametrize("kind", ["many rows", "one long text", "one long beginning"])
def test_a_small_file_that_would_become_large_is_refused_in_bounded_memory(tmp_path: Path, kind: str) -> None:
    table = bomb(kind)
    publish_rows(tmp_path, [batch([f"{number:06d}" for number in range(table.num_rows)])], part_bytes=1 << 30)
    replace_part(tmp_path, table, row_group_size=table.num_rows, compression_level=19, store_schema=False)
    (part,) = tmp_path.glob("*.parquet")
    assert part.stat().st_size < 3 << 20
    told = subprocess.run(
        [sys.executable, "-c", _BOMB, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "cannot be read (a " in told[0]
    assert int(told[-1]) < 400


@pytest.mark.parametrize("bucket", ["../..", "b", "UPPER", "a-bucket/o/x", ""])
def test_an_inline_reference_names_a_bucket_and_no_other_path(bucket: str) -> None:
    reference = {
        "format": "dataflux-manifest/1", "uri": None, "objects": [], "bucket": bucket, "prefixes": [""],
        "object_count": 0, "total_bytes": 0, "fingerprint": Digest().fingerprint(),
        "listed_at": "2026-01-01T00:00:00Z", "stats": {},
    }  # fmt: skip
    with pytest.raises(InvalidRequestError, match="not a bucket name"):
        Manifest.from_reference(reference)
