"""Parts: written in order, cut at their caps, described rightly."""

from __future__ import annotations

import hashlib
import os
import pickle
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from manifest_samples import batch, numbered

from airflow_dataflux.core.arrow import ROW_SCHEMA
from airflow_dataflux.core.errors import ManifestError
from airflow_dataflux.core.manifest import Digest, ManifestFiles, PartWriter
from airflow_dataflux.core.manifest.schema import (
    LOCAL_PART_BYTES,
    MARK_ROWS,
    PART_BYTES,
    ROW_GROUP_BYTES,
    ROW_GROUP_ROWS,
)


def test_parts_hold_the_rows_and_their_description_is_true(tmp_path: Path) -> None:
    writer = PartWriter(ManifestFiles(), str(tmp_path), "r1", part_rows=8192)
    rows = numbered(20_000)
    for start in range(0, 20_000, 700):
        writer.append(rows.slice(start, 700))
    assert (writer.object_count, writer.last_name) == (20_000, "train/00019999.jpg")
    parts = writer.finish()
    assert [part.path for part in parts] == [f"part-r1-0000{n}.parquet" for n in range(3)]
    assert sorted(os.listdir(tmp_path)) == [part.path for part in parts]
    offset = 0
    for part in pickle.loads(pickle.dumps(parts)):
        data = (tmp_path / part.path).read_bytes()
        assert (part.file_bytes, part.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        stored = pq.read_table(pa.BufferReader(data))
        expected = rows.slice(offset, part.object_count)
        assert stored.schema.equals(ROW_SCHEMA)
        assert stored.equals(pa.Table.from_batches([expected]))
        assert (part.first_name, part.last_name) == (expected["name"][0].as_py(), expected["name"][-1].as_py())
        assert part.total_bytes == expected["size"].to_numpy().sum()
        assert part.digest == Digest().extend(expected).to_text()
        for mark, after in pairwise([*part.marks, None]):
            assert 0 < (part.object_count if after is None else after.row) - mark.row <= MARK_ROWS
            assert mark.name == expected["name"][mark.row].as_py()
            assert mark.bytes_before == expected["size"].to_numpy()[: mark.row].sum()
        assert part.marks[0].row == 0
        offset += part.object_count
    assert offset == 20_000


def long_name(number: int) -> str:
    return f"{number:06d}/" + "".join(hashlib.sha512(f"{number} {n}".encode()).hexdigest() for n in range(7))


def test_a_part_is_closed_near_its_byte_cap_whatever_the_names_are(tmp_path: Path) -> None:
    names = [long_name(number) for number in range(9000)]
    writer = PartWriter(ManifestFiles(), str(tmp_path), "r1")
    writer.append(batch(names))
    parts = writer.finish()
    assert len(parts) > 1
    assert max(part.file_bytes for part in parts) <= LOCAL_PART_BYTES + ROW_GROUP_BYTES
    for part in parts:
        groups = pq.ParquetFile(tmp_path / part.path).metadata
        assert all(groups.row_group(n).num_rows < 2 * ROW_GROUP_ROWS for n in range(groups.num_row_groups))


def test_parts_are_larger_where_each_costs_a_request(tmp_path: Path) -> None:
    class Kept(ManifestFiles):
        def create(self, uri: str, data: bytes) -> None:
            sizes.append(len(data))

    names = [f"{number:06d}/{hashlib.sha256(b'%d' % number).hexdigest()}" for number in range(20_000)]
    largest = {}
    for uri in (str(tmp_path), "gs://bucket/manifest"):
        sizes: list[int] = []
        writer = PartWriter(Kept(), uri, "r1")
        for start in range(0, len(names), 1000):
            writer.append(batch(names[start : start + 1000]))
        writer.finish()
        largest[uri] = max(sizes)
    assert LOCAL_PART_BYTES <= largest[str(tmp_path)] < PART_BYTES <= largest["gs://bucket/manifest"]


def test_without_rows_there_are_no_parts(tmp_path: Path) -> None:
    writer = PartWriter(ManifestFiles(), str(tmp_path / "m"), "r1")
    writer.append(numbered(0))
    assert writer.last_name is None
    assert writer.finish() == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("second", [["b"], ["a"], ["c", "c"], ["d", "c"]])
def test_rows_out_of_order_are_refused_and_not_added(tmp_path: Path, second: list[str]) -> None:
    writer = PartWriter(ManifestFiles(), str(tmp_path), "r1")
    writer.append(batch(["a", "b"]))
    with pytest.raises(ManifestError, match="not sorted and unique"):
        writer.append(batch(second))
    (part,) = writer.finish()
    assert part.object_count == 2


def test_names_are_ordered_by_their_utf8_bytes_beyond_the_bmp_too(tmp_path: Path) -> None:
    writer = PartWriter(ManifestFiles(), str(tmp_path), "r1")
    writer.append(batch(["a", "\uffee", "\U0001f600"]))  # UTF-16 would order the last two the other way round
    assert writer.finish()[0].last_name == "\U0001f600"


def test_rows_of_another_schema_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="ROW_SCHEMA"):
        PartWriter(ManifestFiles(), str(tmp_path), "r1").append(pa.record_batch({"name": ["a"]}))
