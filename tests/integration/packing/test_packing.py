"""Packs against the embedded server: what is in them, that they are the same every time, and what they cost."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import google_crc32c
import pyarrow.parquet as pq
import pytest
import webdataset
from packing_site import SOURCE, TARGET, Site, content

from airflow_dataflux.core.errors import (
    CostLimitError,
    DestinationError,
    InvalidRequestError,
    ObjectsChangedError,
    PermissionDeniedError,
    UnsafeNameError,
)
from airflow_dataflux.core.manifest import inline
from airflow_dataflux.core.packing import shard_writer

SMALL = 64 * 1024


@pytest.mark.parametrize("strategy", ["auto", "compose", "direct"])
def test_every_object_is_in_the_pack_once_and_whole(site: Site, output: str, strategy: str) -> None:
    site.put_samples(200)
    result = site.pack(site.manifest(), output, shard_bytes=SMALL, strategy=strategy)
    site.check(output)
    assert (result.object_count, result.sample_count, result.total_bytes) == (
        400,
        200,
        sum(map(len, site.objects.values())),
    )
    assert result.shard_count == result.packed_shards == len(site.shards(output)) > 5
    assert result.pack_bytes == sum(map(len, site.shards(output).values()))
    assert all(len(data) <= SMALL for data in site.shards(output).values())
    assert site.composites() == []
    if strategy != "auto":
        assert (result.composites > 0) is (strategy == "compose")


def test_all_strategies_and_places_give_the_same_bytes(site: Site) -> None:
    site.put_samples(150)
    manifest = site.manifest()
    places = {strategy: f"gs://{TARGET}/{strategy}/" for strategy in ("compose", "direct")}
    for strategy, place in places.items():
        site.pack(manifest, place, shard_bytes=SMALL, strategy=strategy)
    site.pack(manifest, site.local, shard_bytes=SMALL, isolated=True, workers=2)
    packs = [site.shards(place) for place in [*places.values(), site.local]]
    assert packs[0] == packs[1] == packs[2]


def test_webdataset_reads_the_samples_whole_and_in_order(site: Site) -> None:
    site.put_samples(120)
    result = site.pack(site.manifest(), site.local, shard_bytes=SMALL)
    urls = [f"{site.local}/{one['url']}" for one in site.index(site.local)["shardlist"]]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"train/{number:05}" for number in range(120)]
    for sample in samples:
        assert sample["jpg"] == site.objects[f"{sample['__key__']}.jpg"]
        assert sample["json"] == site.objects[f"{sample['__key__']}.json"]
    assert sum(one["nsamples"] for one in site.index(site.local)["shardlist"]) == result.sample_count == 120


def test_large_objects_are_read_in_ranges(site: Site, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_writer, "PIECE_BYTES", 10_000)
    monkeypatch.setattr(shard_writer.pieces_of, "__defaults__", (10_000,))
    site.put({f"large/{number}.bin": content(number, 9_000 + 7_001 * number) for number in range(8)})
    site.pack(site.manifest(), output)
    site.check(output)


def test_empty_objects_are_members_and_placeholders_are_not(site: Site, output: str) -> None:
    site.put({"a.txt": b"", "b.txt": b"b", "c.txt": b""})
    site.server.put(SOURCE, "directory/", b"")
    site.pack(site.manifest(), output)
    site.check(output)


def test_an_empty_manifest_makes_an_empty_pack(site: Site, output: str) -> None:
    result = site.pack(site.manifest(), output)
    assert (result.shard_count, result.object_count) == (0, 0)
    assert site.index(output)["shardlist"] == []


def test_long_and_foreign_names_come_back(site: Site, output: str) -> None:
    site.put({"é" * 60 + "/ü.jpg": b"1", "x" * 300 + ".jpg": b"2", "a b/ç #?.txt": b"3", "no-extension": b"4"})
    result = site.pack(site.manifest(), output)
    site.check(output)
    assert any("1 objects have no extension" in note for note in result.notes)


def test_the_table_says_where_each_objects_bytes_are(site: Site, output: str) -> None:
    site.put_samples(60)
    result = site.pack(site.manifest(), output, shard_bytes=SMALL)
    files = site.files(output)
    rows = pq.read_table(io.BytesIO(files["members.parquet"])).to_pylist()
    assert result.members is not None
    assert result.members.endswith("/members.parquet")
    assert [row["name"] for row in rows] == sorted(site.objects)
    for row in rows:
        data = files[row["shard"]][row["offset"] : row["offset"] + row["size"]]
        assert data == site.objects[row["name"]]
        assert row["crc32c"] == google_crc32c.value(data)
        assert row["generation"] == site.store.stat(SOURCE, row["name"]).row.generation


def test_packing_again_writes_nothing(site: Site, output: str) -> None:
    site.put_samples(100)
    manifest = site.manifest()
    first = site.pack(manifest, output, shard_bytes=SMALL)
    before = site.files(output)
    site.server.forget_requests()
    second = site.pack(manifest, output, shard_bytes=SMALL)
    assert (second.packed_shards, second.reused_shards) == (0, first.shard_count)
    assert second.fingerprint == first.fingerprint
    assert site.files(output) == before
    assert site.operations().get("upload", 0) == 0
    assert site.operations().get("compose", 0) == 0
    assert (second.object_count, second.sample_count, second.pack_bytes) == (200, 100, first.pack_bytes)


def test_only_shards_that_are_missing_or_wrong_are_written(site: Site) -> None:
    site.put_samples(100)
    manifest = site.manifest()
    site.pack(manifest, site.local, shard_bytes=SMALL)
    before = site.shards(site.local)
    shards = sorted(before)
    Path(site.local, shards[0]).unlink()
    damaged = bytearray(before[shards[1]])
    damaged[2000] ^= 1
    Path(site.local, shards[1]).write_bytes(damaged)
    Path(site.local, shards[2]).touch()  # touched, but right: it is read to find out
    again = site.pack(manifest, site.local, shard_bytes=SMALL)
    assert (again.packed_shards, again.reused_shards) == (2, len(shards) - 2)
    assert site.shards(site.local) == before


def test_an_object_in_a_bucket_that_is_not_ours_is_replaced_by_generation(site: Site) -> None:
    site.put_samples(100)
    manifest = site.manifest()
    site.pack(manifest, shard_bytes=SMALL)
    before = site.shards()
    site.server.put(TARGET, "packed/000001.tar", b"something else")
    again = site.pack(manifest, shard_bytes=SMALL)
    assert again.packed_shards == 1
    assert site.shards() == before


def test_a_seed_shuffles_samples_over_all_shards(site: Site, output: str) -> None:
    site.put_samples(150)
    manifest = site.manifest()
    site.pack(manifest, output, shard_bytes=SMALL, shuffle_seed=7)
    site.check(output)
    names = [name for name, _ in site.packed(output) if name.endswith(".jpg")]
    assert names != sorted(names)
    first_shard = names[: len(names) // len(site.shards(output))]
    assert max(first_shard) > f"train/{100:05}"
    before = site.shards(output)
    assert site.pack(manifest, output, shard_bytes=SMALL, shuffle_seed=7).packed_shards == 0
    assert site.shards(output) == before


def test_an_expression_says_what_belongs_together(site: Site) -> None:
    site.put({f"images/{number:03}.jpg": content(number, 500) for number in range(60)})
    site.put({f"labels/{number:03}.txt": content(number, 5) for number in range(60)})
    site.pack(site.manifest(), site.local, shard_count=7, sample_by=r"/(\d+)\.")
    assert len(site.shards(site.local)) == 7
    names = [name for name, _ in site.packed(site.local)]
    assert names[:4] == ["images/000.jpg", "labels/000.txt", "images/001.jpg", "labels/001.txt"]
    site.check(site.local)


def test_parts_packed_by_several_tasks_are_the_pack_of_one(site: Site, output: str) -> None:
    site.put_samples(150)
    manifest = site.manifest()
    whole = site.pack(manifest, f"gs://{TARGET}/whole/", shard_bytes=SMALL)
    parts = [site.pack(shard, output, shard_bytes=SMALL) for shard in manifest.shards(4)]
    assert all(part.index is None and part.fingerprint == whole.fingerprint for part in parts)
    assert sum(part.packed_shards for part in parts) == whole.shard_count
    assert "index.json" not in site.files(output)
    joined = site.join(parts, output)
    assert site.shards(output) == site.shards(f"gs://{TARGET}/whole/")
    assert site.index(output)["shardlist"] == site.index(f"gs://{TARGET}/whole/")["shardlist"]
    assert (joined.object_count, joined.packed_shards, joined.sample_count) == (300, whole.shard_count, 150)
    assert joined.summary()["index"] == f"{joined.output}index.json"


def test_parts_that_are_not_all_of_one_pack_are_not_joined(site: Site) -> None:
    site.put_samples(50)
    manifest = site.manifest()
    parts = [site.pack(shard, shard_bytes=SMALL) for shard in manifest.shards(3)]
    for wrong in ([], parts[:2], [*parts, parts[0]], [site.pack(manifest, site.local)]):
        with pytest.raises(InvalidRequestError):
            site.join(wrong)


def test_a_shard_of_a_manifest_in_xcom_is_refused(site: Site) -> None:
    site.put_samples(10)
    listed = site.manifest()
    in_xcom = inline(SOURCE, ["train/"], listed.batches(), listed_at=listed.listed_at, stats={})
    with pytest.raises(InvalidRequestError, match="manifest_uri"):
        site.pack(in_xcom.shards(2)[0])
    site.pack(in_xcom)
    site.check()


def test_an_index_that_is_somebody_elses_is_neither_removed_nor_replaced(site: Site, output: str) -> None:
    site.put_samples(10)
    if output.startswith("gs://"):
        site.server.put(TARGET, output.removeprefix(f"gs://{TARGET}/") + "index.json", b'{"mine": 1}')
    else:
        Path(output).mkdir(parents=True)
        Path(output, "index.json").write_bytes(b'{"mine": 1}')
    with pytest.raises(DestinationError, match=r"index\.json is there already, and it is not the index of a pack"):
        site.pack(site.manifest(), output)
    assert site.files(output)["index.json"] == b'{"mine": 1}'
    assert [name for name in site.files(output) if name.endswith(".tar")] == []


@pytest.mark.parametrize("name", ["000000.tar", "000001.tar", "members.parquet"])
def test_a_file_that_no_pack_has_written_is_not_replaced(site: Site, output: str, name: str) -> None:
    site.put_samples(100)
    if output.startswith("gs://"):
        site.server.put(TARGET, output.removeprefix(f"gs://{TARGET}/") + name, b"mine")
    else:
        Path(output).mkdir(parents=True)
        Path(output, name).write_bytes(b"mine")
    with pytest.raises(DestinationError, match=rf"{name} is there already, and no pack .*own, or remove the file"):
        site.pack(site.manifest(), output, shard_bytes=SMALL)
    assert site.files(output)[name] == b"mine"
    assert "index.json" not in site.files(output)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, kind) for name in ("index.json", "members.parquet", "report.json") for kind in ("directory", "pipe")),
        (".dataflux-pack", "file"),
        (".dataflux-pack", "link"),
        ("000000.tar", "directory"),
        (".dataflux-pack/000000.tar.record", "directory"),
    ],
)
@pytest.mark.parametrize("packed_before", [False, True])
def test_what_stands_in_the_place_of_a_packs_file_is_refused_before_anything_is_fetched(
    site: Site, name: str, kind: str, packed_before: bool
) -> None:
    site.put_samples(10)
    place = Path(site.local, name)
    if packed_before:
        site.pack(site.manifest(), site.local)
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        site.put_samples(12)
    place.parent.mkdir(parents=True, exist_ok=True)
    make = {
        "directory": place.mkdir,
        "file": place.touch,
        "link": lambda: place.symlink_to(site.disk),
        "pipe": lambda: os.mkfifo(place),
    }
    make[kind]()
    manifest = site.manifest("second")
    site.server.forget_requests()
    with pytest.raises(DestinationError, match=f"{place} is not a .* remove what is there") as caught:
        site.pack(manifest, site.local)
    assert site.server.requests().operations.get("read", 0) == 0
    assert caught.value.path == str(place)


@pytest.mark.parametrize("strategy", ["compose", "direct"])
def test_an_object_that_changed_ends_the_pack_and_is_named(site: Site, output: str, strategy: str) -> None:
    site.put_samples(40)
    manifest = site.manifest()
    site.server.put(SOURCE, "train/00020.json", b"changed")
    with pytest.raises(ObjectsChangedError, match=r"train/00020\.json"):
        site.pack(manifest, output, shard_bytes=SMALL, strategy=strategy)
    assert "index.json" not in site.files(output)
    assert site.composites() == []


@pytest.mark.parametrize("strategy", ["compose", "direct"])
def test_a_changed_object_takes_its_sample_with_it(site: Site, output: str, strategy: str) -> None:
    site.put_samples(40)
    manifest = site.manifest()
    site.server.put(SOURCE, "train/00020.json", b"changed")
    site.server.put(SOURCE, "train/00021.jpg", b"changed")
    result = site.pack(manifest, output, shard_bytes=SMALL, strategy=strategy, on_changed_object="skip")
    gone = {f"train/{number:05}.{kind}" for number in (20, 21) for kind in ("jpg", "json")}
    site.check(output, {name: data for name, data in site.objects.items() if name not in gone})
    assert (result.skipped, result.sample_count) == (4, 38)
    assert json.loads(site.files(output)["report.json"])["skipped_names"] == sorted(gone)
    again = site.pack(manifest, output, shard_bytes=SMALL, strategy=strategy, on_changed_object="skip")
    assert again.packed_shards == 0
    with pytest.raises(ObjectsChangedError):
        site.pack(manifest, output, shard_bytes=SMALL, strategy=strategy)


def test_names_that_no_shard_can_hold_are_refused_before_anything_is_written(site: Site, output: str) -> None:
    site.put({"good.jpg": b"1", "../evil.jpg": b"2", "/etc/passwd": b"3", "a/../b.txt": b"4", "x..y/..z.txt": b"5"})
    with pytest.raises(UnsafeNameError) as caught:
        site.pack(site.manifest(), output)
    assert len(caught.value.names) == 3
    assert site.files(output) == {}


def test_a_limit_of_dollars_stops_a_pack_before_it_writes(site: Site, output: str) -> None:
    site.put_samples(100)
    manifest = site.manifest()
    estimated = site.pack(manifest, output, dry_run=True, strategy="direct")
    assert estimated.dry_run
    assert site.files(output) == {}
    with pytest.raises(CostLimitError, match="max_usd") as caught:
        site.pack(manifest, output, max_usd=estimated.estimated_usd / 2, strategy="direct")
    assert caught.value.costs["class_b"] > 0
    assert site.files(output) == {}
    done = site.pack(manifest, output, max_usd=estimated.estimated_usd * 1.5, strategy="direct")
    assert done.estimated_usd == pytest.approx(estimated.estimated_usd, rel=0.3)


def test_a_bucket_that_may_not_be_written_is_refused_before_anything_is_read(site: Site) -> None:
    site.put_samples(5)
    manifest = site.manifest()
    site.server.change_bucket(TARGET, permissions=["storage.objects.get", "storage.objects.list"])
    with pytest.raises(PermissionDeniedError, match=r"storage\.objects\.create"):
        site.pack(manifest)
    assert site.operations().get("read", 0) == 0


def test_shards_of_an_earlier_larger_pack_are_named_and_left(site: Site, output: str) -> None:
    site.put_samples(100)
    site.pack(site.manifest("first"), output, shard_bytes=SMALL)
    before = site.shards(output)
    smaller = site.manifest("second", prefix="train/0000")
    result = site.pack(smaller, output, shard_bytes=SMALL)
    assert set(result.other_shards) == set(before) - {"000000.tar"}
    assert [one["url"] for one in site.index(output)["shardlist"]] == ["000000.tar"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"output": "relative"},
        {"output": "s3://bucket/x"},
        {"shard_bytes": 0},
        {"shard_count": 0},
        {"sample_by": "(a)(b)"},
        {"name_template": "same.tar"},
        {"strategy": "magic"},
        {"max_usd": -1},
    ],
)
def test_a_parameter_that_cannot_be_right_is_refused(site: Site, parameters: dict[str, object]) -> None:
    site.put_samples(1)
    with pytest.raises(InvalidRequestError):
        site.pack(site.manifest(), **parameters)  # type: ignore[arg-type]
