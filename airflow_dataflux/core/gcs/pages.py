"""Pages of objects.list: how they are asked for, and how their JSON becomes Arrow columns at little cost.

A listing of a million objects decodes a thousand pages, so this is the hottest path of the project. What it costs and
why, measured on pages of 1,000 objects: one pass of a typed JSON decoder, one transposition, then one call a column.
CRC32Cs are decoded from base64 by one call for the whole page, times by one vectorised cast, and a column whose
values are all the same (storage class, often content type) by one comparison and one repetition.

Guarantees: rows in the server's order, in ROW_SCHEMA; a page without objects gives an empty batch and may still have a
token; an object without a CRC32C (CMEK) gives null. Raises ValueError for anything that is not such a page, an object
without name, size or generation included: a row that is guessed would be worse than an error.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects/list.
"""

from __future__ import annotations

import binascii
import functools
import struct
from collections.abc import Sequence

import msgspec
import pyarrow as pa

from airflow_dataflux.core.gcs.operations import path_segment, query
from airflow_dataflux.core.gcs.resources import OBJECT_FIELDS
from airflow_dataflux.core.gcs.store import Page, PageRequest
from airflow_dataflux.core.model import ROW_SCHEMA

_FIELDS = f"items({OBJECT_FIELDS}),nextPageToken"
"""A projected item is about 200 bytes, a full one 700-900; nextPageToken must be named or it is left out."""

_UPDATED = ROW_SCHEMA.field("updated").type


def page_target(bucket: str, request: PageRequest, user_project: str | None) -> str:
    """Return path and query of one objects.list call."""
    return f"/storage/v1/b/{path_segment(bucket)}/o" + query(
        (
            ("prefix", request.prefix or None),
            ("startOffset", request.start or None),
            ("endOffset", request.end),
            ("matchGlob", request.match_glob),
            ("maxResults", request.max_results),
            ("pageToken", request.page_token),
            ("projection", "noAcl"),
            ("fields", _FIELDS),
            ("prettyPrint", "false"),
            ("userProject", user_project),
        )
    )


class _Item(msgspec.Struct, gc=False, frozen=True):
    """The properties in the order of ROW_SCHEMA, under the names of the JSON API."""

    name: str
    size: int
    generation: int
    updated: str
    crc32c: str | None = None
    storageClass: str = "STANDARD"  # noqa: N815 - renaming costs nothing, but hides that these are the API's names
    contentType: str | None = None  # noqa: N815
    contentEncoding: str | None = None  # noqa: N815


class _Page(msgspec.Struct, gc=False):
    items: list[_Item] = []
    nextPageToken: str | None = None  # noqa: N815


_PAGE = msgspec.json.Decoder(_Page, strict=False)  # not strict: 64-bit numbers come as strings
_EMPTY = pa.RecordBatch.from_pylist([], schema=ROW_SCHEMA)


def decode_page(body: bytes) -> Page:
    """Turn the JSON of one page into rows. Raises ValueError if it is not a page."""
    page = _PAGE.decode(body)
    token = page.nextPageToken or None
    if not page.items:
        return Page(rows=_EMPTY, next_page_token=token)
    names, sizes, generations, updated, crc32c, classes, types, encodings = zip(
        *map(msgspec.structs.astuple, page.items), strict=True
    )
    columns = [
        pa.array(names, pa.string()),
        pa.array(sizes, pa.int64()),
        pa.array(generations, pa.int64()),
        _crc32c_column(crc32c),
        _text_column(classes),
        _time_column(updated),
        _text_column(types),
        _text_column(encodings),
    ]
    return Page(rows=pa.RecordBatch.from_arrays(columns, schema=ROW_SCHEMA), next_page_token=token)


def _text_column(values: Sequence[str | None]) -> pa.Array:
    first = values[0]
    if values.count(first) != len(values):
        return pa.array(values, pa.string())
    return pa.nulls(len(values), pa.string()) if first is None else pa.repeat(first, len(values))


def _time_column(values: Sequence[str]) -> pa.Array:
    texts = pa.array(values, pa.string())
    try:
        return texts.cast(_UPDATED)
    except pa.ArrowInvalid:
        # More than six decimals; Cloud Storage sends three, but RFC 3339 allows any number.
        return texts.cast(pa.timestamp("ns", tz="UTC")).cast(_UPDATED, safe=False)


def _crc32c_column(values: Sequence[str | None]) -> pa.Array:
    try:
        joined = "".join(values)  # type: ignore[arg-type]  # None raises, and is rare
    except TypeError:
        return _crc32c_column_with_gaps(values)
    return pa.array(_crc32c_of_page(joined, len(values)), pa.uint32())


def _crc32c_of_page(joined: str, count: int) -> tuple[int, ...]:
    """Decode `count` CRC32Cs whose base64 forms were joined.

    Each is six characters and the padding `==`. With the padding written as `AA` (zeros) the whole is one valid base64
    text, in which each CRC32C is four bytes followed by two of nothing.
    """
    raw = binascii.a2b_base64(joined.replace("==", "AA"), strict_mode=True)
    if len(joined) != 8 * count or len(raw) != 6 * count:
        raise ValueError("a crc32c in the page is not the base64 form of four bytes")
    return _six_byte_records(count).unpack(raw)


def _crc32c_column_with_gaps(values: Sequence[str | None]) -> pa.Array:
    present = [value for value in values if value]
    decoded = iter(_crc32c_of_page("".join(present), len(present)))
    return pa.array([next(decoded) if value else None for value in values], pa.uint32())


@functools.lru_cache(maxsize=8)
def _six_byte_records(count: int) -> struct.Struct:
    return struct.Struct(">" + "Ixx" * count)
