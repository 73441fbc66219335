"""Whatever happens in whatever order, a listing is complete, sorted and unique, and its invariants hold throughout."""

from __future__ import annotations

import statistics
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated_listing import SimulatedBucket, SimulatedListing, Timing

from airflow_dataflux.core.namerange import NameRange, after

_ALPHABETS = [
    "a",
    "ab",
    "0123456789",
    "abcdef0123456789",
    "a/b",
    "az~",
    "\x01\t ~é",
    "日本語テキスト",
    "z😀𝄞\ue000\ud7ff\U0010ffff",
    "aA0/_-.é中😀",
]


@st.composite
def buckets(draw: st.DrawFn) -> list[str]:
    names: set[str] = set()
    for _ in range(draw(st.integers(1, 3))):
        alphabet = draw(st.sampled_from(_ALPHABETS))
        prefix = draw(st.text(alphabet, max_size=8))
        if draw(st.booleans()):
            width = draw(st.integers(1, 8))
            names.update(f"{prefix}{number:0{width}d}" for number in range(draw(st.integers(0, 300))))
        else:
            names.update(
                prefix + tail for tail in draw(st.lists(st.text(alphabet, min_size=1, max_size=12), max_size=120))
            )
    return sorted(name for name in names if name)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=buckets(),
    page_cap=st.integers(1, 40),
    workers=st.integers(1, 4),
    streams=st.integers(1, 24),
    seed=st.integers(0, 2**20),
    jitter=st.sampled_from([0.0, 0.2, 0.95]),
    message_s=st.sampled_from([0.0, 0.001, 0.2]),
    deaths=st.lists(st.integers(1, 200), max_size=4),
    added=st.sampled_from([None, (1, 3), (40, 1), (90, 30)]),
    sparse=st.sampled_from([None, 2, 7, 1000]),
)
def test_every_object_is_listed_once_whatever_the_interleaving(
    names: list[str], page_cap: int, workers: int, streams: int, seed: int, jitter: float, message_s: float,
    deaths: list[int], added: tuple[int, int] | None, sparse: int | None,
) -> None:  # fmt: skip
    matches = None if sparse is None else lambda name: zlib.crc32(name.encode()) % sparse == 0
    bucket = SimulatedBucket(names, page_cap=page_cap, matches=matches)
    listing = SimulatedListing(
        bucket,
        workers=workers,
        streams=streams,
        seed=seed,
        deaths=deaths,
        added=added,
        timing=Timing(jitter=jitter, message_s=message_s),
    )
    result = listing.run()
    assert result.names == bucket.expected
    result.scheduler.ledger.prove()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names=buckets(), page_cap=st.integers(1, 20), seed=st.integers(0, 2**20), halt_after=st.integers(1, 60))
def test_a_halted_listing_and_the_listing_of_what_it_left_are_the_whole(
    names: list[str], page_cap: int, seed: int, halt_after: int
) -> None:
    bucket = SimulatedBucket(names, page_cap=page_cap)
    first = SimulatedListing(bucket, seed=seed, halt_after=halt_after, streams=4).run()
    second = SimulatedListing(bucket, seed=seed, waiting=first.leftover, examples=first.scheduler.known.examples).run()
    assert sorted(first.names + second.names) == bucket.expected
    assert not set(first.names) & set(second.names)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=buckets(), seed=st.integers(0, 2**20), prefixes=st.sets(st.text("ab0日", max_size=2), min_size=1, max_size=4)
)
def test_several_prefixes_are_listed_each_to_its_end(names: list[str], seed: int, prefixes: set[str]) -> None:
    from airflow_dataflux.core.namerange import distinct_prefixes

    bucket = SimulatedBucket(names, page_cap=7)
    result = SimulatedListing(bucket, prefixes=distinct_prefixes(prefixes), seed=seed).run()
    assert result.names == [name for name in bucket.names if name.startswith(tuple(prefixes))]


def test_steals_happen_and_are_refused_in_these_simulations() -> None:
    names = [f"data/{number:06d}" for number in range(4000)]
    totals = [
        SimulatedListing(SimulatedBucket(names, page_cap=20), seed=seed, timing=Timing(message_s=0.05))
        .run()
        .scheduler.totals
        for seed in range(10)
    ]
    assert sum(total.steals for total in totals) > 50
    assert sum(total.refused for total in totals) > 0


@pytest.mark.parametrize("moments", [[1], [5, 6, 7], [20, 60, 100]])
def test_deaths_happen_in_these_simulations_and_lose_nothing(moments: list[int]) -> None:
    names = [f"data/{number:06d}" for number in range(4000)]
    result = SimulatedListing(SimulatedBucket(names, page_cap=20), deaths=moments).run()
    assert result.deaths == len(moments)
    assert result.names == names


def test_streams_that_are_added_are_used() -> None:
    names = [f"data/{number:06d}" for number in range(20_000)]
    few, more = (
        SimulatedListing(SimulatedBucket(names, page_cap=20), workers=1, streams=4, added=added).run()
        for added in (None, (60, 28))
    )
    assert few.names == more.names == names
    assert more.seconds < few.seconds / 2


def test_one_stream_lists_a_bucket_without_any_probe_or_steal() -> None:
    names = [f"data/{number:06d}" for number in range(1000)]
    result = SimulatedListing(SimulatedBucket(names, page_cap=100), streams=1, workers=1).run()
    assert result.names == names
    assert result.requests == 10


def test_a_range_that_starts_after_a_name_does_not_list_that_name_again() -> None:
    names = [f"{number:03d}" for number in range(50)]
    waiting = [NameRange(after("010"), None)]
    result = SimulatedListing(SimulatedBucket(names, page_cap=7), waiting=waiting).run()
    assert result.names == names[11:]


_LONG_PREFIX = "datasets/images/v3/train/full-resolution/part-of-a-long-common-prefix/sample-"


@pytest.mark.parametrize(
    ("names", "most"),
    [
        pytest.param([f"{_LONG_PREFIX}{number:010d}.jpg" for number in range(100_000)], 2.2, id="a counter"),
        pytest.param(
            [
                f"{kind}/{number:010d}.txt".translate({ord("0") + digit: zero + digit for digit in range(10)})
                for part, (kind, zero) in enumerate(
                    [("a", 0x30), ("\u0431", 0x6F0), ("\u5b57", 0xFF10), ("🎈", 0x1D7CE)]
                )
                for number in range(25_000 * part, 25_000 * (part + 1))
            ],
            2.3,  # 2.25 measured; 2.1 before directories were asked for (docs/decisions/0010)
            id="a counter in four scripts",
        ),
    ],
)
def test_the_streams_of_a_small_listing_are_busy_most_of_the_time(names: list[str], most: float) -> None:
    """In virtual time, so that no machine is too slow: how much longer it takes than pages shared evenly would."""
    bucket = SimulatedBucket(names)
    page = bucket.names[:1000]
    ideal_s = (len(names) - 1000) / 1000 / 24 * 0.065
    runs = [
        SimulatedListing(
            bucket, streams=24, seed=seed, check=False, waiting=[NameRange(after(page[-1]), None)],
            examples=page[::249],
        ).run()
        for seed in range(5)
    ]  # fmt: skip
    assert statistics.median(run.seconds for run in runs) < most * ideal_s
