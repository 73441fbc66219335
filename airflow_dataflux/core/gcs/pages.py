"""How the JSON of an objects.list page becomes Arrow columns at little cost.

A listing of a million objects decodes a thousand pages, so this is the hottest path of the project. What it costs and
why: one pass of a typed JSON decoder, one transposition, then one call a column. Times are read by one vectorised cast,
and a column whose values are all the same (storage class, often content type) is recognised by one comparison.
`pyarrow.array` is avoided on the usual path: for numbers it is slower than the two buffers behind a column, and it
imports pandas (`core/arrow.py`). Columns whose values are all the same, or absent, are made once and shared:
Arrow data is immutable.

Arrow is imported with this module, and this module with the first page that has arrived.

Guarantees: rows sorted and unique by name, in ROW_SCHEMA; a page without objects gives an empty batch, and may have a
token; an object without a CRC32C (CMEK) gives null; one without a size is empty (some servers leave out what is zero).
Raises ValueError for anything that does not call itself such a page, an object without name or generation included: a
row that is guessed would be worse than an error, and a page taken from another's JSON would be a hole in a listing.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects/list.
"""

from __future__ import annotations

import array
import functools
import itertools
import operator
import struct
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import pyarrow as pa

from airflow_dataflux.core.arrow import ROW_SCHEMA, cast, column, from_buffers, lines
from airflow_dataflux.core.gcs.store import Page

_Crc32c = Annotated[bytes, msgspec.Meta(min_length=4, max_length=4)]
"""Base64 in the JSON, decoded by msgspec."""


_Count = Annotated[int, msgspec.Meta(ge=0)]
_Name = Annotated[str, msgspec.Meta(max_length=1024)]
"""Names have at most 1,024 bytes (https://cloud.google.com/storage/docs/objects#naming)."""

_Text = Annotated[str, msgspec.Meta(max_length=2048)]
"""A quarter of the bytes that a reader of manifests takes, for the longest characters have four."""


class _Item(msgspec.Struct, gc=False, frozen=True):
    """The properties under the names of the JSON API."""

    name: _Name
    generation: _Count
    updated: str
    size: _Count = 0
    crc32c: _Crc32c | None = None
    storageClass: _Text = "STANDARD"  # noqa: N815 - renaming costs nothing, but hides that these are the API's names
    contentType: _Text | None = None  # noqa: N815
    contentEncoding: _Text | None = None  # noqa: N815


class _Page(msgspec.Struct, gc=False):
    kind: Literal["storage#objects"]
    items: list[_Item] = []
    prefixes: tuple[str, ...] = ()
    nextPageToken: str | None = None  # noqa: N815


_PAGE = msgspec.json.Decoder(_Page, strict=False)  # not strict: 64-bit numbers come as strings
_TEXT = pa.string()
_TIME = ROW_SCHEMA.field("updated").type
_CRC32C = ROW_SCHEMA.field("crc32c").type
_EMPTY = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in ROW_SCHEMA], schema=ROW_SCHEMA)


def decode_page(body: bytes) -> Page:
    """Turn the JSON of one page into rows. Raises ValueError if it is not a page."""
    page = _PAGE.decode(body)
    token = page.nextPageToken or None
    items = page.items
    if not items:
        return Page(rows=_EMPTY, next_page_token=token, directories=page.prefixes)
    # A column at a time, each by a comprehension: half the time of attrgetters, and less than that of a tuple an item.
    names = [item.name for item in items]
    _check_order(names)
    arrays = [
        _name_column(names),
        _integer_column([item.size for item in items]),
        _integer_column([item.generation for item in items]),
        _crc32c_column([item.crc32c for item in items]),
        _text_column([item.storageClass for item in items]),
        _time_column([item.updated for item in items]),
        _text_column([item.contentType for item in items]),
        _text_column([item.contentEncoding for item in items]),
    ]
    rows = pa.RecordBatch.from_arrays(arrays, schema=ROW_SCHEMA)
    return Page(rows=rows, next_page_token=token, directories=page.prefixes)


def check_token(page: Page, page_token: str | None) -> None:
    """Raise ValueError for a page that leads to itself: a listing that asked with this token would never end."""
    if page_token is not None and page.next_page_token == page_token:
        raise ValueError("its page token is the one that it was asked for with, so the listing would never end")


def _check_order(names: Sequence[str]) -> None:
    """Raise ValueError for names out of order, which would be taken for names of other ranges.

    Python compares texts by code points, as the service does by the bytes of UTF-8: the order is the same.
    """
    if not all(map(operator.lt, names, itertools.islice(names, 1, None))):
        before, after = next(pair for pair in itertools.pairwise(names) if pair[0] >= pair[1])
        raise ValueError(f"its names are not sorted and unique: {after!r} follows {before!r}")


def _integer_column(values: Sequence[int]) -> pa.Array:
    """Return 64-bit integers. Raises ValueError for larger ones."""
    try:
        # Takes less than half the time of `array.array`.
        return from_buffers(pa.int64(), len(values), struct.pack(f"<{len(values)}q", *values))
    except struct.error as error:
        raise ValueError("a number in the page has more than 64 bits") from error


def _name_column(values: Sequence[str]) -> pa.Array:
    """Return texts that may all differ. Raises UnicodeEncodeError (a ValueError) for half a surrogate pair."""
    count, width = len(values), len(values[0])
    if width == len(values[-1]) == len(values[count // 2]) and set(map(len, values)) == {width}:
        joined = "".join(values).encode()
        if len(joined) == width * count:  # ASCII
            return from_buffers(_TEXT, count, _even_ends(width, count), joined)
    # Joined in Python, split by Arrow: no call a value. Names hold no line ends; were there one, the counts differ.
    joined = "\n".join(values).encode()
    whole = from_buffers(_TEXT, 1, array.array("i", (0, len(joined))), joined)
    parts = lines(whole)
    return parts if len(parts) == len(values) else column(values, _TEXT)


def _text_column(values: Sequence[str | None]) -> pa.Array:
    """Return texts, or nulls, that are often all the same."""
    first = values[0]
    if values.count(first) == len(values):
        return _same_texts(first, len(values))
    if None not in values:
        return _name_column(values)  # type: ignore[arg-type]  # just checked
    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def _time_column(values: Sequence[str]) -> pa.Array:
    """Return the times of RFC 3339 texts. Raises ArrowInvalid (a ValueError) for other texts."""
    texts = _name_column(values)
    try:
        return cast(texts, _TIME)
    except pa.ArrowInvalid:
        # More than six decimals; Cloud Storage sends three, but RFC 3339 allows any number.
        return cast(cast(texts, pa.timestamp("ns", tz="UTC")), _TIME, safe=False)


def _crc32c_column(values: Sequence[bytes | None]) -> pa.Array:
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
    return from_buffers(_TEXT, count, _even_ends(len(data), count), data * count)


@functools.lru_cache(maxsize=256)
def _even_ends(width: int, count: int) -> array.array[int]:
    """Return where texts of the same length end, as Arrow has it."""
    return array.array("i", itertools.accumulate(itertools.repeat(width, count), initial=0))
