"""Arrow's compute functions, called by their names in Arrow's own registry.

`pyarrow.compute` makes a documented Python function of each of 300 when it is imported, which takes 35 ms of the 250 of
a listing's imports, in every process. What those functions call is taken from where they have it. Methods of arrays
that compute (`sum`, `cast`, `filter`, `take`, …) import `pyarrow.compute`, too.

Results lie in the system's memory: Arrow's own allocator keeps some MB for every thread that ever used it.

Source: https://arrow.apache.org/docs/cpp/compute.html#available-functions names the functions and their options.
"""

from __future__ import annotations

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


def matches(texts: pa.Array, pattern: str) -> pa.Array:
    """Return a boolean for each text: an RE2 pattern, in which case does not matter, occurs in it."""
    return compute("match_substring_regex", texts, options=MatchSubstringOptions(pattern, ignore_case=True))


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
