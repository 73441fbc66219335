"""Samples stay whole, whatever the names, and are those that the real `webdataset` finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packing_rows import rows_of
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_iterator

from airflow_dataflux.core.packing.samples import SampleOrder, webdataset_key
from airflow_dataflux.core.packing.shard_plan import ByBytes, ByCount, plan_shards
from airflow_dataflux.core.packing.tar_format import archive_bytes, member_bytes

# Few letters, so that names collide, nest and share beginnings.
NAMES = st.text(st.sampled_from("ab1._/é"), min_size=1, max_size=9).filter(lambda name: not name.endswith("/"))
OBJECTS = st.lists(NAMES, unique=True, max_size=30)
SEEDS = st.one_of(st.none(), st.integers(0, 3))
RULES = st.sampled_from(["webdataset", "([ab1])", "/([^/]*)$"])


def batches(names: list[str]) -> Callable[[], Iterator[Any]]:
    rows = rows_of({name: position * 100 for position, name in enumerate(sorted(names, key=str.encode))})
    return lambda: iter([rows.slice(0, 3), rows.slice(3)])


@given(NAMES)
@example("a.b/.c")
@example("a/.c")
@example("//.c")
@example("a.tar.gz/b")
@example("__.__")
@example("__.__/a.txt")
@example("_._")
def test_the_key_is_the_one_that_webdataset_takes(name: str) -> None:
    passed_over = list(tar_file_iterator(archive_of([name]))) == []
    assert webdataset_key(name) == (None if passed_over else base_plus_ext(name)[0])


@pytest.mark.parametrize("name", ["__meta__", "__meta__/a.json", "__meta__/b/c.txt"])
def test_what_webdataset_passes_over_has_no_key(name: str) -> None:
    assert webdataset_key(name) is None
    assert list(tar_file_iterator(archive_of([name]))) == []


@given(OBJECTS, RULES, SEEDS)
def test_every_object_is_in_exactly_one_sample(names: list[str], rule: str, seed: int | None) -> None:
    samples = list(SampleOrder(batches(names), sample_by=rule, shuffle_seed=seed))
    assert sorted(member.name for sample in samples for member in sample) == sorted(names)


@given(OBJECTS, SEEDS)
@example(["1.jpg", "1.more/2.jpg", "1.more/2.txt", "1.txt"], None)
def test_members_of_one_key_are_one_sample_wherever_they_lie(names: list[str], seed: int | None) -> None:
    samples = list(SampleOrder(batches(names), shuffle_seed=seed))
    keys = [key for sample in samples if (key := webdataset_key(sample[0].name)) is not None]
    assert len(keys) == len(set(keys))
    for sample in samples:
        assert len({webdataset_key(member.name) for member in sample}) == 1
        assert [member.name for member in sample] == sorted((member.name for member in sample), key=str.encode)


@given(OBJECTS, st.integers(0, 3))
def test_a_seed_changes_the_order_and_nothing_else(names: list[str], seed: int) -> None:
    plain = list(SampleOrder(batches(names)))
    shuffled = list(SampleOrder(batches(names), shuffle_seed=seed))
    assert sorted(plain, key=repr) == sorted(shuffled, key=repr)
    assert shuffled == list(SampleOrder(batches(names), shuffle_seed=seed))


def test_different_seeds_give_different_orders_of_many_samples() -> None:
    names = [f"{number:03}.jpg" for number in range(100)]
    orders = {tuple(SampleOrder(batches(names), shuffle_seed=seed)) for seed in range(5)}
    assert len(orders) == 5


@given(OBJECTS, RULES, SEEDS, st.one_of(st.integers(1, 12), st.integers(1024, 40_000)))
def test_shards_hold_whole_samples_in_order(names: list[str], by: str, seed: int | None, size: int) -> None:
    order = SampleOrder(batches(names), sample_by=by, shuffle_seed=seed)
    rule = ByCount.of(size, order) if size < 1024 else ByBytes(size)
    shards = list(plan_shards(order, rule, "{index}.tar"))
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert [member for shard in shards for member in shard.members] == [m for sample in order for m in sample]
    assert [count for shard in shards for count in shard.sample_sizes] == [len(sample) for sample in order]
    for shard in shards:
        length = archive_bytes(sum(member_bytes(member.name, member.size) for member in shard.members))
        assert shard.archive_bytes == length
        if size >= 1024:
            assert length <= size or len(shard.sample_sizes) == 1
    if size < 1024:
        assert len(shards) == min(size, len(list(order)))


def archive_of(names: list[str]) -> Any:
    import io

    from airflow_dataflux.core.packing.tar_format import end_of_archive, member_header

    body = b"".join(member_header(name, 0) for name in names)
    return io.BytesIO(body + end_of_archive(len(body)))


@given(OBJECTS)
def test_webdataset_reads_exactly_the_samples_that_were_planned(names: list[str]) -> None:
    """Where two members have the same extension but for its case, webdataset refuses the shard; the plan says so."""
    samples = list(SampleOrder(batches(names)))
    ordered = [member.name for sample in samples for member in sample]
    keyed = [[m.name for m in sample] for sample in samples if webdataset_key(sample[0].name) is not None]
    if any(len({name.lower() for name in sample}) < len(sample) for sample in keyed):
        return
    files = [{"__url__": "shard", **one} for one in tar_file_iterator(archive_of(ordered))]
    found = [sample["__key__"] for sample in group_by_keys(files)]
    assert found == [webdataset_key(sample[0]) for sample in keyed]
