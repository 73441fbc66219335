"""References: what XCom carries, and what it opens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from manifest_samples import LISTED_AT, batch, numbered, publish_rows

from airflow_dataflux.core.errors import InvalidRequestError, ManifestChangedError, ManifestError, ManifestTooLargeError
from airflow_dataflux.core.manifest import INLINE_MAX_BYTES, InlineCollector, Manifest, Shard, inline
from airflow_dataflux.core.manifest.reference import make_reference

REFERENCE_KEYS = [
    *("format", "uri", "objects", "bucket", "prefixes"),
    *("object_count", "total_bytes", "fingerprint", "listed_at", "stats"),
]


def through_xcom(reference: dict) -> dict:
    return json.loads(json.dumps(reference))


def inline_manifest(rows=None) -> Manifest:
    return inline("a-bucket", ["train/"], [numbered(20) if rows is None else rows], listed_at=LISTED_AT, stats={"n": 1})


def test_a_whole_reference_has_exactly_the_fixed_keys(tmp_path: Path) -> None:
    manifest = publish_rows(tmp_path, [numbered(20)])
    reference = manifest.reference()
    assert list(reference) == REFERENCE_KEYS
    assert reference["objects"] is None
    assert reference["uri"] == f"file://{tmp_path}"
    assert reference["listed_at"] == "2026-01-02T03:04:05+00:00"
    assert list(Manifest.from_reference(through_xcom(reference))) == list(manifest)


def test_an_inline_reference_carries_its_rows(tmp_path: Path) -> None:
    manifest = inline_manifest()
    reference = through_xcom(manifest.reference())
    assert list(reference) == REFERENCE_KEYS
    assert reference["uri"] is None
    assert reference["objects"][0] == [
        "train/00000000.jpg", 100, 10**15, 0, "NEARLINE", 1_700_000_000_123_456, "image/jpeg", None,
    ]  # fmt: skip
    again = Manifest.from_reference(reference)
    assert list(again) == list(manifest)
    assert again.fingerprint == publish_rows(tmp_path, [numbered(20)]).fingerprint
    assert (again.stats, again.listed_at, again.bucket) == ({"n": 1}, LISTED_AT, "a-bucket")


def test_an_empty_inline_manifest_survives() -> None:
    again = Manifest.from_reference(through_xcom(inline_manifest(numbered(0)).reference()))
    assert (len(again), list(again), again.shards(3)) == (0, [], [])


def test_a_uri_is_a_reference_too(tmp_path: Path) -> None:
    publish_rows(tmp_path, [numbered(20)])
    assert len(Manifest.from_reference(str(tmp_path))) == 20


def test_sixteen_shard_references_fit_into_four_kilobytes() -> None:
    shards = publish_rows("memory://a-bucket-of-ours/manifests/2026-01-02T03:04:05/train", [numbered(100_000)]).shards(
        16
    )
    references = [shard.reference() for shard in shards]
    assert len(json.dumps(references)) < 4096
    assert all(list(one) == ["uri", "fingerprint", "shard"] for one in references)


def test_a_shard_reference_takes_at_most_what_the_documentation_says() -> None:
    uri = "gs://bucket/manifest"
    shard = Shard(index=1023, count=1024, object_count=10**9, total_bytes=10**15, start=10**12)
    index = publish_rows("memory://m/documented", [numbered(1)]).index
    reference = make_reference(index, uri=uri, shard=shard, batches=[])
    assert len(json.dumps(reference)) <= 210 + len(uri)


@pytest.mark.parametrize("kind", ["parts", "inline"])
def test_shard_references_open_their_rows_and_together_all_of_them(tmp_path: Path, kind: str) -> None:
    whole = publish_rows(tmp_path, [numbered(20)]) if kind == "parts" else inline_manifest()
    shards = whole.shards(3)
    opened = [Manifest.from_reference(through_xcom(shard.reference())) for shard in shards]
    assert [row for shard in opened for row in shard] == list(whole)
    for before, after in zip(shards, opened, strict=True):
        assert (len(after), after.total_bytes, after.fingerprint) == (
            len(before),
            before.total_bytes,
            before.fingerprint,
        )
        assert after.shard_info == before.shard_info
        assert after.bucket == "a-bucket"
    assert opened[1].shard_info.index == 1
    assert opened[1].shard_info.count == 3


@pytest.mark.parametrize("kind", ["parts", "inline"])
def test_a_shard_of_a_shard_opens_the_right_rows(tmp_path: Path, kind: str) -> None:
    whole = publish_rows(tmp_path, [numbered(20)]) if kind == "parts" else inline_manifest()
    outer = Manifest.from_reference(through_xcom(whole.shards(2)[1].reference()))
    inner = [Manifest.from_reference(through_xcom(shard.reference())) for shard in outer.shards(3)]
    assert [row for shard in inner for row in shard] == list(outer)
    assert len({shard.fingerprint for shard in inner}) == 3


def test_opening_a_shard_reference_reads_the_index_only(tmp_path: Path) -> None:
    reference = publish_rows(tmp_path, [numbered(10), numbered(10, start=10)]).shards(2)[1].reference()
    for part in tmp_path.glob("*.parquet"):
        part.unlink()
    assert len(Manifest.from_reference(reference)) == reference["shard"]["object_count"]


@pytest.mark.parametrize("where", ["uri", "inline"])
def test_a_reference_of_a_newer_format_asks_for_an_upgrade(tmp_path: Path, where: str) -> None:
    reference = (publish_rows(tmp_path, [numbered(2)]) if where == "uri" else inline_manifest()).reference()
    with pytest.raises(ManifestError, match="Upgrade"):
        Manifest.from_reference({**reference, "format": "dataflux-manifest/2"})


def test_a_replaced_manifest_is_not_opened_by_an_old_reference(tmp_path: Path) -> None:
    manifest = publish_rows(tmp_path, [numbered(20)])
    references = [manifest.reference(), manifest.shards(2)[0].reference()]
    publish_rows(tmp_path, [numbered(21)], prefix="later")
    for reference in references:
        with pytest.raises(ManifestChangedError, match="was replaced"):
            Manifest.from_reference(reference)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ({}, "format is None"),
        ({"format": "dataflux-receipt/1"}, "dataflux-receipt/1"),
        ({"format": "dataflux-manifest/1"}, "neither"),
        ({"format": "dataflux-manifest/1", "uri": "/x"}, "fingerprint"),
        ({"format": "dataflux-manifest/1", "uri": 7, "fingerprint": "x"}, "both strings"),
        ({"format": "dataflux-manifest/1", "uri": "x", "fingerprint": "x"}, "relative path"),
        ({"format": "dataflux-manifest/1", "uri": "/x", "fingerprint": "x", "shard": {"index": 1}}, "shard"),
        ({"format": "dataflux-manifest/1", "objects": []}, "damaged"),
        ({"format": "dataflux-manifest/1", "objects": [["a", 1]]}, "damaged"),
        ("{'format': 'dataflux-manifest/1'}", "render_template_as_native_obj"),
        ([{"format": "dataflux-manifest/1"}], "expand"),
        (None, "NoneType"),
        ("relative/path", "relative path"),
    ],
)
def test_what_is_no_reference_is_refused_with_a_way_out(reference: object, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        Manifest.from_reference(reference)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["objects"].pop(),
        lambda r: r["objects"][3].__setitem__(2, 7),
        lambda r: r["objects"][3].__setitem__(1, 7),
        lambda r: r["objects"].reverse(),
        lambda r: r["objects"][3].__setitem__(0, None),
        lambda r: r["objects"][3].pop(),
        lambda r: r["objects"][3].__setitem__(3, -1),
    ],
)
def test_inline_objects_that_were_changed_are_refused(change) -> None:
    reference = inline_manifest().reference()
    change(reference)
    with pytest.raises(InvalidRequestError, match="objects"):
        Manifest.from_reference(reference)


def test_a_shard_beyond_the_end_is_refused(tmp_path: Path) -> None:
    reference = publish_rows(tmp_path, [numbered(20)]).shards(2)[1].reference()
    reference["shard"] = {**reference["shard"], "start": 15}
    with pytest.raises(InvalidRequestError, match="names rows up to"):
        Manifest.from_reference(reference)


def test_a_listing_too_large_for_xcom_ends_as_soon_as_it_is_known_and_names_the_parameter() -> None:
    collector = InlineCollector()
    appended = 0

    def append_until_it_is_refused() -> None:
        nonlocal appended
        while True:
            collector.append(numbered(500, start=appended))
            appended += 500

    with pytest.raises(ManifestTooLargeError, match="manifest_uri"):
        append_until_it_is_refused()
    assert 1000 <= appended <= 3000
    assert len(json.dumps(inline("a-bucket", [""], [collector.rows()], listed_at=LISTED_AT, stats={}).reference())) < (
        INLINE_MAX_BYTES + 1000
    )


def test_names_of_many_bytes_count_as_xcom_writes_them() -> None:
    rows = batch([f"{'語' * 300}{number:05d}" for number in range(200)])  # 6 bytes each as \\uXXXX
    with pytest.raises(ManifestTooLargeError):
        InlineCollector().append(rows)


def test_batches_of_an_inline_listing_may_come_in_any_order() -> None:
    manifest = inline("a-bucket", [""], [numbered(5, start=5), numbered(0), numbered(5)], listed_at=LISTED_AT, stats={})
    assert [row.name for row in manifest] == numbered(10)["name"].to_pylist()
