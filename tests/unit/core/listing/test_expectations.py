"""Which requests are warned of, and what an empty or an unchanged listing means."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core.config import Filters, ListRequest
from airflow_dataflux.core.errors import EmptyListingError, SkippedError
from airflow_dataflux.core.listing.expectations import can_match, check_result, signs_of_mistakes
from airflow_dataflux.testing.objects_list import glob_pattern


def signs(glob: str | None = None, *prefixes: str) -> str:
    request = ListRequest(bucket="data", prefixes=prefixes or ("",), filters=Filters(match_glob=glob))
    return "\n".join(signs_of_mistakes(request))


@pytest.mark.parametrize(
    ("prefix", "meant"),
    [
        ("/train/", "'train/' may be meant"),
        ("gs://data/train/", "'train/' may be meant"),
        ("gs://other/train/", "'train/' may be meant"),
        ("train/*.jpg", "patterns go into match_glob"),
        ("{{ ds }}/", "a template that was not rendered"),
    ],
)
def test_a_prefix_that_no_name_begins_with_is_probably_a_mistake(prefix: str, meant: str) -> None:
    assert meant in signs(None, prefix)
    assert signs(None, "train/") == ""


@pytest.mark.parametrize("glob", ["*.jpg", "val/**", "train/*", "/train/**", "tr?in/a", "{a,b}/**", "train/[ab]"])
def test_a_glob_that_excludes_every_name_of_the_prefix_is_probably_a_mistake(glob: str) -> None:
    assert "matches no name that begins with 'train/deep/'" in signs(glob, "train/deep/")
    assert signs(glob.lstrip("/"), "") == ""


@pytest.mark.parametrize(
    "glob",
    ["**.jpg", "train/**", "**/x", "train/deep/*", "*/deep/*", "{val,train}/**", "tr?in/[dx]eep/**", "train/d**"],
)
def test_a_glob_that_can_match_is_no_mistake(glob: str) -> None:
    assert signs(glob, "train/deep/") == ""
    assert signs(glob, "no/", "train/deep/") == ""


PIECES = st.lists(st.sampled_from(["a", "b", "/", "*", "**", "**/", "?", "[ab]", "{a,b/}", "\\*"]), max_size=6)


@given(PIECES.map("".join), st.text("ab/*", max_size=6), st.integers(0, 6))
def test_a_glob_that_matches_a_name_can_match_each_of_its_prefixes(glob: str, name: str, length: int) -> None:
    if glob_pattern(glob).fullmatch(name):
        assert can_match(glob, name[:length])


def result(count: int, *, fingerprint: str = "f", **dropped: int) -> Any:
    return SimpleNamespace(
        object_count=count, total_bytes=10 * count, fingerprint=fingerprint, stats={"dropped": dropped}
    )


def request(**changes: Any) -> ListRequest:
    return ListRequest(bucket="data", prefixes=("/train/",), **changes)


def test_an_empty_listing_is_warned_of_with_its_probable_cause(caplog: pytest.LogCaptureFixture) -> None:
    check_result(request(), result(0))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "gs://data//train/ found nothing, which is probably a mistake" in caplog.text
    assert "'train/' may be meant" in caplog.text
    check_result(request(), result(0, min_bytes=1200))
    assert "All 1,200 objects there were left out: 1,200 by min_bytes" in caplog.text
    check_result(request(), result(0, min_bytes=1))
    assert "The only object there was left out: 1 by min_bytes" in caplog.text


def test_an_empty_listing_ends_before_anything_is_published_where_that_is_asked_for() -> None:
    with pytest.raises(EmptyListingError, match="Nothing was published"):
        check_result(request(on_empty="fail"), result(0))
    with pytest.raises(SkippedError, match="Nothing was published"):
        check_result(request(on_empty="skip"), result(0))
    check_result(request(on_empty="fail"), result(1))


def test_an_unchanged_listing_is_skipped_where_that_is_asked_for() -> None:
    with pytest.raises(SkippedError, match="Nothing changed") as skipped:
        check_result(request(unchanged_fingerprint="f"), result(3))
    assert (skipped.value.object_count, skipped.value.total_bytes) == (3, 30)
    check_result(request(unchanged_fingerprint="g"), result(1))
