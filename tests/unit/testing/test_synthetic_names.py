"""Synthetic names and objects: the arithmetic must agree with itself in every way it is asked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dataflux.testing.contents import crc32c, whole
from airflow_dataflux.testing.control_messages import SyntheticObjects
from airflow_dataflux.testing.http_messages import ApiError, parse_fields, project
from airflow_dataflux.testing.object_record import resource
from airflow_dataflux.testing.synthetic import SyntheticRange

STYLES = ["flat", "classes", "deep", "uuid", "unicode", "timestamps"]


def make(**order: object) -> SyntheticRange:
    return SyntheticRange(SyntheticObjects(bucket="b", **order), endpoint="http://server")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("count", [1, 2, 7, 41, 1001, 30_000])
def test_names_are_unique_and_in_byte_order(style: str, count: int) -> None:
    names = make(count=count, style=style).lines(0, count, generations=False).splitlines()
    assert len(names) == count
    assert names == sorted(set(names))
    assert all(name.decode() for name in names)


@pytest.mark.parametrize("style", STYLES)
def test_a_name_by_itself_is_the_name_in_its_page(style: str) -> None:
    objects = make(count=5000, style=style, prefix='p"\\/', seed=3)
    names = objects.lines(0, 5000, generations=False).splitlines()
    assert names == [objects.name(index) for index in range(5000)]


@pytest.mark.parametrize("style", STYLES)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_lower_bound_is_where_bisection_of_a_list_would_be(style: str, data: st.DataObject) -> None:
    objects = make(count=300, style=style)
    names = [objects.name(index) for index in range(300)]
    probe = data.draw(st.one_of(st.sampled_from(names), st.binary(max_size=12)))
    probe = probe[: data.draw(st.integers(0, len(probe)))] + data.draw(st.sampled_from([b"", b"\0", b"~"]))
    assert objects.lower_bound(probe) == sum(name < probe for name in names)
    assert objects.find(probe) == (names.index(probe) if probe in names else None)


@pytest.mark.parametrize("fields", [None, "items(name,size,generation,crc32c,updated)", "items(mediaLink,name)"])
@pytest.mark.parametrize("style", STYLES)
def test_an_encoded_item_is_the_records_own_resource(style: str, fields: str | None) -> None:
    objects = make(count=900, style=style, sizes=[0, 1, 5, 8, 9, 70_000], prefix='a "b"/')
    projection = parse_fields(fields)
    projection = projection["items"] if projection else None
    items = json.loads(b"[" + objects.items(10, 890, projection) + b"]")
    expected = [resource(objects.record(index), bucket="b", endpoint="http://server") for index in range(10, 890)]
    assert items == [project(each, projection) for each in expected]


@given(index=st.integers(0, 1 << 30), size=st.integers(0, 200_000), seed=st.integers(0, 1 << 32))
@settings(max_examples=60, deadline=None)
def test_checksums_from_tables_are_those_of_the_bytes(index: int, size: int, seed: int) -> None:
    content = make(count=(1 << 30) + 1, sizes=[size], seed=seed).record(index).content
    data = whole(content)
    assert len(data) == size
    assert crc32c(data) == content.crc32c


def test_contents_differ_from_object_to_object() -> None:
    objects = make(count=1000, sizes=[64])
    assert len({whole(objects.record(index).content) for index in range(1000)}) == 1000


def test_sizes_and_their_sum_agree() -> None:
    objects = make(count=1000, sizes=[1, 10, 100])
    sizes = [objects.record(index).content.size for index in range(1000)]
    assert set(sizes) == {1, 10, 100}
    assert objects.total_bytes(0, 1000) == sum(sizes)
    assert objects.total_bytes(100, 300) == sum(sizes[100:300])


def test_the_unicode_style_is_not_in_utf16_order() -> None:
    names = [name.decode() for name in make(count=60, style="unicode").lines(0, 60, generations=False).splitlines()]
    assert names != sorted(names, key=lambda name: name.encode("utf-16-be"))
    assert {len(character.encode()) for name in names for character in name} == {1, 2, 3, 4}


def test_the_deep_style_has_95_percent_under_one_prefix() -> None:
    names = make(count=1000, style="deep").lines(0, 1000, generations=False).splitlines()
    assert sum(name.startswith(b"archive/2023/europe/") for name in names) == 950


@pytest.mark.parametrize("order", [{"count": 0}, {"count": 1 << 31}, {"count": 1, "sizes": []}])
def test_an_impossible_range_is_refused(order: dict[str, object]) -> None:
    with pytest.raises(ApiError):
        make(**order)
