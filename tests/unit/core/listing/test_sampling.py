"""Names are divided into ranges that tile everything and are about even, from samples of any shape of names."""

from __future__ import annotations

import bisect
import functools
import itertools
import os
import random
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core.arrow import ROW_SCHEMA
from airflow_dataflux.core.errors import UnavailableError
from airflow_dataflux.core.gcs.store import Page, PageRequest
from airflow_dataflux.core.listing.sampling import Stretch, even_boundaries, sampled_ranges
from airflow_dataflux.core.namerange import NameRange

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "..", "benchmarks"))

from dataflux_bench.namesets import names_of

NAMES = {
    "flat": [f"img_{n:08}.jpg" for n in range(60_000)],
    "deep": [f"v1/day={d:02}/hour={h:02}/part-{n:05}.parquet" for d in range(30) for h in range(24) for n in range(80)],
    "skewed": [f"a/{n:06}" for n in range(50_000)] + [f"{c}/{n}" for c in "bcdefgh" for n in range(500)],
    "few": [f"{n}" for n in range(7)],
    "none": [],
}


class PagedNames:
    """A store that only lists, from names in memory, and counts."""

    def __init__(self, names: list[str]) -> None:
        self.names = sorted(names)
        self.requests = 0

    def list_page(self, bucket: str, request: PageRequest) -> Page:
        self.requests += 1
        if request.delimiter is not None:
            return self.directories(request)
        low = bisect.bisect_left(self.names, max(request.start, request.prefix))
        if request.page_token is not None:
            low = bisect.bisect_right(self.names, request.page_token)
        found = []
        for name in self.names[low : low + (request.max_results or 1000)]:
            if not name.startswith(request.prefix) or (request.end is not None and name >= request.end):
                break
            found.append(name)
        following = self.names[low + len(found) : low + len(found) + 1]
        more = bool(found and following) and following[0].startswith(request.prefix)
        more = more and (request.end is None or following[0] < request.end)
        columns = [
            pa.array(found, pa.string())
            if field.name == "name"
            else pa.array([0] * len(found), pa.int64()).cast(field.type)
            if not pa.types.is_string(field.type)
            else pa.array(["x"] * len(found), field.type)
            for field in ROW_SCHEMA
        ]
        return Page(rows=pa.record_batch(columns, schema=ROW_SCHEMA), next_page_token=found[-1] if more else None)

    def directories(self, request: PageRequest) -> Page:
        below = (name for name in self.names if name.startswith(request.prefix) and name >= request.start)
        inside = (name for name in below if request.end is None or name < request.end)
        cuts = ((name, name.find("/", len(request.prefix)) + 1) for name in inside)
        found = sorted({name[:cut] for name, cut in cuts if cut})
        rows = pa.RecordBatch.from_pylist([], schema=ROW_SCHEMA)
        return Page(rows=rows, next_page_token=None if len(found) <= 1000 else "more", directories=tuple(found[:1000]))


def counts(names: list[str], ranges: list[NameRange]) -> list[int]:
    ends = [0, *(bisect.bisect_left(names, each.start) for each in ranges[1:]), len(names)]
    return [high - low for low, high in itertools.pairwise(ends)]


@pytest.mark.parametrize("style", NAMES)
@pytest.mark.parametrize("count", [1, 4, 16])
def test_ranges_of_a_sample_tile_all_names(style: str, count: int) -> None:
    store = PagedNames(NAMES[style])
    ranges = sampled_ranges("b", [""], count, store=store)  # type: ignore[arg-type]
    assert ranges[0].start == ""
    assert ranges[-1].end is None
    assert [one.end for one in ranges[:-1]] == [other.start for other in ranges[1:]]
    assert not any(names.is_empty or "\0" in names.start for names in ranges)
    assert len(ranges) <= count
    assert store.requests < 250


@pytest.mark.parametrize("style", ["flat", "deep", "skewed"])
def test_ranges_of_a_sample_are_about_even(style: str) -> None:
    ranges = sampled_ranges("b", [""], 8, store=PagedNames(NAMES[style]))  # type: ignore[arg-type]
    found = counts(NAMES[style], ranges)
    assert len(found) == 8
    assert max(found) < 2.5 * len(NAMES[style]) / 8, found


@pytest.mark.parametrize("name", ["librispeech", "shards", "nuscenes", "crawl", "app-logs", "mixed"])
def test_ranges_of_a_sample_of_names_that_people_have_are_about_even(name: str) -> None:
    """Before names that were listed were remembered, one of 32 ranges held up to half of all objects."""
    store = PagedNames(names_of(name, 60_000))
    found = counts(store.names, sampled_ranges("b", [""], 32, store=store))  # type: ignore[arg-type]
    assert max(found) < 2.5 * len(store.names) / 32, found


def test_a_sample_expects_what_it_has_not_listed_to_be_as_dense_as_what_it_has() -> None:
    """An estimate of 0 for each rest made ranges as even as their number of names is: not at all."""
    draw = random.Random(1)
    store = PagedNames(sorted(f"{draw.getrandbits(64):016x}" for _ in range(200_000)))
    found = counts(store.names, sampled_ranges("b", [""], 8, store=store))  # type: ignore[arg-type]
    assert max(found) < 1.5 * len(store.names) / 8, found


def test_only_what_is_below_the_prefixes_is_sampled() -> None:
    ranges = sampled_ranges("b", ["a/", "c/"], 4, store=PagedNames(NAMES["skewed"]))  # type: ignore[arg-type]
    inside = [name for name in NAMES["skewed"] if name.startswith(("a/", "c/"))]
    assert max(counts(inside, ranges)) < 2.5 * len(inside) / 4


def test_a_failing_request_ends_the_sample() -> None:
    class Failing(PagedNames):
        def list_page(self, bucket: str, request: PageRequest) -> Page:
            if self.requests > 10:
                raise UnavailableError("no", operation="list", resource="b", status=503, reason="")
            return super().list_page(bucket, request)

    with pytest.raises(UnavailableError):
        sampled_ranges("b", [""], 8, store=Failing(NAMES["flat"]))  # type: ignore[arg-type]


letters = "abcdefghijklmnopqrstuvwxyz"


def points_in(low: str, most: int, wanted: int) -> list[str]:
    return [f"{low}{n:03}" for n in range(1, min(wanted, most) + 1)]


@given(weights=st.lists(st.floats(0, 1e9), min_size=1, max_size=25), count=st.integers(1, 40), data=st.data())
def test_boundaries_increase_and_are_inside_the_stretches(weights: list[float], count: int, data) -> None:
    stretches = [
        Stretch(
            names=NameRange(letters[n], letters[n + 1]),
            objects=weight,
            divide=functools.partial(points_in, letters[n], data.draw(st.sampled_from([0, 1, 900]))),
        )
        for n, weight in enumerate(weights)
    ]
    found = even_boundaries(data.draw(st.permutations(stretches)), count)
    assert len(found) < count or not found
    assert found == sorted(set(found))
    assert all("a" <= name <= letters[len(weights)] for name in found)


def test_boundaries_of_what_was_counted_are_exact() -> None:
    stretches = [Stretch(names=NameRange(c, chr(ord(c) + 1)), objects=10, divide=lambda _: ()) for c in "abcdefgh"]
    assert even_boundaries(stretches, 4) == ["c", "e", "g"]
