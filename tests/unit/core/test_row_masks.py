"""Globs and expressions that are evaluated here agree with those of the embedded server, which the service's are."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core.arrow import column, matches_expression
from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.row_masks import expression_of, regex_mask
from airflow_dataflux.testing.http_messages import ApiError
from airflow_dataflux.testing.objects_list import glob_pattern

names = st.lists(st.text(st.sampled_from("ab/.1é^-!][{},\\*"), min_size=1, max_size=8), min_size=1, max_size=8)
PIECES = "* ** **/ ? [ab] [!a] [^b] [a-c] {a,b} {a/,} a b / . \\* é 1 ,"
pieces = st.sampled_from(PIECES.split())


@given(st.lists(pieces, max_size=6).map("".join), names)
def test_a_glob_matches_what_the_service_s_glob_matches(glob: str, named: list[str]) -> None:
    found = matches_expression(column(named, pa.string()), expression_of([glob])).to_pylist()
    assert found == [glob_pattern(glob).fullmatch(name) is not None for name in named]


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("**.jpg", "a/b.jpg", "a/b.jpeg"),
        ("a/*.jpg", "a/b.jpg", "a/b/c.jpg"),
        ("a/**/b", "a/b", "ab"),
        ("*.{jpg,png}", "x.png", "x.gif"),
        ("[a-c]?", "b1", "d1"),
        (r"a\*", "a*", "ab"),
    ],
)
def test_globs_by_example(glob: str, yes: str, no: str) -> None:
    assert matches_expression(column([yes, no], pa.string()), expression_of([glob])).to_pylist() == [True, False]


def test_one_of_several_globs_is_enough() -> None:
    assert matches_expression(column(["a", "b", "c"], pa.string()), expression_of(["a", "b"])).to_pylist() == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("glob", ["[a", "{a,b", "[z-a]"])
def test_a_glob_that_is_none_is_refused(glob: str) -> None:
    with pytest.raises(InvalidRequestError, match="glob"):
        expression_of([glob])
    with pytest.raises(ApiError):
        glob_pattern(glob)


def test_an_expression_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="match_regex"):
        regex_mask("(")
