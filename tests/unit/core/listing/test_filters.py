"""What each filter keeps, and that nothing is dropped without being counted."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from airflow_dataflux.core.arrow import ROW_SCHEMA
from airflow_dataflux.core.config import Filters, ListRequest
from airflow_dataflux.core.errors import ObjectNotFoundError, PermissionDeniedError
from airflow_dataflux.core.gcs.store import StoredObject
from airflow_dataflux.core.listing.filters import OwnObjects, RowFilter
from airflow_dataflux.core.model import Row
from airflow_dataflux.core.ownobjects import COMPOSITE_ATTEMPT, COMPOSITE_MARK, MANIFEST_MARK
from airflow_dataflux.core.row_masks import masks_of

_DAY = [datetime(2024, 1, day, tzinfo=UTC) for day in range(1, 6)]


def _rows() -> pa.RecordBatch:
    rows = [
        {"name": "a", "size": 0, "storage_class": "STANDARD", "updated": _DAY[0]},
        {"name": "b/", "size": 0, "storage_class": "STANDARD", "updated": _DAY[1]},
        {"name": "c", "size": 10, "storage_class": "NEARLINE", "updated": _DAY[2]},
        {"name": "d/", "size": 20, "storage_class": "STANDARD", "updated": _DAY[3]},
    ]
    return pa.RecordBatch.from_pylist([{**row, "generation": 1, "crc32c": None} for row in rows], schema=ROW_SCHEMA)


KEPT_AND_DROPPED = [
    (Filters(), ["a", "c", "d/"], {"include_placeholders": 1}),
    (Filters(include_placeholders=True), ["a", "b/", "c", "d/"], {}),
    (Filters(exclude_glob=("a", "*/"), include_placeholders=True), ["c"], {"exclude_glob": 3}),
    (Filters(storage_classes=frozenset({"NEARLINE"})), ["c"], {"storage_classes": 3}),
    (
        Filters(updated_after=_DAY[1], updated_before=_DAY[3], include_placeholders=True),
        ["b/", "c"],
        {"updated_after": 1, "updated_before": 1},
    ),
    (Filters(min_bytes=10, max_bytes=10), ["c"], {"min_bytes": 2, "max_bytes": 1}),
]


@pytest.mark.parametrize(("filters", "kept", "dropped"), KEPT_AND_DROPPED)
def test_rows_are_kept_or_counted(filters: Filters, kept: list[str], dropped: dict[str, int]) -> None:
    row_filter = RowFilter(filters)
    assert row_filter.apply(_rows()).column("name").to_pylist() == kept
    assert dict(row_filter.dropped) == dropped


APPLIED_BY_THE_SERVER = {"match_glob"}
FILTERS = [each.name for each in fields(Filters) if each.name not in APPLIED_BY_THE_SERVER]
VALUES: dict[str, Any] = {
    "exclude_glob": ("**.tmp",),
    "storage_classes": frozenset({"STANDARD"}),
    "updated_after": _DAY[0],
    "updated_before": _DAY[1],
    "min_bytes": 1,
    "max_bytes": 2,
    "include_placeholders": False,
}
"""A value of each filter with which it has something to do."""


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_that_is_set_has_a_mask(name: str) -> None:
    only_this = Filters(**{"include_placeholders": True, name: VALUES[name]})
    assert [named for named, _ in masks_of(only_this)] == [name]


def test_masks_are_in_the_order_of_the_filters() -> None:
    assert [name for name, _ in masks_of(Filters(**VALUES))] == FILTERS


def test_the_rows_that_each_filter_drops_are_tested() -> None:
    assert {name for _, _, dropped in KEPT_AND_DROPPED for name in dropped} == set(FILTERS)


def test_a_page_without_rows_passes() -> None:
    assert RowFilter(Filters()).apply(_rows().slice(0, 0)).num_rows == 0


ATTEMPT = "0011223344556677"
MARKS = {COMPOSITE_MARK: "1", COMPOSITE_ATTEMPT: ATTEMPT}


class Metadata:
    """A store that knows custom metadata only, and counts how often it was asked."""

    def __init__(self, metadata: dict[str, dict[str, str] | Exception]) -> None:
        self.metadata = metadata
        self.asked: list[str] = []

    def stat(self, bucket: str, name: str, generation: int | None = None) -> StoredObject:
        self.asked.append(name)
        found = self.metadata[name]
        if isinstance(found, Exception):
            raise found
        row = Row(name=name, size=1, generation=1, crc32c=None, storage_class="STANDARD", updated=_DAY[0])
        return StoredObject(row=row, metadata=found)


def page(*rows: str | tuple[str, str]) -> pa.RecordBatch:
    """Return a page of names, each with a content type if there is one."""
    pairs = [(row, None) if isinstance(row, str) else row for row in rows]
    common = {"size": 1, "generation": 1, "crc32c": None, "storage_class": "STANDARD", "updated": _DAY[0]}
    return pa.RecordBatch.from_pylist([{"name": n, "content_type": t, **common} for n, t in sorted(pairs)], ROW_SCHEMA)


def kept(rows: pa.RecordBatch, store: Metadata, manifest_uri: str | None = None) -> tuple[list[str], dict[str, int]]:
    own = OwnObjects(ListRequest(bucket="data", manifest_uri=manifest_uri), store)  # type: ignore[arg-type]
    row_filter = RowFilter(Filters(), own)
    return row_filter.apply(rows).column("name").to_pylist(), dict(row_filter.dropped)


@pytest.mark.parametrize("prefix", ["dataflux-composed-objects/", "any/other/prefix/", ""])
def test_composites_are_left_out_by_name_and_metadata_whatever_their_prefix(prefix: str) -> None:
    ours, theirs = f"{prefix}dag/run/task/-1/1/{ATTEMPT}-0-0", f"{prefix}dag/run/task/7/2/{ATTEMPT}-12-3"
    foreign = f"{prefix}a/b/c/1/2/{ATTEMPT}-0-1"
    store = Metadata({ours: MARKS, theirs: MARKS, foreign: {}})
    assert kept(page("zz", ours, theirs, foreign), store) == (sorted(["zz", foreign]), {"composites": 2})


@pytest.mark.parametrize("metadata", [{}, {COMPOSITE_MARK: "1"}, {**MARKS, COMPOSITE_ATTEMPT: "7766554433221100"}])
def test_an_object_that_is_only_named_like_a_composite_is_data(metadata: dict[str, str]) -> None:
    name = f"dag/run/task/-1/1/{ATTEMPT}-0-0"
    assert kept(page(name), Metadata({name: metadata})) == ([name], {})


def test_a_composite_that_is_gone_meanwhile_is_left_out_and_an_unreadable_one_is_data() -> None:
    gone, unreadable = (f"dag/run/task/-1/1/{ATTEMPT}-{n}-0" for n in (0, 1))
    store = Metadata({gone: ObjectNotFoundError("gone"), unreadable: PermissionDeniedError("no")})
    assert kept(page(gone, unreadable), store) == ([unreadable], {"composites": 1})


def test_ordinary_names_cost_no_request() -> None:
    names = ["a/b/c/1/2/x-0-0", f"{ATTEMPT}-0-0", f"a/{ATTEMPT}-0-0", "img-001", "2026-01-01", "ü-1", "-", "a/-1/1"]
    store = Metadata({})
    assert kept(page(*names), store) == (sorted(names), {})
    assert store.asked == []


def test_files_of_any_manifest_are_left_out_by_their_content_type() -> None:
    files = [
        ("m/manifest.json", f"application/json; {MANIFEST_MARK}"),
        ("m/part-1.parquet", f"application/vnd.apache.parquet; {MANIFEST_MARK}"),
    ]
    data = [("v/manifest.json", "application/json"), "v/part-1.parquet"]
    found = kept(page("a", *files, *data), Metadata({}))
    assert found == (["a", "v/manifest.json", "v/part-1.parquet"], {"manifests": 2})


def test_in_the_manifests_own_place_only_its_files_are_left_out() -> None:
    names = [
        "data/manifest.json",
        "data/reports/20260131T235959Z-3fa9c1.html",
        "data/part-0a1b2c3d-000001-00000.parquet",
    ]
    users = [
        "data/1.jpg",
        "data/report.html",
        "data/reports/mine.html",
        "data/part-00000-7ab1f4b2-4a0e-4f57-9f0c-1b9c4d3e2f10-c000.snappy.parquet",
        "data/part-0.parquet",
        "data/deeper/manifest.json",
        "data2/manifest.json",
        "dat/manifest.json",
    ]
    assert kept(page(*names, *users), Metadata({}), "gs://data/data") == (sorted(users), {"manifests": 3})
    assert kept(page(*names), Metadata({}), "gs://elsewhere/data") == (sorted(names), {})
