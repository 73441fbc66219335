"""The benchmark's server serves what its data sets say, in every API that the peers speak."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator

import google_crc32c
import pytest
from dataflux_bench.server.dataset import SHORT, Dataset, DatasetSpec
from dataflux_bench.server.latency import Model, Service
from dataflux_bench.server.process import BenchServer
from dataflux_bench.server.rendering import form_of
from google.api_core.exceptions import TooManyRequests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from airflow_dataflux.testing.faults import TokenBucket

STYLES = ("flat", "classes", "deep", "uuid", "unicode", "timestamps", SHORT)
AT_ONCE = {
    "list_s": 0.0,
    "list_per_1000_rows_s": 0.0,
    "read_s": 0.0,
    "compose_s": 0.0,
    "compose_per_source_s": 0.0,
    "delete_s": 0.0,
    "batch_per_call_s": 0.0,
    "other_s": 0.0,
}


@pytest.fixture(scope="module")
def server() -> Iterator[BenchServer]:
    with BenchServer(Model(**AT_ONCE, page_cap=300)) as running:
        yield running


def client_of(server: BenchServer) -> storage.Client:
    return storage.Client(
        project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": server.endpoint}
    )


def get(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url) as answer:
        return bytes(answer.read())


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("moved", [0.0, 0.5])
def test_names_are_distinct_and_in_byte_order(style: str, moved: float) -> None:
    dataset = Dataset(DatasetSpec(style=style, count=2000, moved=moved))
    names = dataset.names(0, 2000)
    assert len(names) == 2000
    assert names == sorted(set(names))
    assert [dataset.find(name) for name in names[::97]] == list(range(0, 2000, 97))


@pytest.mark.parametrize("style", ["samples", "uploads", "nested", "songs"])
def test_the_end_of_a_directory_is_found_from_any_of_its_names(style: str) -> None:
    dataset = Dataset(DatasetSpec(style=style, count=600))
    for number in range(dataset.count):
        name = dataset.name(number)
        for length in range(1, len(name) + 1):
            assert dataset.end_of_prefix(name[:length], number) == dataset.prefix_range(name[:length])[1]


def test_half_of_the_names_of_a_changed_bucket_are_others() -> None:
    now = set(Dataset(DatasetSpec(style="uuid", count=1000)).names(0, 1000))
    before = set(Dataset(DatasetSpec(style="uuid", count=1000, moved=0.5)).names(0, 1000))
    assert len(now & before) == 500


@pytest.mark.parametrize("style", STYLES)
def test_the_official_client_lists_exactly_the_data_set(server: BenchServer, style: str) -> None:
    dataset = Dataset(DatasetSpec(style=style, count=1000))
    server.add_bucket("names", dataset.spec)
    found = [blob.name.encode() for blob in client_of(server).list_blobs("names")]
    assert found == dataset.names(0, 1000)


@pytest.mark.parametrize(
    "path",
    ["/storage/v1/b/same/o?", "/storage/v1/b/same/o?fields=items(name,size),nextPageToken&", "/same?list-type=2&"],
)
def test_a_prepared_page_is_the_page_rendered_on_demand(server: BenchServer, path: str) -> None:
    server.add_bucket("same", DatasetSpec(style="unicode", count=700))
    url = f"{server.endpoint}{path}prefix="
    server.forget_forms()
    server.reset()
    on_demand = get(url)
    assert server.counts().unprepared_pages == 1
    server.prepare("same", server.forms())
    assert get(url) == on_demand
    assert server.counts().unprepared_pages == 1


def test_pages_tile_a_range_of_names(server: BenchServer) -> None:
    dataset = Dataset(DatasetSpec(style="classes", count=2000))
    server.add_bucket("tiles", dataset.spec)
    names = [name.decode() for name in dataset.names(0, 2000)]
    blobs = client_of(server).list_blobs("tiles", start_offset=names[100], end_offset=names[1500])
    assert [blob.name for blob in blobs] == names[100:1500]
    blobs = client_of(server).list_blobs("tiles", prefix="train/class-0000001/")
    assert [blob.name for blob in blobs] == names[1000:2000]


def test_the_xml_api_pages_to_the_end(server: BenchServer) -> None:
    dataset = Dataset(DatasetSpec(style="flat", count=750))
    server.add_bucket("xml", dataset.spec)
    found: list[str] = []
    token = ""
    while True:
        page = get(f"{server.endpoint}/xml?list-type=2{token}").decode()
        found += re.findall("<Key>(.*?)</Key>", page)
        more = re.search("<NextContinuationToken>(.*?)</NextContinuationToken>", page)
        if more is None:
            break
        token = f"&continuation-token={more.group(1)}"
    assert [name.encode() for name in found] == dataset.names(0, 750)


@pytest.mark.parametrize("size", [0, 10_000, 1_500_000])
def test_contents_have_the_checksums_that_are_served_with_them(server: BenchServer, size: int) -> None:
    dataset = Dataset(DatasetSpec(count=40, sizes=str(size), readable=True))
    server.add_bucket("contents", dataset.spec)
    bucket = client_of(server).bucket("contents")
    names = [name.decode() for name in dataset.names(0, 40)]
    whole = bucket.blob(names[7]).download_as_bytes()  # which checks the checksum of the header
    assert (len(whole), google_crc32c.value(whole)) == (size, int(dataset.checksums[7]))
    if size:
        assert bucket.blob(names[7]).download_as_bytes(start=5, end=99) == whole[5:100]


@pytest.mark.parametrize("size", [10_000, 100_000])
def test_a_composite_is_its_sources_one_after_the_other(server: BenchServer, size: int) -> None:
    dataset = Dataset(DatasetSpec(count=40, sizes=str(size), readable=True))
    server.add_bucket("composites", dataset.spec)
    client = client_of(server)
    bucket = client.bucket("composites")
    sources = [bucket.blob(name.decode()) for name in dataset.names(0, 32)]
    composite = bucket.blob("dataflux-composed-objects/one")
    composite.compose(sources)
    assert composite.download_as_bytes() == b"".join(source.download_as_bytes() for source in sources)
    assert [blob.name for blob in client.list_blobs("composites", prefix="dataflux-")] == [composite.name]
    assert server.counts().composites == 1
    with client.batch():
        composite.delete()
    assert server.counts().composites == 0


def test_requests_above_a_budget_are_rejected_and_counted() -> None:
    with BenchServer(Model(**AT_ONCE, lists_per_s=0.001)) as server:
        server.add_bucket("b", DatasetSpec(count=10))
        get(f"{server.endpoint}/storage/v1/b/b/o")
        with pytest.raises(urllib.error.HTTPError, match="429"):
            get(f"{server.endpoint}/storage/v1/b/b/o")
        counts = server.counts()
        assert (counts.requests, counts.rejected, counts.refused) == (2, 1, {})


def test_a_change_that_is_rejected_is_not_made() -> None:
    """Composites that were made and then refused were there when they were asked for again."""
    with BenchServer(Model(**AT_ONCE, writes_per_s=1.1, burst_s=1)) as server:
        dataset = Dataset(DatasetSpec(count=40, sizes="10000", readable=True))
        server.add_bucket("b", dataset.spec)
        client = client_of(server)
        bucket = client.bucket("b")
        sources = [bucket.blob(name.decode()) for name in dataset.names(0, 2)]
        bucket.blob("dataflux-composed-objects/one").compose(sources, retry=None)
        with pytest.raises(TooManyRequests):
            bucket.blob("dataflux-composed-objects/two").compose(sources, retry=None)
        with pytest.raises(TooManyRequests):
            bucket.blob("dataflux-composed-objects/one").delete(retry=None)
        with client.batch(raise_exception=False) as batch:
            bucket.blob("dataflux-composed-objects/one").delete()
        assert [part.status_code for part in batch._responses] == [429]
        assert server.counts().composites == 1


def test_a_budget_fills_with_time() -> None:
    now = [0.0]
    budget = TokenBucket(10.0, 0.5, clock=lambda: now[0])
    assert [budget.take() for _ in range(6)] == [True] * 5 + [False]
    now[0] = 0.2
    assert [budget.take() for _ in range(3)] == [True, True, False]


def test_latencies_vary_around_their_mean_within_the_jitter() -> None:
    service = Service(Model(jitter=0.2))
    drawn = [service.jittered(0.1) for _ in range(5000)]
    assert min(drawn) >= 0.08
    assert max(drawn) <= 0.12
    assert sum(drawn) / len(drawn) == pytest.approx(0.1, rel=0.02)


def test_a_form_is_named_by_its_item_fields_whatever_their_order() -> None:
    assert form_of("items(size,name),nextPageToken") == form_of("nextPageToken,items(name,size)") == "name,size"
    assert form_of(None) == "*"
    assert form_of("items/name,nextPageToken") == "name"


def test_the_server_says_what_it_cannot_do(server: BenchServer) -> None:
    with pytest.raises(RuntimeError, match="KeyError"):
        server.prepare("no-such-bucket", ["*"])
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        get(f"{server.endpoint}/storage/v1/b/no-such-bucket/o")
    assert json.load(refused.value)["error"]["code"] == 404
