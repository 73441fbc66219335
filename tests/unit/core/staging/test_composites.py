"""Names of composites: legal, told apart, found again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core.config import RunIdentity
from airflow_dataflux.core.ownobjects import parse_composite_name
from airflow_dataflux.core.staging.composites import CompositeNames, encode_segment

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=250)


@given(TEXT)
def test_any_text_becomes_one_legal_segment(text: str) -> None:
    encoded = encode_segment(text)
    assert 0 < len(encoded) <= 160
    assert encoded.isascii()
    assert not set(encoded) & set("/\r\n#?*[] ")
    assert encoded not in (".", "..")


@given(TEXT, TEXT)
def test_different_texts_become_different_segments(first: str, second: str) -> None:
    assert (encode_segment(first) == encode_segment(second)) == (first == second)


def test_long_texts_that_differ_only_at_their_end_stay_apart() -> None:
    assert encode_segment("x" * 300 + "a") != encode_segment("x" * 300 + "b")


@given(
    st.builds(
        RunIdentity, dag=TEXT, run=TEXT, task=TEXT, map_index=st.integers(-1, 10**6), try_number=st.integers(1, 999)
    )
)
def test_every_name_is_legal_lies_below_its_task_and_is_recognised(identity: RunIdentity) -> None:
    names = CompositeNames(composite_prefix="dataflux-composed-objects/", identity=identity)
    name = names.name(123, 1)
    assert len(name.encode()) <= 1024
    assert name.startswith(names.attempt_prefix)
    assert name.startswith(names.task_prefix)
    assert parse_composite_name(name, "dataflux-composed-objects/") is not None


def test_two_attempts_never_share_a_name() -> None:
    first, second = (CompositeNames(composite_prefix="c/", identity=RunIdentity()) for _ in range(2))
    assert first.name(0, 0) != second.name(0, 0)
    assert first.metadata != second.metadata


@pytest.mark.parametrize(
    "name",
    [
        "c/x",
        "c/dag/run/task/-1/1/short-0-0",
        "other/dag/run/task/-1/1/0123456789abcdef-0-0",
        "c/dag/run/task/one/1/0123456789abcdef-0-0",
    ],
)
def test_other_names_are_not_taken_for_composites(name: str) -> None:
    assert parse_composite_name(name, "c/") is None
