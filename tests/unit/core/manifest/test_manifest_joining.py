"""Joins copy nothing, and listings of name ranges are joined only if they are one listing in pieces."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifest_samples import LISTED_AT, batch, numbered, publish_rows

from airflow_dataflux.core.errors import InvalidRequestError, ManifestError
from airflow_dataflux.core.manifest import Manifest, inline, join, join_ranges
from airflow_dataflux.core.manifest.index import build_index
from airflow_dataflux.core.manifest.joining import prove_ranges_complete
from airflow_dataflux.core.namerange import NameRange


class Listing:
    """As much of a manifest as the proof looks at."""

    def __init__(self, name_range: NameRange | None, prefixes: tuple[str, ...] = ("",), **request: object) -> None:
        self.name_range, self.prefixes, self.request = name_range, prefixes, request


def listings(ranges: list[NameRange]) -> list[Listing]:
    return [Listing(names) for names in ranges]


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)


@given(points=st.sets(names, max_size=8), data=st.data())
def test_any_division_in_any_order_is_proven_and_none_with_a_range_missing_or_doubled(points, data) -> None:
    ranges = NameRange().divided(sorted(points))
    prove_ranges_complete(listings(data.draw(st.permutations(ranges))))
    picked = data.draw(st.sampled_from(ranges))
    with pytest.raises(ManifestError, match="listed twice"):
        prove_ranges_complete(listings([*ranges, picked]))
    if len(ranges) > 1:
        with pytest.raises(ManifestError, match="is missing"):
            prove_ranges_complete(listings([names for names in ranges if names != picked]))


@given(points=st.sets(names, min_size=1, max_size=8), moved=names, data=st.data())
def test_a_range_of_another_division_is_found(points, moved, data) -> None:
    ranges = NameRange().divided(sorted(points))
    at = data.draw(st.integers(0, len(ranges) - 1))
    other = NameRange(ranges[at].start, moved)
    if other in (ranges[at], NameRange("", None)) or other.is_empty:
        return
    with pytest.raises(ManifestError, match=r"listed twice|is missing"):
        prove_ranges_complete(listings([*ranges[:at], other, *ranges[at + 1 :]]))


def test_a_whole_listing_is_a_division_of_one() -> None:
    prove_ranges_complete(listings([NameRange()]))
    prove_ranges_complete([Listing(None)])
    with pytest.raises(ManifestError, match="listed twice"):
        prove_ranges_complete([Listing(None), Listing(None)])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Listing(NameRange("m"), ("b/",), filters={"min_bytes": None}), "different prefixes"),
        (Listing(NameRange("m"), ("a/",), filters={"min_bytes": 5}), r"different things \(filters\)"),
    ],
)
def test_listings_that_were_asked_for_different_things_are_refused(other: Listing, message: str) -> None:
    first = Listing(NameRange("", "m"), ("a/",), filters={"min_bytes": None}, workers=1, manifest_uri="one")
    with pytest.raises(ManifestError, match=message):
        prove_ranges_complete([first, other])
    prove_ranges_complete([first, Listing(NameRange("m"), ("a/",), filters={"min_bytes": None}, workers=2)])
    prove_ranges_complete([first, Listing(NameRange("m"), ("a/",))])


@pytest.mark.parametrize("nothing", [None, False, [], ()])
def test_a_filter_that_an_earlier_version_does_not_have_is_one_that_is_not_set(nothing: object) -> None:
    earlier = Listing(NameRange("", "m"), filters={"max_bytes": 0, "min_bytes": None})
    later = Listing(NameRange("m"), filters={"max_bytes": 0, "min_bytes": None, "new": nothing}, also_new=nothing)
    prove_ranges_complete([earlier, later])
    for other in ({"max_bytes": 0, "new": "x"}, {}):
        with pytest.raises(ManifestError, match=r"different things \(filters\)"):
            prove_ranges_complete([earlier, Listing(NameRange("m"), filters=other)])


def published(directory: Path, rows, names: NameRange) -> Manifest:
    return publish_rows(directory, [rows], name_range=names)


def test_joined_ranges_have_the_fingerprint_of_one_listing(tmp_path: Path) -> None:
    whole = publish_rows(tmp_path / "whole", [numbered(1000)])
    points = ["train/00000300.jpg", "train/00000700.jpg"]
    ranges = NameRange().divided(points)
    pieces = [numbered(300), numbered(400, start=300), numbered(300, start=700)]
    manifests = [
        published(tmp_path / "m" / str(number), rows, names)
        for number, (rows, names) in enumerate(zip(pieces, ranges, strict=True))
    ]
    again = [Manifest.from_reference(manifest.reference()) for manifest in manifests]
    assert [manifest.name_range for manifest in again] == ranges
    joined = join_ranges(again[::-1], manifest_uri=str(tmp_path / "m"))
    assert joined.fingerprint == whole.fingerprint
    assert joined.name_range is None
    assert (joined.stats["joined"], joined.stats["requests"]) == (3, 9)
    with pytest.raises(ManifestError, match=r"'train/00000300\.jpg', 'train/00000700\.jpg'\) is missing"):
        join_ranges([again[0], again[2]], manifest_uri=str(tmp_path / "n"))
    assert not (tmp_path / "n").exists()


def test_an_inline_range_keeps_its_range_through_a_reference() -> None:
    made = inline("bucket", [""], [batch(["a"])], listed_at=LISTED_AT, stats={}, name_range=NameRange("", "b"))
    reference = made.reference()
    assert reference["name_range"] == {"start": "", "end": "b"}
    assert Manifest.from_reference(reference).name_range == NameRange("", "b")


def test_an_index_without_a_range_is_one_of_all_names() -> None:
    made = build_index(bucket="b", prefixes=[""], parts=[], listed_at=LISTED_AT, stats={}, request={})
    assert made.name_range is None


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
