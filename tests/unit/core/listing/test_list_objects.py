"""Whole listings of buckets in memory, compared with what these hold; by HTTP in tests/integration/listing."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from airflow_dataflux.core.config import Filters, ListRequest
from airflow_dataflux.core.gcs.http_store import open_store
from airflow_dataflux.core.gcs.memory import MemoryStores
from airflow_dataflux.core.gcs.store import ObjectVersion, Page, PageRequest, Store, StoreOptions
from airflow_dataflux.core.listing import list_objects
from airflow_dataflux.core.listing.cursor import Cursor
from airflow_dataflux.core.listing.filters import RowFilter
from airflow_dataflux.core.listing.messages import PageListed
from airflow_dataflux.core.listing.sampling import sampled_ranges
from airflow_dataflux.core.listing.seeds import Seeds
from airflow_dataflux.core.listing.stream import list_range
from airflow_dataflux.core.manifest import Manifest, join_ranges
from airflow_dataflux.core.namerange import NameRange
from airflow_dataflux.core.runtime.tokens import AnonymousTokens, TokenSource
from airflow_dataflux.testing.synthetic_names import segments_of

STYLES = ["flat", "classes", "deep", "uuid", "unicode", "timestamps"]
COUNT = 6_000
FEW = ("a/", "a/1.jpg", "a/2.png", "b/1.jpg", "b/20.jpg", "c/😀.jpg", "日本/x")


def names_in(style: str) -> list[str]:
    return [
        segment.name(index).decode()
        for segment in segments_of(style, COUNT, seed=0)
        for index in range(segment.first, segment.first + segment.count)
    ]


class DistantStores(MemoryStores):
    """Buckets whose pages take a moment: from memory, one stream may have them all before another one can steal."""

    def open(self, tokens: TokenSource, options: StoreOptions) -> Store:
        """Open a store that waits for each page."""
        store = super().open(tokens, options)
        list_page = store.list_page

        def listed(bucket: str, request: PageRequest) -> Page:
            time.sleep(0.003)
            return list_page(bucket, request)

        store.list_page = listed  # type: ignore[method-assign]
        return store


@pytest.fixture(scope="module")
def stores() -> MemoryStores:
    """Buckets of 60 pages each, one of a few odd names, and an empty one. Tests that write make their own."""
    made = DistantStores(page_rows=100)
    for style in STYLES:
        fill(made, f"many-{style}", dict.fromkeys(names_in(style), b""))
    fill(made, "few", {name: b"" if name.endswith("/") else name.encode() for name in FEW})
    fill(made, "empty", {})
    return made


@pytest.fixture
def store(stores: MemoryStores) -> Iterator[Store]:
    opened = open_store(stores, AnonymousTokens(), connections=4)
    yield opened
    opened.close()


def fill(stores: MemoryStores, bucket: str, objects: dict[str, bytes]) -> None:
    stores.create_bucket(bucket)
    store = open_store(stores, AnonymousTokens(), connections=1)
    for name, data in objects.items():
        store.upload(bucket, name, data, content_type="text/plain")
    store.close()


def fetch(stores: MemoryStores, bucket: str, **request: object) -> Manifest:
    return list_objects(
        ListRequest(bucket=bucket, **request),  # type: ignore[arg-type]
        store_config=stores,
        tokens=AnonymousTokens(),
        isolated=False,
    )


def names_of(manifest: Manifest) -> list[str]:
    return [row.name for row in manifest.rows()]


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_listed_as_the_bucket_holds_it(stores: MemoryStores, tmp_path: Path, style: str) -> None:
    manifest = fetch(stores, f"many-{style}", manifest_uri=str(tmp_path), workers=2, streams=32)
    expected = sorted(names_in(style), key=str.encode)
    assert names_of(manifest) == expected
    assert len(manifest) == len(set(expected)) == COUNT
    assert manifest.stats["steals"] > 0


def test_an_empty_bucket_gives_an_empty_manifest(stores: MemoryStores, tmp_path: Path) -> None:
    assert len(fetch(stores, "empty")) == 0
    assert len(fetch(stores, "empty", manifest_uri=str(tmp_path))) == 0
    assert len(Manifest.open(str(tmp_path))) == 0


def test_overlapping_prefixes_are_listed_once(stores: MemoryStores) -> None:
    manifest = fetch(stores, "few", prefixes=("b/2", "b/", "日", "a/"))
    assert names_of(manifest) == ["a/1.jpg", "a/2.png", "b/1.jpg", "b/20.jpg", "日本/x"]
    assert manifest.prefixes == ("a/", "b/", "日")


def test_filters_go_to_the_store_or_are_counted(stores: MemoryStores) -> None:
    glob = fetch(stores, "few", filters=Filters(match_glob="**.jpg"))
    assert names_of(glob) == ["a/1.jpg", "b/1.jpg", "b/20.jpg", "c/😀.jpg"]
    small = fetch(stores, "few", filters=Filters(max_bytes=7, include_placeholders=True))
    assert names_of(small) == ["a/", "a/1.jpg", "a/2.png", "b/1.jpg"]
    assert small.stats["dropped"] == {"max_bytes": 3}


def test_times_divide_a_bucket_without_loss() -> None:
    stores = MemoryStores(page_rows=100)
    fill(stores, "timed", {f"{n:04}": b"" for n in range(500)})
    middle = datetime.now(UTC)
    store = open_store(stores, AnonymousTokens(), connections=1)
    for n in range(500, 900):
        store.upload("timed", f"{n:04}", b"", content_type="text/plain")
    early = fetch(stores, "timed", filters=Filters(updated_before=middle))
    late = fetch(stores, "timed", filters=Filters(updated_after=middle))
    assert names_of(early) == [f"{n:04}" for n in range(500)]
    assert names_of(late) == [f"{n:04}" for n in range(500, 900)]
    assert early.stats["dropped"] == {"updated_before": 400}


def test_a_large_bucket_of_which_few_rows_are_kept_is_inline(stores: MemoryStores) -> None:
    manifest = fetch(stores, "many-classes", filters=Filters(match_glob="train/class-0000003/**"), streams=8)
    assert len(manifest) == 1000
    assert manifest.uri is None


def test_a_seed_starts_all_ranges_and_changes_nothing(stores: MemoryStores, tmp_path: Path) -> None:
    seed = fetch(stores, "many-uuid", manifest_uri=str(tmp_path / "seed"))
    seeded = {"seed_manifest_uri": str(tmp_path / "seed"), "streams": 16}
    again = fetch(stores, "many-uuid", manifest_uri=str(tmp_path / "b"), **seeded)
    other = fetch(stores, "many-flat", manifest_uri=str(tmp_path / "c"), **seeded)
    assert again.fingerprint == seed.fingerprint
    assert names_of(other) == sorted(names_in("flat"))


def test_a_seed_tells_how_much_to_expect_only_of_the_same_request(
    stores: MemoryStores, store: Store, tmp_path: Path
) -> None:
    filters = Filters(exclude_glob=("**7**",))
    seed = fetch(stores, "many-flat", manifest_uri=str(tmp_path / "seed"), filters=filters, streams=4)
    same = ListRequest(
        bucket="many-flat", manifest_uri=str(tmp_path / "m"), filters=filters, seed_manifest_uri=seed.uri, streams=9
    )
    assert len(seed) < COUNT
    assert Seeds.of(same, store).listed == COUNT, "progress counts before the filters, too"
    for other in (
        replace(same, filters=Filters()),
        replace(same, prefixes=("a",)),
        replace(same, name_range=NameRange("a")),
        replace(same, bucket="many-uuid"),
        replace(same, seed_manifest_uri=None),
    ):
        assert Seeds.of(other, store).listed is None


@pytest.mark.parametrize("damage", ["missing", "cut", "newer", "part lost", "no bucket"])
def test_a_seed_that_cannot_be_used_is_a_warning_and_the_bucket_is_listed_without_it(
    stores: MemoryStores, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    seed = tmp_path / "seed"
    uri = str(seed)
    fetch(stores, "many-flat", manifest_uri=uri)
    index = seed / "manifest.json"
    if damage == "missing":
        index.unlink()
    elif damage == "cut":
        index.write_bytes(index.read_bytes()[:1000])
    elif damage == "newer":
        index.write_bytes(index.read_bytes().replace(b"dataflux-manifest/1", b"dataflux-manifest/2"))
    elif damage == "part lost":
        for part in seed.glob("*.parquet"):
            part.unlink()
    else:
        uri = "gs://no-such-bucket/seed"
    streams = 4096 if damage == "part lost" else 16  # as many as make it read names from the parts
    manifest = fetch(stores, "many-flat", manifest_uri=str(tmp_path / "m"), seed_manifest_uri=uri, streams=streams)
    assert len(manifest) == COUNT
    assert "seed manifest cannot be used" in caplog.text


@pytest.mark.parametrize("style", STYLES)
def test_listings_of_sampled_name_ranges_are_together_the_listing(
    stores: MemoryStores, store: Store, tmp_path: Path, style: str
) -> None:
    bucket = f"many-{style}"
    ranges = sampled_ranges(bucket, [""], 5, store=store)
    assert len(ranges) == 5
    assert store.counts().class_a < 120
    pieces = [
        fetch(stores, bucket, manifest_uri=str(tmp_path / str(number)), name_range=names, streams=16)
        for number, names in enumerate(ranges)
    ]
    joined = join_ranges(pieces, manifest_uri=str(tmp_path))
    assert names_of(joined) == sorted(names_in(style), key=str.encode)
    whole = fetch(stores, bucket, manifest_uri=str(tmp_path / "whole"), streams=16)
    assert joined.fingerprint == whole.fingerprint


@pytest.mark.parametrize("style", STYLES)
def test_sampled_name_ranges_are_fairly_even(store: Store, style: str) -> None:
    names = sorted(name.encode() for name in names_in(style))

    def largest() -> int:
        starts = [range_.start.encode() for range_ in sampled_ranges(f"many-{style}", [""], 5, store=store)]
        places = [bisect_left(names, start) for start in starts]
        return max(after - before for before, after in pairwise([*places, len(names)]))

    # A sample depends on the order of the answers: beside six busy processes, 3 of 60 were uneven.
    assert min(largest() for _ in range(3)) < 0.7 * len(names)


def test_a_range_that_is_halted_tells_that_it_has_more_names(store: Store) -> None:
    class Sink:
        def append(self, rows: object) -> None:
            cursor.halt()

        def finish(self) -> list[object]:
            return []

    cursor = Cursor(NameRange(), "")
    events: list[object] = []
    list_range(
        1, cursor, store, "many-flat", row_filter=RowFilter(Filters()), sink=Sink(), send=events.append  # type: ignore[arg-type]
    )  # fmt: skip
    pages = [event for event in events if isinstance(event, PageListed)]
    assert [page.more for page in pages] == [True, True]  # the second was asked for after the halt


def test_a_name_range_and_prefixes_give_the_names_in_both(stores: MemoryStores, tmp_path: Path) -> None:
    everything = names_of(fetch(stores, "few"))
    for start, end in [("", "b/"), ("a/2", "b/2"), ("b/", None), ("x", "y"), ("c/😀.jpg", "日本/")]:
        names = NameRange(start, end)
        for prefixes in [("",), ("a/", "b/"), ("日",)]:
            expected = [name for name in everything if name in names and name.startswith(prefixes)]
            inline = fetch(stores, "few", name_range=names, prefixes=prefixes)
            assert (names_of(inline), inline.name_range) == (expected, names)
    parted = fetch(stores, "few", name_range=NameRange("x", "y"), prefixes=("a/",), manifest_uri=str(tmp_path / "m"))
    assert len(Manifest.open(str(tmp_path / "m"))) == len(parted) == 0


def test_a_manifest_below_the_listed_prefix_does_not_list_itself() -> None:
    stores = MemoryStores()
    fill(stores, "own", {f"d/{n:04}": b"" for n in range(3000)})
    listed = [fetch(stores, "own", manifest_uri="gs://own/manifests/x", report=True) for _ in range(3)]
    assert len({each.fingerprint for each in listed}) == 1
    last = listed[-1]
    assert len(last) == 3000
    assert last.stats["dropped"]["manifests"] >= 3  # index, report, a part
    assert last.stats["listed"] == 3000 + last.stats["dropped"]["manifests"]


def test_the_manifests_of_mapped_listings_are_in_none_of_them() -> None:
    stores = MemoryStores()
    fill(stores, "mapped", {f"{letter}/{n}": b"x" for letter in "az" for n in range(20)})
    halves = [NameRange("", "m"), NameRange("m", None)]
    for _ in range(2):
        listed = [
            fetch(stores, "mapped", manifest_uri=f"gs://mapped/joined/{number}", name_range=half)
            for number, half in enumerate(halves)
        ]
        store = open_store(stores, AnonymousTokens(), connections=4)
        joined = join_ranges(listed, manifest_uri="gs://mapped/joined", store=store)
        assert [row.name[0] for row in joined.rows()] == ["a"] * 20 + ["z"] * 20
        store.close()


def test_composites_of_other_tasks_change_no_fingerprint() -> None:
    stores = MemoryStores()
    fill(stores, "shared", {f"d/{n}": b"x" for n in range(20)})
    before = fetch(stores, "shared")
    attempt = "0011223344556677"
    store = open_store(stores, AnonymousTokens(), connections=1)
    marks = {"dataflux-composite": "1", "dataflux-attempt": attempt}
    one = store.stat("shared", "d/1").row
    sources = [ObjectVersion(name=one.name, generation=one.generation)]
    for prefix in ("dataflux-composed-objects/", "my/own/"):
        name = f"{prefix}dag/run/task/-1/1/{attempt}-0-0"
        store.compose("shared", name, sources, metadata=marks, storage_class="STANDARD")
    store.upload("shared", f"my/a/b/c/1/2/{attempt}-0-0", b"precious", content_type="text/plain")
    after = fetch(stores, "shared")
    assert after.stats["dropped"] == {"composites": 2}
    assert names_of(after) == [*names_of(before), f"my/a/b/c/1/2/{attempt}-0-0"]
