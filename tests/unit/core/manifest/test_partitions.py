"""Which partitions changed: exactly those whose names or generations did."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_samples import batch

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.manifest import Manifest, inline
from airflow_dataflux.core.manifest.partitions import changed_partitions

DAYS = [f"day={number}/" for number in range(4)]
OBJECTS = st.dictionaries(
    st.tuples(st.sampled_from([*DAYS, "other/"]), st.sampled_from("abc")).map("".join),
    st.integers(1, 3),
    max_size=12,
)


def manifest_of(generations: dict[str, int]) -> Manifest:
    names = sorted(generations, key=str.encode)
    rows = batch(names, generations=[generations[name] for name in names], sizes=[10] * len(names))
    pieces = [rows.slice(0, 2), rows.slice(2)]
    return inline("b", [""], [each for each in pieces if each.num_rows], listed_at=datetime.now(UTC), stats={})


def changes(now: dict[str, int], before: dict[str, int] | None, **more: Any) -> dict[str, str]:
    found = changed_partitions(manifest_of(now), None if before is None else manifest_of(before), **more)
    return {each.prefix: each.change for each in found.changes}


@settings(deadline=None, max_examples=60)
@given(OBJECTS, OBJECTS)
def test_a_partition_is_reported_exactly_if_it_differs(now: dict[str, int], before: dict[str, int]) -> None:
    expected = {}
    for day in DAYS:
        is_now = {name: generation for name, generation in now.items() if name.startswith(day)}
        was = {name: generation for name, generation in before.items() if name.startswith(day)}
        if is_now != was:
            expected[day] = "added" if not was else "removed" if not is_now else "changed"
    assert changes(now, before) == expected


def test_without_an_earlier_manifest_every_partition_was_added() -> None:
    assert changes({"x/day=1/a": 1, "x/day=2/b": 1}, None) == {"x/day=1/": "added", "x/day=2/": "added"}


def test_a_change_says_what_the_partition_has() -> None:
    found = changed_partitions(
        manifest_of({"x/day=1/a": 1, "x/day=1/b": 2, "loose": 1}), manifest_of({"x/day=1/a": 1, "x/day=0/z": 5})
    )
    assert found.without_partition == 1
    removed, changed = found.changes
    assert (removed.partition, removed.change, removed.object_count) == ("0", "removed", 1)
    assert (changed.partition, changed.prefix, changed.change) == ("1", "x/day=1/", "changed")
    assert (changed.object_count, changed.total_bytes) == (2, 20)
    assert changed.fingerprint == manifest_of({"x/day=1/a": 1, "x/day=1/b": 2}).fingerprint


def test_the_same_text_below_two_prefixes_is_two_partitions() -> None:
    assert list(changes({"a/day=1/x": 1, "b/day=1/x": 1}, {"a/day=1/x": 1})) == ["b/day=1/"]


def test_any_group_of_its_own_will_do() -> None:
    assert list(changes({"2026/01/x": 1, "2026/02/x": 1}, {"2026/01/x": 1}, expression=r"^(\d{4}/\d\d)/")) == [
        "2026/02/"
    ]


def test_the_same_manifest_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    same = manifest_of({"day=1/a": 1})
    monkeypatch.setattr(Manifest, "batches", None)
    assert changed_partitions(same, same).changes == ()


@pytest.mark.parametrize("expression", ["(", "no group", "(two)(groups)"])
def test_an_expression_without_the_group_is_refused(expression: str) -> None:
    with pytest.raises(InvalidRequestError, match="partition"):
        changed_partitions(manifest_of({}), None, expression)
