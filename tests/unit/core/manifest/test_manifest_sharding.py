"""Shards and boundary names of published manifests."""

from __future__ import annotations

from pathlib import Path

import pytest
from manifest_samples import batch, numbered, publish_rows

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.manifest import ManifestFiles


class CountedFiles(ManifestFiles):
    """Counts the parts that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.parts_read = 0

    def read(self, uri: str, *, most_bytes: int | None = None) -> bytes:
        self.parts_read += uri.endswith(".parquet")
        return super().read(uri, most_bytes=most_bytes)


def test_shards_read_only_the_parts_in_which_they_are_cut(tmp_path: Path) -> None:
    files = CountedFiles()
    manifest = publish_rows(tmp_path, [numbered(100, start=100 * number) for number in range(20)], files=files)
    shards = manifest.shards(4)
    assert files.parts_read <= 3
    assert sum(map(len, shards)) == 2000
    assert [shard.fingerprint for shard in manifest.shards(4)] == [shard.fingerprint for shard in shards]
    assert manifest.shard(2, 4).fingerprint == shards[2].fingerprint


def test_empty_objects_are_spread_over_shards(tmp_path: Path) -> None:
    rows = batch([f"{number:05d}" for number in range(1000)], sizes=[0] * 1000)
    assert [len(shard) for shard in publish_rows(tmp_path, [rows]).shards(4)] == [250] * 4


def test_one_huge_object_gets_a_shard_of_its_own(tmp_path: Path) -> None:
    rows = batch([f"{number:05d}" for number in range(10)], sizes=[1] * 5 + [10**9] + [1] * 4)
    shards = publish_rows(tmp_path, [rows]).shards(10)
    assert [len(shard) for shard in shards] == [1] * 10
    assert publish_rows(tmp_path / "x", [rows]).shards(3)[1].total_bytes == 10**9


def test_shards_of_bytes_are_as_many_as_it_takes(tmp_path: Path) -> None:
    rows = batch([f"{number:05d}" for number in range(100)], sizes=[1000] * 100)
    manifest = publish_rows(tmp_path, [rows])
    assert len(manifest.shards_of(10_000)) == 10
    assert len(manifest.shards_of(9_999)) == 11
    assert len(manifest.shards_of(10**9)) == 1
    assert len(manifest.shards_of(1)) == 100
    assert len(publish_rows(tmp_path / "empty", []).shards_of(5)) == 0


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda m: m.shards(0), "1 or more"),
        (lambda m: m.shards_of(0), "1 or more"),
        (lambda m: m.shard(3, 3), "below 3"),
        (lambda m: m.shard(-1, 3), "at least 0"),
        (lambda m: m.shard(5, 9), "3 objects make 3 shards"),
        (lambda m: m.boundary_names(-1), "0 or more"),
    ],
)
def test_impossible_shards_are_refused(tmp_path: Path, ask, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        ask(publish_rows(tmp_path, [numbered(3)]))


def test_boundary_names_come_from_the_index_and_divide_evenly(tmp_path: Path) -> None:
    files = CountedFiles()
    manifest = publish_rows(tmp_path, [numbered(60_000), numbered(60_000, start=60_000)], files=files)
    names = manifest.boundary_names(9)
    assert files.parts_read == 0
    positions = [int(name[6:14]) for name in names]
    assert len(positions) == 9
    assert all(abs(position - 12_000 * (k + 1)) <= 1024 for k, position in enumerate(positions))


def test_boundary_names_of_a_small_manifest_are_exact(tmp_path: Path) -> None:
    manifest = publish_rows(tmp_path, [numbered(60), numbered(40, start=60)])
    assert [int(name[6:14]) for name in manifest.boundary_names(4)] == [20, 40, 60, 80]
    assert len(manifest.boundary_names(1000)) == 99
    assert manifest.boundary_names(0) == []
