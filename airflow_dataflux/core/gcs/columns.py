"""Arrow columns from the values of one page, by one call a column.

`pyarrow.array` is avoided on the usual path: for numbers it is slower than the two buffers behind a column, and it
imports pandas (`core/arrowvalues.py`). Columns whose values are all the same, or absent, are made once and shared:
Arrow data is immutable.
"""

from __future__ import annotations

import array
import functools
from collections.abc import Sequence

import pyarrow as pa

from airflow_dataflux.core.arrowcompute import cast, lines
from airflow_dataflux.core.arrowvalues import column, from_buffers
from airflow_dataflux.core.rowschema import ROW_SCHEMA

_TEXT = pa.string()
_TIME = ROW_SCHEMA.field("updated").type
_CRC32C = ROW_SCHEMA.field("crc32c").type


def integer_column(values: Sequence[int]) -> pa.Array:
    """Return 64-bit integers. Raises ValueError for larger ones."""
    try:
        return from_buffers(pa.int64(), len(values), array.array("q", values))
    except OverflowError as error:
        raise ValueError("a number in the page has more than 64 bits") from error


def name_column(values: Sequence[str]) -> pa.Array:
    """Return texts that may all differ. Raises UnicodeEncodeError (a ValueError) for half a surrogate pair."""
    # Joined in Python, split by Arrow: no call a value. Names hold no line ends; were there one, the counts differ.
    joined = "\n".join(values).encode()
    whole = from_buffers(_TEXT, 1, array.array("i", (0, len(joined))), joined)
    parts = lines(whole)
    return parts if len(parts) == len(values) else column(values, _TEXT)


def text_column(values: Sequence[str | None]) -> pa.Array:
    """Return texts, or nulls, that are often all the same."""
    first = values[0]
    if values.count(first) == len(values):
        return _same_texts(first, len(values))
    if None not in values:
        return name_column(values)  # type: ignore[arg-type]  # just checked
    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def time_column(values: Sequence[str]) -> pa.Array:
    """Return the times of RFC 3339 texts. Raises ArrowInvalid (a ValueError) for other texts."""
    texts = name_column(values)
    try:
        return cast(texts, _TIME)
    except pa.ArrowInvalid:
        # More than six decimals; Cloud Storage sends three, but RFC 3339 allows any number.
        return cast(cast(texts, pa.timestamp("ns", tz="UTC")), _TIME, safe=False)


def crc32c_column(values: Sequence[bytes | None]) -> pa.Array:
    """Return the CRC32Cs, each of four bytes in big-endian order; null where there is none."""
    try:
        numbers = array.array("I", b"".join(values))  # type: ignore[arg-type]  # a None raises TypeError
    except TypeError:
        return column([None if value is None else int.from_bytes(value, "big") for value in values], _CRC32C)
    numbers.byteswap()  # Arrow's layout, and so this whole project's, is little-endian
    return from_buffers(_CRC32C, len(values), numbers)


@functools.lru_cache(maxsize=256)
def _same_texts(value: str | None, count: int) -> pa.Array:
    if value is None:
        return pa.nulls(count, _TEXT)
    data = value.encode()
    ends = array.array("i", (len(data) * number for number in range(count + 1)))
    return from_buffers(_TEXT, count, ends, data * count)
