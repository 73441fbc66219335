"""Arrow as this project uses it: the schema of listed objects, compute functions by name, values from plain memory.

The schema's columns are the properties of `model.Row`; whoever imports this imports Arrow, which takes longer than a
request, so `Row` is apart.

`pyarrow.compute` makes a documented Python function of each of 300 when it is imported, which takes 35 ms of the 250 of
a listing's imports, in every process. What those functions call is taken from where they have it. Methods of arrays
that compute (`sum`, `cast`, `filter`, `take`, …) import `pyarrow.compute`, too. Results lie in the system's memory:
Arrow's own allocator keeps some MB for every thread that ever used it.

`pyarrow.array`, `pyarrow.scalar`, grouping, and every compute function that is given a Python value import pandas where
it is installed, as it is beside Airflow's Google provider. That costs each process half a second of processor time and
30 MB (pyarrow's `pandas-shim.pxi`; tests hold that it does not happen), so values are made from memory here.

Source: https://arrow.apache.org/docs/cpp/compute.html#available-functions names the functions and their options.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pyarrow as pa
from pyarrow._compute import (
    CastOptions,
    FunctionOptions,
    MatchSubstringOptions,
    SetLookupOptions,
    SliceOptions,
    SplitPatternOptions,
    call_function,
)

from airflow_dataflux.core.model import EPOCH, Row

ROW_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("generation", pa.int64(), nullable=False),
        pa.field("crc32c", pa.uint32()),  # null: not known from the listing (CMEK objects)
        pa.field("storage_class", pa.string(), nullable=False),
        pa.field("updated", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("content_type", pa.string()),
        pa.field("content_encoding", pa.string()),
    ]
)

_CODES = {
    pa.int64(): "q",
    pa.timestamp("us", tz="UTC"): "q",
    pa.uint64(): "Q",
    pa.uint32(): "I",
    pa.uint8(): "B",
    pa.float64(): "d",
}

_POOL = pa.system_memory_pool()
_AT_LINE_ENDS = SplitPatternOptions("\n")


def compute(function: str, *values: Any, options: FunctionOptions | None = None) -> Any:
    """Return the result of a function: `compute("less", before, after)`. Values are Arrow's, never Python's."""
    return call_function(function, list(values), options, _POOL)


def cast(values: pa.Array, kind: pa.DataType, *, safe: bool = True) -> pa.Array:
    """Return the values as another type. Raises ArrowInvalid (a ValueError) for one that does not fit if `safe`."""
    return compute("cast", values, options=CastOptions.safe(kind) if safe else CastOptions.unsafe(kind))


def total(numbers: pa.Array) -> int:
    """Return the sum of integers, 0 where there are none."""
    value: int | None = compute("sum", numbers).as_py()
    return value or 0


def is_in(values: pa.Array, among: pa.Array) -> pa.Array:
    """Return a boolean for each value: it is among the others."""
    return compute("is_in", values, options=SetLookupOptions(among))


def starts_with(texts: pa.Array, prefix: str) -> pa.Array:
    """Return a boolean for each text."""
    return compute("starts_with", texts, options=MatchSubstringOptions(prefix))


def ends_with(texts: pa.Array, suffix: str) -> pa.Array:
    """Return a boolean for each text."""
    return compute("ends_with", texts, options=MatchSubstringOptions(suffix))


def last_bytes(texts: pa.Array, count: int) -> pa.Array:
    """Return the last bytes of each text, as binary values."""
    return compute("binary_slice", texts.view(pa.binary()), options=SliceOptions(-count))


def matches(texts: pa.Array, pattern: str) -> pa.Array:
    """Return a boolean for each text: an RE2 pattern, in which case does not matter, occurs in it."""
    return compute("match_substring_regex", texts, options=MatchSubstringOptions(pattern, ignore_case=True))


def matches_expression(texts: pa.Array, expression: str) -> pa.Array:
    """Return a boolean for each text: the expression of RE2 occurs in it. Raises ArrowInvalid for one that is none."""
    return compute("match_substring_regex", texts, options=MatchSubstringOptions(expression))


def without_prefix(texts: pa.Array, prefix: str) -> pa.Array:
    """Return the texts without their first characters, as many as `prefix` has."""
    return compute("utf8_slice_codeunits", texts, options=SliceOptions(len(prefix))) if prefix else texts


def lines(text: pa.Array) -> pa.Array:
    """Return the lines of one text."""
    return compute("split_pattern", text, options=_AT_LINE_ENDS).values


def indices(flags: pa.Array) -> list[int]:
    """Return where the flags are true."""
    found: list[int] = compute("indices_nonzero", flags).to_pylist()
    return found


def from_buffers(kind: pa.DataType, count: int, *buffers: Any) -> pa.Array:
    """Return `count` values, none of them null, that lie in `buffers` (bytes, bytearrays, arrays) as Arrow has them."""
    return pa.Array.from_buffers(kind, count, [None, *map(pa.py_buffer, buffers)])


def number(value: float, kind: pa.DataType) -> pa.Scalar:
    """Return one number; a timestamp is given in microseconds since 1970.

    Raises TypeError for a type other than int64, uint64, uint32, uint8, float64 and a row's timestamp.
    """
    return from_buffers(kind, 1, _numbers((value,), kind))[0]


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return texts or numbers (see `number`), or nulls where there is None. For few: `core/gcs/pages.py` is faster.

    Raises TypeError or ValueError or OverflowError for values of another kind, and TypeError for a kind of numbers that
    `number` does not make.
    """
    if kind == pa.string():
        encoded = [b"" if value is None else str.encode(value) for value in values]
        ends = array("i", itertools.accumulate(map(len, encoded), initial=0))
        buffers = [ends, b"".join(encoded)]
    else:
        buffers = [_numbers([0 if value is None else value for value in values], kind)]
    present = None
    if None in values:
        bits = sum(1 << place for place, value in enumerate(values) if value is not None)
        present = pa.py_buffer(bits.to_bytes(len(values) // 8 + 1, "little"))
    return pa.Array.from_buffers(kind, len(values), [present, *map(pa.py_buffer, buffers)])


def _numbers(values: Sequence[float], kind: pa.DataType) -> array[Any]:
    if kind not in _CODES:
        known = ", ".join(map(str, _CODES))
        raise TypeError(
            f"Values of Arrow's type {kind} are not made here, only of {known}. Arrow compares values of different "
            "types, so one of these will do."
        )
    return array(_CODES[kind], values)


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


def rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    """Yield the rows of a batch in `ROW_SCHEMA`, at about 2 CPU-seconds per million."""
    # Microseconds, because Arrow's own conversion of a timestamp with a zone takes longer than all other columns.
    columns = [
        batch.column(field.name).view(pa.int64()) if field.name == "updated" else batch.column(field.name)
        for field in ROW_SCHEMA
    ]
    for name, size, generation, crc32c, storage_class, updated, content_type, content_encoding in zip(
        *(column.to_pylist() for column in columns), strict=True
    ):
        yield Row(
            name=name,
            size=size,
            generation=generation,
            crc32c=crc32c,
            storage_class=storage_class,
            updated=EPOCH + timedelta(microseconds=updated),
            content_type=content_type,
            content_encoding=content_encoding,
        )
