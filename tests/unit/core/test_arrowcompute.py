"""Arrow's functions by name give what `pyarrow.compute` gives."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from airflow_dataflux.core import arrowcompute
from airflow_dataflux.core.arrowcompute import cast, compute

TEXTS = pa.array(["", "a", "data/ä/1.jpg", "data/\n", None, "DATA/x/"])
NUMBERS = pa.array([3, None, -7, 2**62])


def test_each_function_is_that_of_pyarrow_compute() -> None:
    assert compute("less", NUMBERS[:-1], NUMBERS[1:]) == pc.less(NUMBERS[:-1], NUMBERS[1:])
    assert arrowcompute.is_in(TEXTS, TEXTS[1:3]) == pc.is_in(TEXTS, value_set=TEXTS[1:3])
    assert arrowcompute.starts_with(TEXTS, "data/") == pc.starts_with(TEXTS, "data/")
    assert arrowcompute.ends_with(TEXTS, "/") == pc.ends_with(TEXTS, "/")
    assert arrowcompute.matches(TEXTS, "^data") == pc.match_substring_regex(TEXTS, "^data", ignore_case=True)
    assert arrowcompute.without_prefix(TEXTS, "data/ä") == pc.utf8_slice_codeunits(TEXTS, 6)
    assert arrowcompute.without_prefix(TEXTS, "") is TEXTS
    assert arrowcompute.lines(pa.array(["a\nb\n"])).to_pylist() == ["a", "b", ""]
    assert arrowcompute.indices(pa.array([True, None, False, True])) == [0, 3]


def test_a_total_leaves_out_what_is_null_and_is_zero_of_nothing() -> None:
    assert arrowcompute.total(NUMBERS) == 3 - 7 + 2**62
    assert arrowcompute.total(NUMBERS[:0]) == 0
    assert arrowcompute.total(pa.chunked_array([NUMBERS, NUMBERS[:1]])) == 6 - 7 + 2**62


def test_a_safe_cast_refuses_what_does_not_fit() -> None:
    assert cast(NUMBERS, pa.float64(), safe=False) == pc.cast(NUMBERS, pa.float64(), safe=False)
    with pytest.raises(pa.ArrowInvalid):
        cast(NUMBERS, pa.int8())


def test_what_arrow_does_not_know_is_an_error() -> None:
    with pytest.raises(KeyError, match="no_such_function"):
        compute("no_such_function", NUMBERS)
