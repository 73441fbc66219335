"""The pure parts of the embedded server: checksums, contents, projections, globs, multipart bodies, budgets, faults."""

from __future__ import annotations

import base64
import fnmatch
import json
import struct

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.testing.buckets import Bucket
from airflow_dataflux.testing.contents import (
    CompositeContent,
    MemoryContent,
    combine,
    crc32c,
    encode_crc32c,
    filler_crc32c,
    filler_pieces,
    whole,
)
from airflow_dataflux.testing.control_messages import BucketSettings, ChangeRule, FaultRule, Settings, SyntheticObjects
from airflow_dataflux.testing.faults import AcceptedTokens, Changes, Faults, RequestBudgets, Timing
from airflow_dataflux.testing.http_messages import ApiError, boundary_of, parse_fields, project, split_parts
from airflow_dataflux.testing.object_record import ObjectRecord
from airflow_dataflux.testing.objects_list import glob_pattern, list_page, parse_query, successor
from airflow_dataflux.testing.routes import Route, find_route
from airflow_dataflux.testing.synthetic import SyntheticRange


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_combined_checksums_are_those_of_the_concatenation(first: bytes, second: bytes) -> None:
    assert combine(crc32c(first), crc32c(second), len(second)) == google_crc32c.value(first + second)


@given(st.integers(0, 0xFFFFFFFF))
def test_a_checksum_is_written_as_base64_of_four_big_endian_bytes(value: int) -> None:
    assert struct.unpack(">I", base64.b64decode(encode_crc32c(value))) == (value,)


@pytest.mark.parametrize("size", [0, 1, 65_520, 65_521, 65_522, 1_000_003])
def test_the_fillers_checksum_is_that_of_its_bytes(size: int) -> None:
    assert filler_crc32c(5, size) == crc32c(b"".join(filler_pieces(5, 0, size)))


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=8), st.data())
def test_any_range_of_a_composite_is_that_of_the_concatenation(parts: list[bytes], data: st.DataObject) -> None:
    inner = CompositeContent([MemoryContent(part) for part in parts[::2]])
    composite = CompositeContent([inner, *(MemoryContent(part) for part in parts)])
    expected = b"".join(parts[::2]) + b"".join(parts)
    assert whole(composite) == expected
    assert composite.crc32c == crc32c(expected)
    start = data.draw(st.integers(0, len(expected)))
    end = data.draw(st.integers(start, len(expected)))
    assert b"".join(composite.pieces(start, end)) == expected[start:end]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (None, {"a": 1, "b": {"c": 2, "d": 3}, "l": [{"x": 1, "y": 2}]}),
        ("*", {"a": 1, "b": {"c": 2, "d": 3}, "l": [{"x": 1, "y": 2}]}),
        ("a", {"a": 1}),
        ("a,b/c", {"a": 1, "b": {"c": 2}}),
        ("b(c,d),none", {"b": {"c": 2, "d": 3}}),
        ("l(x)", {"l": [{"x": 1}]}),
        ("l/x,l/y", {"l": [{"x": 1, "y": 2}]}),
        ("b/*", {"b": {"c": 2, "d": 3}}),
    ],
)
def test_fields_select_parts_of_an_answer(fields: str | None, expected: object) -> None:
    value = {"a": 1, "b": {"c": 2, "d": 3}, "l": [{"x": 1, "y": 2}]}
    assert project(value, parse_fields(fields)) == expected


@pytest.mark.parametrize("fields", ["a(", "a)", ",", "a,,b", "a(b", "(a)", "a/"])
def test_malformed_fields_are_refused(fields: str) -> None:
    with pytest.raises(ApiError):
        parse_fields(fields)


@pytest.mark.parametrize(
    ("glob", "matching", "other"),
    [
        ("*.jpg", ["a.jpg", ".jpg"], ["d/a.jpg", "a.png"]),
        ("**.jpg", ["a.jpg", "d/e/a.jpg"], ["a.jpgx"]),
        ("d/**/a", ["d/a", "d/x/a", "d/x/y/a"], ["d/xa", "a"]),
        ("**/a", ["a", "x/a"], ["xa"]),
        ("x[0-9].t", ["x5.t"], ["xa.t"]),
        ("{a,b*}/c", ["a/c", "bb/c"], ["c/c"]),
        (r"a\*", ["a*"], ["ab"]),
        ("a+(b)", ["a+(b)"], ["aab"]),
    ],
)
def test_globs_match_as_the_documentation_says(glob: str, matching: list[str], other: list[str]) -> None:
    assert all(glob_pattern(glob).fullmatch(name) for name in matching)
    assert not any(glob_pattern(glob).fullmatch(name) for name in other)


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_globs_within_one_directory_match_as_the_shells(glob: str, name: str) -> None:
    assert bool(glob_pattern(glob).fullmatch(name)) == fnmatch.fnmatchcase(name, glob)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.sampled_from([b"\r\n", b"\n"]))
def test_multipart_bodies_keep_every_byte(bodies: list[bytes], line_end: bytes) -> None:
    bodies = [body.replace(b"--edge", b"") for body in bodies]
    wire = b"".join(b"--edge" + line_end + b"X-N: 1" + line_end * 2 + body + line_end for body in bodies) + b"--edge--"
    parts = split_parts(wire, boundary_of('multipart/related; boundary="edge"'))
    if line_end == b"\n":
        # A body that ends in CR cannot be told from one with a CRLF behind it; real clients write CRLF throughout.
        bodies = [body.removesuffix(b"\r") for body in bodies]
    assert [part.body for part in parts] == bodies
    assert all(part.headers == {"x-n": "1"} for part in parts)


def test_a_budget_refuses_what_is_above_it_and_says_when_to_come_back() -> None:
    budgets = RequestBudgets(Settings(lists_per_s=0.001, budget_burst_s=3000, retry_after_s=7))
    for _ in range(3):
        budgets.spend("list", "b")
    with pytest.raises(ApiError) as caught:
        budgets.spend("list", "b")
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "7"})
    budgets.spend("list", "another")
    budgets.spend("read", "b")


def test_lists_count_as_reads_and_composes_as_writes() -> None:
    budgets = RequestBudgets(Settings(reads_per_s=0.001, writes_per_s=0.001))
    budgets.spend("list", "b")
    budgets.spend("compose", "b")
    for operation in ("read", "stat", "delete", "upload"):
        with pytest.raises(ApiError):
            budgets.spend(operation, "b")


def test_latency_is_per_operation_with_its_parts_and_repeatable_jitter() -> None:
    settings = Settings(
        first_byte_s=0.04,
        latency_s={"compose": 0.12},
        list_per_1000_rows_s=0.025,
        compose_per_source_s=0.003,
        batch_per_call_s=0.001,
    )
    timing = Timing(settings)
    assert timing.latency_s("read") == 0.04
    assert timing.latency_s("list", rows=1000) == pytest.approx(0.065)
    assert timing.latency_s("compose", sources=32) == pytest.approx(0.216)
    assert timing.latency_s("batch", calls=100) == pytest.approx(0.14)
    settings.jitter, settings.seed = 0.2, 4
    first, second = Timing(settings), Timing(settings)
    drawn = [first.latency_s("read") for _ in range(200)]
    assert drawn == [second.latency_s("read") for _ in range(200)]
    assert 0.032 <= min(drawn) < 0.034
    assert 0.046 < max(drawn) <= 0.048


def test_bandwidth_is_time_for_bytes() -> None:
    assert Timing(Settings(bytes_per_s=1000)).transfer_s(500) == 0.5
    assert Timing(Settings()).transfer_s(500) == 0


READ = Route(operation="read", action="read", bucket="b", name="x/1")


def test_the_nth_rule_hits_once_and_only_applied_faults_count() -> None:
    faults = Faults()
    faults.add(FaultRule(kind="reset", operation="read", nth=3))
    hits = [faults.choose(READ, "") for _ in range(5)]
    assert [hit is not None for hit in hits] == [False, False, True, False, False]
    (count,) = faults.counts()
    assert (count.met, count.hits) == (5, 0)
    assert hits[2] is not None
    hits[2].applied()
    assert count.hits == 1


def test_a_probability_is_kept_and_repeats_with_its_seed() -> None:
    runs = []
    for _ in range(2):
        faults = Faults()
        faults.add(FaultRule(kind="reset", probability=0.25, seed=9))
        runs.append([faults.choose(READ, "") is not None for _ in range(1000)])
    assert runs[0] == runs[1]
    assert 200 < sum(runs[0]) < 300


@pytest.mark.parametrize(
    ("target", "meets"),
    [
        ({}, True),
        ({"operation": "list"}, False),
        ({"bucket": "c"}, False),
        ({"prefix": "x/"}, True),
        ({"prefix": "y/"}, False),
    ],
)
def test_a_rule_meets_only_its_targets(target: dict[str, str], meets: bool) -> None:
    faults = Faults()
    faults.add(FaultRule(kind="reset", times=1, **target))
    assert (faults.choose(READ, "") is not None) == meets
    assert faults.choose(READ, "") is None


def test_changes_wait_for_their_request() -> None:
    changes = Changes()
    changes.add(ChangeRule(bucket="b", name="n", operation="read", after=2))
    due = [len(changes.due(READ)) for _ in range(4)]
    assert due == [0, 0, 1, 0]
    assert changes.done == 1


def test_a_token_is_accepted_until_its_end() -> None:
    AcceptedTokens(None).check(None)
    access = AcceptedTokens({"long": 60.0, "over": 0.0, "endless": None})
    access.check("Bearer long")
    access.check("bearer endless")
    for header in (None, "Bearer over", "Bearer unknown", "Basic long"):
        with pytest.raises(ApiError) as caught:
            access.check(header)
        assert caught.value.status == 401


@pytest.mark.parametrize(
    ("method", "path", "operation", "name"),
    [
        ("GET", "/storage/v1/b/b/o", "list", ""),
        ("GET", "/storage/v1/b/b/o/a%2Fb%20c", "stat", "a/b c"),
        ("GET", "/download/storage/v1/b/b/o/a%2F..", "read", "a/.."),
        ("POST", "/storage/v1/b/b/o/x/compose", "compose", "x"),
        ("POST", "/storage/v1/b/b/o/x/rewriteTo/b/c/o/y", "copy", "x"),
        ("DELETE", "/storage/v1/b/b/o/x", "delete", "x"),
        ("POST", "/upload/storage/v1/b/b/o", "upload", ""),
        ("PUT", "/resumable/upload/storage/v1/b/b/o", "upload", ""),
        ("GET", "/storage/v1/b/b/iam/testPermissions", "permissions", ""),
        ("GET", "/storage/v1/b/b", "bucket", ""),
    ],
)
def test_paths_mean_operations(method: str, path: str, operation: str, name: str) -> None:
    route = find_route(method, path, media=False)
    assert (route.operation, route.bucket, route.name) == (operation, "b", name)


@pytest.mark.parametrize("prefix", [b"a", b"a/", "é".encode(), "\U0010ffff".encode()])
def test_a_successor_is_after_everything_with_the_prefix(prefix: bytes) -> None:
    after = successor(prefix)
    assert after is not None
    assert prefix + b"\xf4\x8f\xbf\xbf" * 200 < after
    assert successor(b"") is None


def test_interleaving_synthetic_ranges_are_refused() -> None:
    bucket = Bucket("b", BucketSettings())
    bucket.add_range(SyntheticRange(SyntheticObjects(bucket="b", count=10, prefix="m/"), endpoint=""))
    bucket.add_range(SyntheticRange(SyntheticObjects(bucket="b", count=10, prefix="a/"), endpoint=""))
    with pytest.raises(ApiError, match="interleave"):
        bucket.add_range(SyntheticRange(SyntheticObjects(bucket="b", count=5, prefix="m/"), endpoint=""))


def record(name: str) -> ObjectRecord:
    return ObjectRecord(
        name=name.encode(),
        content=MemoryContent(b""),
        generation=1,
        storage_class="STANDARD",
        created_us=0,
        updated_us=0,
    )


@given(data=st.data())
def test_pages_tile_any_mixture_of_synthetic_put_and_deleted_objects(data: st.DataObject) -> None:
    bucket = Bucket("b", BucketSettings())
    model: set[str] = set()
    for prefix in ("d/", "k/"):
        synthetic = SyntheticRange(SyntheticObjects(bucket="b", count=12, style="uuid", prefix=prefix), endpoint="")
        bucket.add_range(synthetic)
        model |= {synthetic.name(index).decode() for index in range(12)}
    beside = [name + suffix for name in sorted(model)[::3] for suffix in ("!", "/x")]
    pool = [*sorted(model), *beside, "a", "f", "z"]
    for name in data.draw(st.lists(st.sampled_from(pool), max_size=20)):
        live = bucket.get(name.encode())
        assert (live is not None) == (name in model)
        if live is not None and data.draw(st.booleans()):
            bucket.remove(live, pinned=False)
            model.discard(name)
        else:
            bucket.put(record(name))
            model.add(name)
    start = data.draw(st.sampled_from(["", *pool]))
    end = data.draw(st.sampled_from(["", *pool]))
    expected = [name for name in sorted(model, key=str.encode) if name >= start and (not end or name < end)]
    listed, token = [], ""
    while True:
        query = {"startOffset": start, "endOffset": end, "pageToken": token, "fields": "items(name),nextPageToken"}
        query["maxResults"] = str(data.draw(st.integers(1, 9)))
        page = json.loads(list_page(bucket, parse_query(query, Settings()), "http://s").body)
        names = [item["name"] for item in page.get("items", [])]
        assert len(names) <= int(query["maxResults"])
        listed += names
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert listed == expected
