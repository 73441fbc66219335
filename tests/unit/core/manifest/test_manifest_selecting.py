"""Selections and splits: the right rows, whole samples, and the same ones again."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_samples import LISTED_AT, batch, publish_rows

from airflow_dataflux.core.errors import (
    EmptyListingError,
    InvalidRequestError,
    ManifestError,
    ManifestTooLargeError,
    SkippedError,
)
from airflow_dataflux.core.manifest import Manifest, inline

SPLITS = {"train": 0.8, "val": 0.1, "test": 0.1}
STEM = r"^(.*)\.[^./]+$"


def manifest_of(names: list[str], sizes: list[int] | None = None) -> Manifest:
    return inline("a-bucket", [""], [batch(sorted(names), sizes=sizes)], listed_at=LISTED_AT, stats={})


def names_of(manifest: Manifest) -> list[str]:
    return [row.name for row in manifest]


def photos(count: int, *, start: int = 0) -> list[str]:
    """`count` samples of an image and its label, in three classes."""
    return [
        f"{('cat', 'dog', 'emu')[number % 3]}/{number:05d}.{kind}"
        for number in range(start, start + count)
        for kind in ("jpg", "json")
    ]


@pytest.fixture
def large(tmp_path: Path) -> Manifest:
    return publish_rows(tmp_path / "all", [batch(sorted(photos(1500)))])


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"include_glob": "a/*"}, ["a/1.jpg", "a/2.png"]),
        ({"include_glob": ("a/*", "c.txt")}, ["a/1.jpg", "a/2.png", "c.txt"]),
        ({"exclude_glob": "**.png"}, ["a/1.jpg", "b/3.jpg", "c.txt"]),
        ({"include_glob": "**/*", "exclude_glob": ["**.png", "b/*"]}, ["a/1.jpg", "c.txt"]),
        ({"match_regex": r"\d\.jpg$"}, ["a/1.jpg", "b/3.jpg"]),
        ({"match_regex": r"JPG"}, []),
        ({"min_bytes": 102}, ["b/3.jpg", "c.txt"]),
        ({"max_bytes": 100}, ["a/1.jpg"]),
        ({"storage_classes": ["NO_SUCH"]}, []),
        ({"updated_after": datetime(2100, 1, 1, tzinfo=UTC)}, []),
        ({"updated_before": LISTED_AT + timedelta(days=36500)}, ["a/1.jpg", "a/2.png", "b/3.jpg", "c.txt"]),
    ],
)
def test_filters_take_what_they_say(asked: dict, kept: list[str]) -> None:
    manifest = manifest_of(["a/1.jpg", "a/2.png", "b/3.jpg", "c.txt"], sizes=[100, 101, 102, 103])
    selected = manifest.select(**asked)
    assert names_of(selected) == kept
    assert [row for row in manifest if row.name in kept] == list(selected), "rows stay pinned"
    assert selected.stats["considered"] == 4
    assert sum(selected.stats["dropped"].values()) == 4 - len(kept)


def test_placeholders_are_kept_because_the_listing_has_decided_about_them() -> None:
    assert names_of(manifest_of(["a/", "a/1"], sizes=[0, 1]).select(max_bytes=0)) == ["a/"]


@pytest.mark.parametrize(
    "asked",
    [
        {"splits": SPLITS},
        {"splits": SPLITS, "group_by": STEM},
        {"splits": SPLITS, "group_by": STEM, "sample": 0.5, "class_by": "^([^/]+)/"},
        {"splits": SPLITS, "group_by": STEM, "per_group": 100, "class_by": "^([^/]+)/"},
        {"splits": SPLITS, "sample": 700},
    ],
)
def test_splits_share_the_samples_without_loss_or_repetition_and_the_same_again(
    large: Manifest, tmp_path: Path, asked: dict
) -> None:
    splits = large.split(**asked, manifest_uri=str(tmp_path / "splits"))
    assert list(splits) == list(SPLITS)
    names = [name for split in splits.values() for name in names_of(split)]
    assert len(names) == len(set(names))
    whole = large.select(**{**asked, "splits": None}, manifest_uri=str(tmp_path / "whole"))
    assert sorted(names) == names_of(whole)
    assert splits["train"].uri == f"file://{tmp_path}/splits/train"
    assert Manifest.open(f"{tmp_path}/splits/val").fingerprint == splits["val"].fingerprint
    again = large.split(**asked, manifest_uri=str(tmp_path / "again"))
    assert {name: one.fingerprint for name, one in again.items()} == {
        name: one.fingerprint for name, one in splits.items()
    }
    for name, fraction in SPLITS.items():
        assert abs(len(splits[name]) / len(whole) - fraction) < 0.08
    other = large.split(**asked, seed=1, manifest_uri=str(tmp_path / "other"))
    assert other["train"].fingerprint != splits["train"].fingerprint


@given(
    st.lists(st.text("ab1./", min_size=1, max_size=6), min_size=1, max_size=40, unique=True),
    st.sampled_from([None, STEM, r"(\d)", r"^([^/]*)/"]),
    st.integers(0, 3),
    st.one_of(st.none(), st.integers(1, 8), st.floats(0.05, 1.0)),
)
@settings(max_examples=40)
def test_samples_are_never_parted(
    names: list[str], group_by: str | None, seed: int, sample: float | int | None
) -> None:
    splits = manifest_of(names).split(SPLITS, group_by=group_by, seed=seed, sample=sample)

    def key(name: str) -> tuple[str, str]:
        found = re.search(group_by, name) if group_by else None
        return ("key", found[1]) if found and found[1] is not None else ("name", name)

    where = {name: split for split, manifest in splits.items() for name in names_of(manifest)}
    by_sample: dict[tuple[str, str], set[str | None]] = {}
    for name in names:
        by_sample.setdefault(key(name), set()).add(where.get(name))
    assert all(len(places) == 1 for places in by_sample.values())
    taken = [places for places in by_sample.values() if places != {None}]
    if isinstance(sample, int):
        assert len(taken) == min(sample, len(by_sample))
    if sample is None:
        assert len(taken) == len(by_sample)
    assert sum(manifest.stats["samples"] for manifest in splits.values()) == len(taken)


def test_a_bucket_that_grows_moves_no_sample_to_another_split(tmp_path: Path) -> None:
    before = publish_rows(tmp_path / "before", [batch(sorted(photos(1000)))])
    after = publish_rows(tmp_path / "after", [batch(sorted(photos(1100)))])
    asked = {"splits": SPLITS, "group_by": STEM, "sample": 0.7}
    first = {n: set(names_of(m)) for n, m in before.split(**asked, manifest_uri=str(tmp_path / "1")).items()}
    second = {n: set(names_of(m)) for n, m in after.split(**asked, manifest_uri=str(tmp_path / "2")).items()}
    assert all(first[name] <= second[name] for name in SPLITS)
    assert sum(map(len, second.values())) > sum(map(len, first.values()))


def test_classes_are_counted_and_at_most_so_many_of_each_are_taken(large: Manifest, tmp_path: Path) -> None:
    asked = {"group_by": STEM, "class_by": "^([^/]+)/"}
    splits = large.split(SPLITS, **asked, per_group=300, manifest_uri=str(tmp_path / "s"))
    for split in splits.values():
        counted = Counter(name.partition("/")[0] for name in names_of(split) if name.endswith(".json"))
        assert split.stats["classes"] == counted
        assert split.stats["samples"] == counted.total()
    together = Counter()
    for split in splits.values():
        together.update(split.stats["classes"])
    assert together == {"cat": 300, "dog": 300, "emu": 300}


@pytest.mark.parametrize("asked", [{}, {"sample": 0.5}, {"sample": 300}, {"per_group": 50}])
def test_classes_without_groups_are_classes_of_objects(large: Manifest, tmp_path: Path, asked: dict) -> None:
    selected = large.select(class_by="^(cat|dog)/", **asked, manifest_uri=str(tmp_path / "s"))
    kinds = Counter(re.sub("emu", "", name.partition("/")[0]) for name in names_of(selected))
    assert selected.stats["classes"] == kinds
    if "per_group" in asked:
        assert set(kinds.values()) == {50}


def test_a_sample_of_two_classes_is_an_error_that_names_them() -> None:
    manifest = manifest_of(["images/1.jpg", "labels/1.json", "labels/2.json"])
    with pytest.raises(InvalidRequestError, match=r"'images/1.jpg' and 'labels/1.json' are one sample.*'images'"):
        manifest.select(group_by=r"(\d+)\.", class_by=r"^(\w+)/")
    assert len(manifest.select(group_by=r"(\d+)\.", class_by=r"(\d+)")) == 3


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"group_by": "("}, "no regular expression"),
        ({"group_by": "a"}, "exactly one group"),
        ({"class_by": "(a)(b)"}, "exactly one group"),
        ({"match_regex": "("}, "cannot be understood"),
        ({"include_glob": "[a"}, "no glob"),
        ({"sample": 0.0}, "sample as a fraction"),
        ({"sample": 1.5}, "sample as a fraction"),
        ({"sample": 0}, "sample as a number"),
        ({"per_group": 3}, "class_by"),
        ({"splits": {}}, "splits must be"),
        ({"splits": "train"}, "fractions by name"),
        ({"sample": "much"}, "a fraction such as"),
        ({"splits": {"a": 0.5}}, "must add up to 1"),
        ({"splits": {"../a": 1.0}}, "part of a manifest's URI"),
        ({"splits": {"manifest.json": 1.0}}, "part of a manifest's URI"),
        ({"splits": {"a": -1, "b": 2}}, "above 0"),
        ({"min_bytes": 5, "max_bytes": 1}, "min_bytes"),
    ],
)
def test_what_cannot_be_meant_is_refused(asked: dict, says: str) -> None:
    manifest = manifest_of(["a"])
    with pytest.raises(InvalidRequestError, match=says):
        manifest.split(**asked) if "splits" in asked else manifest.select(**asked)


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="call split"):
        manifest_of(["a"]).select(splits=SPLITS)
    with pytest.raises(TypeError, match="no parameter bogus"):
        manifest_of(["a"]).select(bogus=1)


@pytest.mark.parametrize(("on_empty", "error"), [("fail", EmptyListingError), ("skip", SkippedError)])
def test_an_empty_selection_is_told_before_anything_is_published(
    large: Manifest, tmp_path: Path, on_empty: str, error: type[Exception]
) -> None:
    place = str(tmp_path / "s")
    before = large.select(sample=5, manifest_uri=place)
    with pytest.raises(error, match="none of its 3,000 objects"):
        large.select(include_glob="none/*", manifest_uri=place, on_empty=on_empty)
    assert Manifest.open(place).fingerprint == before.fingerprint
    assert len(large.select(include_glob="none/*")) == 0


def test_a_selection_does_not_replace_what_it_is_made_of(large: Manifest) -> None:
    with pytest.raises(InvalidRequestError, match="made of"):
        large.select(sample=0.5, manifest_uri=str(large.uri))
    assert len(list(large)) == 3000


def test_rows_that_do_not_fit_into_a_reference_ask_for_a_place(large: Manifest) -> None:
    with pytest.raises(ManifestTooLargeError, match="manifest_uri"):
        large.select()


def test_a_selection_of_a_shard_is_of_its_rows(large: Manifest) -> None:
    shard = large.shard(1, 40)
    assert names_of(shard.select(include_glob="**.json")) == [n for n in names_of(shard) if n.endswith(".json")]


def test_a_derived_manifest_stands_for_itself_and_says_what_it_was_made_of(large: Manifest, tmp_path: Path) -> None:
    made = large.select(include_glob="cat/**", sample=10, seed=1, manifest_uri=str(tmp_path / "cats"))
    publish_rows(tmp_path / "all", [batch(["x"])], prefix="later")
    opened = Manifest.open(str(tmp_path / "cats"))
    assert len(list(opened)) == 10
    assert opened.request == {
        "selected_from": {"uri": large.uri, "fingerprint": large.fingerprint},
        "selection": {"include_glob": ["cat/**"], "sample": 10, "seed": 1},
        "class_counts": {},
    }
    assert (made.bucket, made.prefixes, made.listed_at) == (large.bucket, large.prefixes, large.listed_at)


@given(st.lists(st.sets(st.text("abc", min_size=1, max_size=3), max_size=12), min_size=1, max_size=4))
def test_a_union_has_each_object_once(several: list[set[str]]) -> None:
    every = sorted(set().union(*several))
    rows = batch(every)

    def manifest(names: set[str]) -> Manifest:
        chosen = [rows.slice(every.index(name), 1) for name in sorted(names)]
        return inline("a-bucket", [""], chosen, listed_at=LISTED_AT, stats={})

    first, *others = map(manifest, several)
    assert names_of(first.union(*others)) == every


def test_a_union_of_large_manifests_is_written_and_equals_the_whole(large: Manifest, tmp_path: Path) -> None:
    splits = large.split(SPLITS, manifest_uri=str(tmp_path / "s"))
    whole = splits["val"].union(splits["train"], splits["test"], large.shard(0, 3), manifest_uri=str(tmp_path / "u"))
    assert whole.fingerprint == large.fingerprint


def test_a_union_refuses_two_generations_of_an_object_and_two_buckets(large: Manifest) -> None:
    one = manifest_of(["a", "b"])
    assert names_of(one.union(manifest_of(["a", "b"]))) == ["a", "b"]
    changed = inline("a-bucket", [""], [batch(["_", "a"])], listed_at=LISTED_AT, stats={})
    with pytest.raises(ManifestError, match="'a' is in two manifests with the generations"):
        one.union(changed)
    with pytest.raises(InvalidRequestError, match="different buckets"):
        one.union(inline("b-bucket", [""], [batch(["c"])], listed_at=LISTED_AT, stats={}))
