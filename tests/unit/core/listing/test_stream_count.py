"""How many streams a listing takes where nobody says: as many as the latency of a page needs."""

from __future__ import annotations

import pytest
from simulated_listing import SimulatedBucket, SimulatedListing, Timing

from airflow_dataflux.core.listing.stream_count import MOST_STREAMS, streams_for
from airflow_dataflux.core.namerange import NameRange, after


def test_streams_follow_the_latency_and_the_processors() -> None:
    usual = streams_for(0.065, processors=2)
    assert 45 <= usual <= 55
    assert streams_for(0.200, processors=2) == pytest.approx(usual * 0.200 / 0.065, rel=0.05)
    assert streams_for(0.065, processors=4) == pytest.approx(2 * usual, rel=0.05)


def test_streams_are_few_where_processors_are_slow() -> None:
    """Three times as many were used as kept two slow processors busy, for 7 % more requests and processor time."""
    assert streams_for(0.110, processors=2, page_cpu_s=0.010) == 33
    assert streams_for(0.110, processors=2, page_cpu_s=0.004) == 83
    assert streams_for(0.210, processors=2, page_cpu_s=0.010) == 63


def test_streams_are_few_where_pages_are_fast_and_never_more_than_memory_allows() -> None:
    assert streams_for(0.002, processors=2) == streams_for(0.0, processors=64) == 24
    assert streams_for(5.0, processors=2) == streams_for(0.065, processors=96) == MOST_STREAMS


def test_streams_are_few_where_the_bucket_was_found_to_bear_few_requests() -> None:
    assert streams_for(0.200, processors=8, requests_per_s=100) == 40
    assert streams_for(0.200, processors=8) == MOST_STREAMS


@pytest.mark.parametrize(
    ("page_s", "page_cpu_s"), [(0.030, 0.004), (0.065, 0.002), (0.065, 0.004), (0.065, 0.012), (0.200, 0.004)]
)
def test_a_large_listing_takes_hardly_longer_than_latency_and_processors_demand(
    page_s: float, page_cpu_s: float
) -> None:
    bucket = SimulatedBucket(f"{number:08}.bin" for number in range(400_000))
    timing = Timing(first_byte_s=0.8 * page_s, per_1000_rows_s=0.2 * page_s, cpu_per_page_s=page_cpu_s)
    page = bucket.names[:1000]
    result = SimulatedListing(
        bucket, workers=2, streams=streams_for(page_s, processors=2, page_cpu_s=page_cpu_s), timing=timing, check=False,
        waiting=[NameRange(after(page[-1]), None)], examples=page[::249],
    ).run()  # fmt: skip
    assert len(result.names) == 399_000
    finding_out_s = 4 * page_s  # until every stream has something to list
    bound_s = max(400 / MOST_STREAMS * page_s, 400 * page_cpu_s / 2)
    assert result.seconds <= 1.5 * bound_s + finding_out_s
