"""Arrow's values from plain memory, so that no process imports pandas.

`pyarrow.array`, `pyarrow.scalar`, grouping, and every compute function that is given a Python value import pandas where
it is installed, as it is beside Airflow's Google provider. That costs each process half a second of processor time and
30 MB (pyarrow's `pandas-shim.pxi`; a test of each way of this project holds that it does not happen).
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from airflow_dataflux.core.arrowcompute import compute, total

_CODES = {
    pa.int64(): "q",
    pa.timestamp("us", tz="UTC"): "q",
    pa.uint64(): "Q",
    pa.uint32(): "I",
    pa.uint8(): "B",
    pa.float64(): "d",
}


def from_buffers(kind: pa.DataType, count: int, *buffers: Any) -> pa.Array:
    """Return `count` values, none of them null, that lie in `buffers` (bytes, bytearrays, arrays) as Arrow has them."""
    return pa.Array.from_buffers(kind, count, [None, *map(pa.py_buffer, buffers)])


def number(value: float, kind: pa.DataType) -> pa.Scalar:
    """Return one number; a timestamp is given in microseconds since 1970."""
    return from_buffers(kind, 1, array(_CODES[kind], (value,)))[0]


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return texts or numbers (see `number`), or nulls where there is None. For few: `core/gcs/columns.py` is faster.

    Raises TypeError or ValueError or OverflowError for values of another kind.
    """
    if kind == pa.string():
        encoded = [b"" if value is None else str.encode(value) for value in values]
        ends = array("i", itertools.accumulate(map(len, encoded), initial=0))
        buffers = [ends, b"".join(encoded)]
    else:
        buffers = [array(_CODES[kind], [0 if value is None else value for value in values])]
    present = None
    if None in values:
        bits = sum(1 << place for place, value in enumerate(values) if value is not None)
        present = pa.py_buffer(bits.to_bytes(len(values) // 8 + 1, "little"))
    return pa.Array.from_buffers(kind, len(values), [present, *map(pa.py_buffer, buffers)])


def tally(keys: pa.StringArray, numbers: pa.Array) -> dict[str, tuple[int, int]]:
    """Return how often each key occurs, and the sum of its numbers. Keys are few, nearly always one; none is null."""
    if len(keys) == 0:
        return {}
    first = keys[0]
    if compute("equal", keys, first).true_count == len(keys):
        return {first.as_py(): (len(keys), total(numbers))}
    found = {}
    for key in compute("unique", keys):
        own = compute("equal", keys, key)
        found[key.as_py()] = (own.true_count, total(compute("filter", numbers, own)))
    return found
