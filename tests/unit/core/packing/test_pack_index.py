"""Beside the shards: records, the index for wids, the table of members."""

from __future__ import annotations

import io
import json
import tarfile
import zlib

import pyarrow.parquet as pq
import pytest

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.packing.pack_index import (
    ShardRecord,
    decode_index,
    decode_record,
    encode_index,
    encode_record,
    fits,
    write_members,
)
from airflow_dataflux.core.packing.samples import Member, SampleOrder
from airflow_dataflux.core.packing.shard_plan import ByBytes, PlanTotals, ShardPlan, checked_name_template, plan_shards
from airflow_dataflux.core.packing.tar_format import end_of_archive, member_header, padding

NAMES = ("a/1.jpg", "a/1.json", "b" * 120 + ".jpg", "é.txt", "no-extension")


def member(name: str, size: int = 10, generation: int = 1) -> Member:
    return Member(name, size, generation, 7, "STANDARD", None)


def planned(*names: str, template: str = "{index:06d}.tar") -> ShardPlan:
    (shard,) = plan_shards([(member(name),) for name in names], ByBytes(1 << 30), template)
    return shard


def record_of(names: tuple[str, ...], index: int = 0) -> ShardRecord:
    return ShardRecord(
        index=index,
        name=f"{index:06d}.tar",
        digest="d",
        archive_bytes=10240,
        crc32c=0xFFFF0001,
        skipped=(),
        file=(1, 2),
        names=names,
        sizes=tuple(range(len(names))),
        generations=(2**62,) * len(names),
        crcs=(2**32 - 1,) * len(names),
    )


def test_a_record_comes_back_as_it_was() -> None:
    record = record_of(NAMES)
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize(
    "data",
    [b"", b"junk", zlib.compress(b"junk"), encode_record(record_of(NAMES))[:-20], zlib.compress(b"\x80")],
)
def test_a_damaged_record_is_no_record(data: bytes) -> None:
    assert decode_record(data) is None


def test_a_record_fits_only_the_shard_that_it_tells_of() -> None:
    plan = planned("a.jpg", "b.jpg")
    other = planned("a.jpg", "c.jpg")
    record = ShardRecord(
        index=0,
        name=plan.name,
        digest=plan.digest,
        archive_bytes=plan.archive_bytes,
        crc32c=1,
        skipped=(),
        file=None,
        names=("a.jpg", "b.jpg"),
        sizes=(10, 10),
        generations=(1, 1),
        crcs=(7, 7),
    )
    assert fits(record, plan, may_lack_objects=False)
    assert not fits(record, other, may_lack_objects=False)


def test_offsets_are_where_the_bytes_are() -> None:
    record = record_of(NAMES)
    body = b"".join(
        member_header(name, size) + b"x" * size + padding(size) for name, size in zip(NAMES, record.sizes, strict=True)
    )
    with tarfile.open(fileobj=io.BytesIO(body + end_of_archive(len(body)))) as archive:
        assert list(record.offsets()) == [info.offset_data for info in archive]


def test_samples_are_counted_as_webdataset_groups_them() -> None:
    assert record_of(NAMES).sample_count == 3  # the last one has no extension, and is passed over


DESCRIBED = {
    "fingerprint": "f",
    "sample_count": 4,
    "object_count": 9,
    "total_bytes": 90,
    "pack_bytes": 20480,
    "skipped": 0,
}


def test_the_index_is_one_that_wids_takes() -> None:
    data = encode_index([record_of(NAMES), record_of(("z.jpg",), 1)], name="pack", described=DESCRIBED)
    index = json.loads(data)
    assert (index["__kind__"], index["wids_version"]) == ("wids-shard-index-v1", 1)
    assert [(one["url"], one["nsamples"], one["filesize"]) for one in index["shardlist"]] == [
        ("000000.tar", 3, 10240),
        ("000001.tar", 1, 10240),
    ]
    read = decode_index(data)
    assert read is not None
    assert read.summary() == {"format": "dataflux-pack/1", **DESCRIBED, "shards": 2}
    assert [(one.url, one.nsamples, one.filesize) for one in read.shards] == [
        ("000000.tar", 3, 10240),
        ("000001.tar", 1, 10240),
    ]


@pytest.mark.parametrize("data", [b"", b"[]", b'{"dataflux": 1}', b'{"shardlist": []}'])
def test_a_foreign_index_describes_no_pack(data: bytes) -> None:
    assert decode_index(data) is None


def test_the_table_has_a_row_for_each_object() -> None:
    file = io.BytesIO()
    assert write_members([record_of(NAMES), record_of(("z.jpg",), 1)], file) == 6
    table = pq.read_table(io.BytesIO(file.getvalue())).to_pylist()
    assert [row["name"] for row in table] == [*NAMES, "z.jpg"]
    assert table[1]["shard"] == "000000.tar"
    assert (table[1]["offset"], table[1]["size"], table[1]["crc32c"]) == (1024, 1, 2**32 - 1)


def test_a_shard_without_changed_objects_loses_their_samples_whole() -> None:
    samples = [(member("1.jpg"), member("1.txt")), (member("2.jpg"), member("2.txt")), (member("3.jpg"),)]
    (shard,) = plan_shards(samples, ByBytes(1 << 30), "{index}")
    less = shard.without(frozenset({"2.txt"}))
    assert [one.name for one in less.members] == ["1.jpg", "1.txt", "3.jpg"]
    assert (less.sample_sizes, less.digest) == ((2, 1), shard.digest)
    assert shard.without(frozenset({"1.jpg", "2.jpg", "3.jpg"})).members == ()


def test_the_fingerprint_tells_packs_apart_and_nothing_else() -> None:
    def fingerprint(*names: str, template: str = "{index}.tar") -> str:
        totals = PlanTotals()
        totals.add(planned(*names, template=template))
        return totals.fingerprint

    assert fingerprint("a.jpg", "b.jpg") == fingerprint("a.jpg", "b.jpg")
    assert len({fingerprint("a.jpg"), fingerprint("b.jpg"), fingerprint("a.jpg", template="{index}-x.tar")}) == 3


def test_what_webdataset_would_not_read_or_refuse_is_counted() -> None:
    totals = PlanTotals()
    totals.add(planned("1.JPG", "1.jpg", "2.jpg", "readme", "__meta__/x.json"))
    assert (totals.unread, totals.clashing) == (2, ["1.jpg"])


@pytest.mark.parametrize(
    "template",
    ["shard.tar", "{index", "{}", "{other}.tar", "../{index}.tar", "/{index}.tar", "a//{index}", "{index:d}/..",
     ".dataflux-pack/{index}", "{index.real.x}", "{index!r:>3}\n",
     "{index:0999d}.tar", "x" * 240 + "{index}.tar"],
)  # fmt: skip
def test_a_name_template_that_makes_no_usable_names_is_refused(template: str) -> None:
    with pytest.raises(InvalidRequestError, match="name_template"):
        checked_name_template(template)


@pytest.mark.parametrize("template", ["{index:06d}.tar", "train-{index}.tar", "a/b/{index:04x}.tar"])
def test_other_name_templates_are_taken(template: str) -> None:
    assert checked_name_template(template) == template


@pytest.mark.parametrize("expression", ["(", "no group", "(two)(groups)"])
def test_an_expression_without_one_group_is_refused(expression: str) -> None:
    with pytest.raises(InvalidRequestError, match="sample_by"):
        SampleOrder(list, sample_by=expression)
