"""Listings of name ranges are joined only if they are one listing in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifest_samples import LISTED_AT, batch, numbered, publish_rows

from airflow_dataflux.core.errors import ManifestError
from airflow_dataflux.core.manifest import Manifest, inline, join_ranges
from airflow_dataflux.core.manifest.index import build_index
from airflow_dataflux.core.manifest.tiling import prove_tiling
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
    prove_tiling(listings(data.draw(st.permutations(ranges))))
    picked = data.draw(st.sampled_from(ranges))
    with pytest.raises(ManifestError, match="listed twice"):
        prove_tiling(listings([*ranges, picked]))
    if len(ranges) > 1:
        with pytest.raises(ManifestError, match="is missing"):
            prove_tiling(listings([names for names in ranges if names != picked]))


@given(points=st.sets(names, min_size=1, max_size=8), moved=names, data=st.data())
def test_a_range_of_another_division_is_found(points, moved, data) -> None:
    ranges = NameRange().divided(sorted(points))
    at = data.draw(st.integers(0, len(ranges) - 1))
    other = NameRange(ranges[at].start, moved)
    if other in (ranges[at], NameRange("", None)) or other.is_empty:
        return
    with pytest.raises(ManifestError, match=r"listed twice|is missing"):
        prove_tiling(listings([*ranges[:at], other, *ranges[at + 1 :]]))


def test_a_whole_listing_is_a_division_of_one() -> None:
    prove_tiling(listings([NameRange()]))
    prove_tiling([Listing(None)])
    with pytest.raises(ManifestError, match="listed twice"):
        prove_tiling([Listing(None), Listing(None)])


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
        prove_tiling([first, other])
    prove_tiling([first, Listing(NameRange("m"), ("a/",), filters={"min_bytes": None}, workers=2)])
    prove_tiling([first, Listing(NameRange("m"), ("a/",))])


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
    made = inline("b", [""], [batch(["a"])], listed_at=LISTED_AT, stats={}, name_range=NameRange("", "b"))
    reference = made.reference()
    assert reference["name_range"] == {"start": "", "end": "b"}
    assert Manifest.from_reference(reference).name_range == NameRange("", "b")


def test_an_index_without_a_range_is_one_of_all_names() -> None:
    made = build_index(bucket="b", prefixes=[""], parts=[], listed_at=LISTED_AT, stats={}, request={})
    assert made.name_range is None
