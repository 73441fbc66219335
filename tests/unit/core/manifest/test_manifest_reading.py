"""Reading: right rows in order, or an error that names what is wrong."""

from __future__ import annotations

import threading
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from manifest_samples import LISTED_AT, batch, numbered, publish_rows, write_parts

from airflow_dataflux.core.arrow import ROW_SCHEMA
from airflow_dataflux.core.errors import ManifestChangedError, ManifestError, ManifestNotFoundError
from airflow_dataflux.core.manifest import ManifestFiles, publish
from airflow_dataflux.core.manifest.schema import ROW_GROUP_ROWS


def test_every_column_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = numbered(9000)
    manifest = publish_rows(tmp_path, [rows])
    assert manifest.to_arrow().equals(pa.Table.from_batches([rows]))
    found = list(manifest)[6]
    assert (found.name, found.size, found.generation) == ("train/00000006.jpg", 106, 10**15 + 42)
    assert (found.crc32c, found.storage_class) == (6 * 977, "NEARLINE")
    assert found.updated == datetime.fromtimestamp(1_700_000_000, UTC).replace(microsecond=123_462)
    assert (found.content_type, found.content_encoding) == ("image/jpeg", "gzip")
    assert list(manifest)[4].crc32c is None


def test_batches_are_small_whole_and_in_the_schema(tmp_path: Path) -> None:
    manifest = publish_rows(tmp_path, [numbered(3 * ROW_GROUP_ROWS), numbered(5, start=3 * ROW_GROUP_ROWS)])
    batches = list(manifest.batches())
    assert [piece.num_rows for piece in batches] == [ROW_GROUP_ROWS] * 3 + [5]
    assert all(piece.schema.equals(ROW_SCHEMA) for piece in batches)


def test_pandas_gets_the_same_rows(tmp_path: Path) -> None:
    frame = publish_rows(tmp_path, [numbered(10)]).to_pandas()
    assert list(frame["name"])[-1] == "train/00000009.jpg"
    assert list(frame.columns) == ROW_SCHEMA.names


def test_reading_does_not_hold_the_manifest_in_memory(tmp_path: Path) -> None:
    files = ManifestFiles()
    manifest = publish_rows(tmp_path, [numbered(400_000)], files=files)
    before = pa.total_allocated_bytes()
    peak = 0
    tracemalloc.start()
    try:
        for _ in manifest.batches():
            peak = max(peak, pa.total_allocated_bytes() - before)
        python_peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    whole = manifest.to_arrow().nbytes
    assert peak < whole / 8
    assert python_peak < whole / 8


def part_file(directory: Path) -> Path:
    return sorted(directory.glob("part-*.parquet"))[1]


def replace_by_a_foreign_part(path: Path) -> None:
    other = path.parent / "elsewhere"
    write_parts(ManifestFiles(), str(other), [numbered(10, start=10)], prefix="x")
    path.write_bytes((other / "part-x-0-00000.parquet").read_bytes() + b" ")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (Path.unlink, "does not exist"),
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), "bytes, expected"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "hash"),
        (replace_by_a_foreign_part, "bytes, expected"),
    ],
)
def test_a_part_that_is_not_the_index_s_is_an_error_that_names_it(tmp_path: Path, damage, says: str) -> None:
    manifest = publish_rows(tmp_path, [numbered(10, start=10 * number) for number in range(3)])
    damage(part_file(tmp_path))
    seen = []
    with pytest.raises(ManifestError, match=says) as caught:
        seen.extend(row.name for row in manifest)
    assert caught.value.part == f"file://{part_file_name(tmp_path)}"
    assert "List the bucket again" in str(caught.value)
    assert seen == [f"train/{number:08d}.jpg" for number in range(10)]


def part_file_name(directory: Path) -> str:
    return str(directory / "part-run-1-00000.parquet")


def test_a_manifest_replaced_while_it_is_read_says_so(tmp_path: Path) -> None:
    manifest = publish_rows(tmp_path, [numbered(10)], prefix="first")
    publish_rows(tmp_path, [numbered(11)], prefix="second")
    with pytest.raises(ManifestChangedError, match="replaced while it was read"):
        list(manifest)


def test_a_manifest_deleted_while_it_is_read_says_so(tmp_path: Path) -> None:
    manifest = publish_rows(tmp_path, [numbered(10)])
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(ManifestNotFoundError, match="deleted while it was read"):
        list(manifest)


def test_rows_that_contradict_the_index_are_found_even_under_the_right_hash(tmp_path: Path) -> None:
    files = ManifestFiles()
    (part,) = write_parts(files, str(tmp_path), [numbered(10)])
    (other,) = write_parts(files, str(tmp_path / "x"), [batch([f"t/{n}" for n in range(10)])])
    # A writer that digested other rows than it wrote: nothing but the digest tells.
    wrong = msgspec.structs.replace(part, digest=other.digest)
    manifest = publish(
        files,
        manifest_uri=str(tmp_path),
        bucket="a-bucket",
        prefixes=[""],
        parts=[wrong],
        listed_at=LISTED_AT,
        stats={},
        request={},
    )
    with pytest.raises(ManifestError, match="digest"):
        list(manifest)


def test_a_reader_that_stops_early_leaves_nothing_running(tmp_path: Path) -> None:
    manifest = publish_rows("memory://stops-early", [numbered(10, start=10 * number) for number in range(5)])
    rows = manifest.rows()
    assert next(rows).name == "train/00000000.jpg"
    rows.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("manifest-reader")]


def test_a_failure_of_the_part_read_ahead_comes_after_the_rows_before_it() -> None:
    files = ManifestFiles()
    manifest = publish_rows("memory://fails-ahead", [numbered(10, start=10 * n) for n in range(3)], files=files)
    files.delete("memory://fails-ahead/part-run-1-00000.parquet")
    seen = []
    with pytest.raises(ManifestError, match="part-run-1"):
        seen.extend(row.name for row in manifest)
    assert len(seen) == 10
