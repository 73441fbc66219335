"""Shards, boundary names, differences and joins on published manifests."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from manifest_samples import LISTED_AT, batch, numbered, publish_rows

from airflow_dataflux.core.errors import InvalidRequestError, ManifestError
from airflow_dataflux.core.manifest import Manifest, ManifestFiles, inline, join


class CountedFiles(ManifestFiles):
    """Counts the parts that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.parts_read = 0

    def read(self, uri: str) -> bytes:
        self.parts_read += uri.endswith(".parquet")
        return super().read(uri)


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


def test_a_difference_tells_added_removed_and_changed(tmp_path: Path) -> None:
    before = publish_rows(tmp_path / "a", [batch(["a", "b", "c", "d"], generations=[1, 2, 3, 4])])
    after = publish_rows(tmp_path / "b", [batch(["b", "c"], generations=[2, 33]), batch(["e"], generations=[5])])
    diff = after.diff(before)
    assert [row.name for row in diff.added] == ["e"]
    assert [row.name for row in diff.removed] == ["a", "d"]
    assert [(old.generation, new.generation) for old, new in diff.changed] == [(3, 33)]
    counts = diff.counts()
    assert (counts.added, counts.removed, counts.changed) == (1, 2, 1)
    assert counts
    assert diff.differs()


def test_manifests_of_one_fingerprint_are_compared_without_reading(tmp_path: Path) -> None:
    files = CountedFiles()
    before = publish_rows(tmp_path / "a", [numbered(100)], files=files)
    after = publish_rows(tmp_path / "b", [numbered(50), numbered(50, start=50)], files=files)
    assert not after.diff(before).counts()
    assert not after.diff(before).differs()
    assert files.parts_read == 0


def test_joined_ranges_are_one_manifest_without_copying(tmp_path: Path) -> None:
    ranges = [
        publish_rows(tmp_path / "m" / "1", [numbered(10, start=20)]),
        publish_rows(tmp_path / "m" / "0", [numbered(10), numbered(10, start=10)]),
        publish_rows(tmp_path / "elsewhere", [numbered(10, start=40)]),
        publish_rows(tmp_path / "m" / "3", []),
        inline("a-bucket", ["more/"], [numbered(10, start=30)], listed_at=LISTED_AT, stats={}),
    ]
    joined = join(ranges, manifest_uri=str(tmp_path / "m"))
    assert (
        Manifest.open(str(tmp_path / "m"))
        .to_arrow()
        .equals(
            pa.Table.from_batches(
                [batch for one in (ranges[1], ranges[0], ranges[4], ranges[2]) for batch in one.batches()]
            )
        )
    )
    whole = publish_rows(tmp_path / "whole", [pa.Table.from_batches(joined.batches()).combine_chunks().to_batches()[0]])
    assert joined.fingerprint == whole.fingerprint
    assert joined.prefixes == ("train/", "more/")
    paths = [part.path for part in joined.index.parts]
    assert paths[:3] == ["0/part-run-0-00000.parquet", "0/part-run-1-00000.parquet", "1/part-run-0-00000.parquet"]
    assert paths[4] == f"file://{tmp_path}/elsewhere/part-run-0-00000.parquet"
    assert [row for shard in joined.shards(7) for row in shard] == list(joined)


def test_replacing_a_joined_manifest_keeps_the_parts_of_its_sources(tmp_path: Path) -> None:
    source = publish_rows(tmp_path / "m" / "0", [numbered(10)])
    join([source], manifest_uri=str(tmp_path / "m"))
    publish_rows(tmp_path / "m", [numbered(3)])
    assert len(list(Manifest.open(str(source.uri)))) == 10


@pytest.mark.parametrize("case", ["none", "buckets", "shard", "taken"])
def test_what_cannot_be_joined_is_refused(tmp_path: Path, case: str) -> None:
    one = publish_rows(tmp_path / "one", [numbered(10)])
    other = inline("b-bucket", [""], [numbered(3)], listed_at=LISTED_AT, stats={})
    manifests, says = {
        "none": ([], "at least one"),
        "buckets": ([one, other], "a-bucket, b-bucket"),
        "shard": ([one.shards(2)[0]], "whole manifests"),
        "taken": ([one], "Choose another"),
    }[case]
    with pytest.raises(InvalidRequestError, match=says):
        join(manifests, manifest_uri=str(tmp_path / "one"))


def test_overlapping_ranges_are_not_joined_and_leave_nothing(tmp_path: Path) -> None:
    one = publish_rows(tmp_path / "one", [numbered(10)])
    other = inline("a-bucket", [""], [numbered(10, start=9)], listed_at=LISTED_AT, stats={})
    with pytest.raises(ManifestError, match="overlap"):
        join([one, other], manifest_uri=str(tmp_path / "m"))
    assert os.listdir(tmp_path / "m") == []
