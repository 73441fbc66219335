"""Values made from memory are those that pyarrow would make."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from airflow_dataflux.core.arrowvalues import column, from_buffers, number, tally
from airflow_dataflux.core.rowschema import ROW_SCHEMA

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


def test_keys_are_tallied_with_their_numbers() -> None:
    numbers = from_buffers(pa.int64(), 4, pa.array([1, 2, 3, 4]).buffers()[1])
    assert tally(column(["A", "A", "A", "A"], pa.string()), numbers) == {"A": (4, 10)}
    assert tally(column(["B", "A", "B", "B"], pa.string()), numbers) == {"B": (3, 8), "A": (1, 2)}
    assert tally(column([], pa.string()), numbers[:0]) == {}


def test_none_of_it_imports_pandas() -> None:
    program = (
        "import sys, pyarrow as pa\n"
        "from airflow_dataflux.core.arrowvalues import column, number, tally\n"
        "numbers = column([1, None, 3], pa.int64())\n"
        "tally(column(['A', 'B', 'A'], pa.string()), numbers)\n"
        "assert number(3, pa.int64()).as_py() == 3 and 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
