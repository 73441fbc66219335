"""Values made from memory are those that pyarrow would make, and functions by name those of `pyarrow.compute`."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from airflow_dataflux.core import arrow
from airflow_dataflux.core.arrow import ROW_SCHEMA, cast, column, compute, from_buffers, number, tally

TIME = ROW_SCHEMA.field("updated").type


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.string(), ["", "a", "für", "\U0001f9ea", "b" * 300]),
        (pa.string(), ["x", None, "", None]),
        (pa.string(), [None]),
        (pa.int64(), [0, -1, 2**63 - 1, -(2**63)]),
        (pa.uint32(), [None, 2**32 - 1, *[7] * 20, None]),
        (pa.uint64(), [2**64 - 1]),
        (pa.float64(), [0.5, None]),
        *((field.type, []) for field in ROW_SCHEMA),
    ],
    ids=str,
)
def test_a_column_is_what_pyarrow_makes_of_the_values(kind: pa.DataType, values: list) -> None:
    made = column(values, kind)
    made.validate(full=True)
    assert made == pa.array(values, kind)
    assert made.null_count == values.count(None)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.string(), 5),
        (pa.string(), b"a"),
        (pa.string(), "\ud800"),
        (pa.int64(), 2**63),
        (pa.int64(), "5"),
        (pa.uint32(), -1),
    ],
)
def test_a_value_of_another_kind_is_an_error(kind: pa.DataType, value: object) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        column([value], kind)


def test_a_number_is_a_scalar_of_its_kind() -> None:
    assert number(-7, pa.int64()) == pa.scalar(-7, pa.int64())
    assert number(0.5, pa.float64()) == pa.scalar(0.5, pa.float64())
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    assert number(round(moment.timestamp() * 1e6), TIME).as_py() == moment


@pytest.mark.parametrize("make", [number, lambda value, kind: column([value], kind)], ids=["number", "column"])
def test_a_type_whose_values_are_not_made_is_an_error_that_names_those_that_are(make: Any) -> None:
    with pytest.raises(TypeError, match=r"type int32 are not made here, only of int64, timestamp\[us, tz=UTC\], "):
        make(5, pa.int32())


def test_keys_are_tallied_with_their_numbers() -> None:
    numbers = from_buffers(pa.int64(), 4, pa.array([1, 2, 3, 4]).buffers()[1])
    assert tally(column(["A", "A", "A", "A"], pa.string()), numbers) == {"A": (4, 10)}
    assert tally(column(["B", "A", "B", "B"], pa.string()), numbers) == {"B": (3, 8), "A": (1, 2)}
    assert tally(column([], pa.string()), numbers[:0]) == {}


def test_none_of_it_imports_pandas() -> None:
    program = (
        "import sys, pyarrow as pa\n"
        "from airflow_dataflux.core.arrow import column, number, tally\n"
        "numbers = column([1, None, 3], pa.int64())\n"
        "tally(column(['A', 'B', 'A'], pa.string()), numbers)\n"
        "assert number(3, pa.int64()).as_py() == 3 and 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


TEXTS = pa.array(["", "a", "data/ä/1.jpg", "data/\n", None, "DATA/x/"])
NUMBERS = pa.array([3, None, -7, 2**62])


def test_each_function_is_that_of_pyarrow_compute() -> None:
    assert compute("less", NUMBERS[:-1], NUMBERS[1:]) == pc.less(NUMBERS[:-1], NUMBERS[1:])
    assert arrow.is_in(TEXTS, TEXTS[1:3]) == pc.is_in(TEXTS, value_set=TEXTS[1:3])
    assert arrow.starts_with(TEXTS, "data/") == pc.starts_with(TEXTS, "data/")
    assert arrow.ends_with(TEXTS, "/") == pc.ends_with(TEXTS, "/")
    assert arrow.matches(TEXTS, "^data") == pc.match_substring_regex(TEXTS, "^data", ignore_case=True)
    assert arrow.without_prefix(TEXTS, "data/ä") == pc.utf8_slice_codeunits(TEXTS, 6)
    assert arrow.without_prefix(TEXTS, "") is TEXTS
    assert arrow.lines(pa.array(["a\nb\n"])).to_pylist() == ["a", "b", ""]
    assert arrow.indices(pa.array([True, None, False, True])) == [0, 3]


def test_a_total_leaves_out_what_is_null_and_is_zero_of_nothing() -> None:
    assert arrow.total(NUMBERS) == 3 - 7 + 2**62
    assert arrow.total(NUMBERS[:0]) == 0
    assert arrow.total(pa.chunked_array([NUMBERS, NUMBERS[:1]])) == 6 - 7 + 2**62


def test_a_safe_cast_refuses_what_does_not_fit() -> None:
    assert cast(NUMBERS, pa.float64(), safe=False) == pc.cast(NUMBERS, pa.float64(), safe=False)
    with pytest.raises(pa.ArrowInvalid):
        cast(NUMBERS, pa.int8())


def test_what_arrow_does_not_know_is_an_error() -> None:
    with pytest.raises(KeyError, match="no_such_function"):
        compute("no_such_function", NUMBERS)
