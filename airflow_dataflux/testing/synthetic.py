"""Ranges of synthetic objects: arithmetic instead of storage, and listing pages made by array operations.

A range of ten million objects takes a few kilobytes. A page is a matrix of bytes with one item a row: every field
of an item has a fixed width (where a number's width varies, JSON's insignificant space pads it), so that a page is
a copied template row and a few table lookups: about 0.1 ms per 1,000 projected items.

Contents are filler that ends in eight bytes of the object's own, so that their checksums come from tables
(`contents.tail_tables`) and still no two objects of a range have the same bytes, if they have at least four.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import numpy.typing as npt

from airflow_dataflux.testing.contents import (
    TAIL_BYTES,
    SyntheticContent,
    combine,
    crc32c,
    encode_crc32c,
    filler_crc32c,
    tail_tables,
)
from airflow_dataflux.testing.control_messages import SyntheticObjects
from airflow_dataflux.testing.http_messages import Projection, invalid
from airflow_dataflux.testing.object_record import ObjectRecord
from airflow_dataflux.testing.synthetic_names import (
    Bytes2D,
    Digits,
    Indices,
    OneOfLiterals,
    Piece,
    RowPlan,
    RowTable,
    Segment,
    mixed,
    segments_of,
)

_FIRST_GENERATION = 1_700_000_000_000_000
_FIRST_UPDATED = datetime(2024, 1, 1, tzinfo=UTC)
_SPREAD_S = 366 * 86_400
"""Synthetic objects were last changed at moments spread over the leap year 2024."""

MAX_COUNT = 1 << 31
"""Above this the index arithmetic of `names.mixed` would overflow an int64."""

_RESUMED_KEPT = 1 << 14
"""Names kept for `resume_name`: some for each of thousands of listings under way; about 3 MB."""


class SyntheticRange:
    """The objects of one SyntheticObjects: a read-only, sorted sequence."""

    def __init__(self, order: SyntheticObjects, *, endpoint: str) -> None:
        if not 0 < order.count < MAX_COUNT or not order.sizes or min(order.sizes) < 0:
            raise invalid(f"A synthetic range needs 1 to {MAX_COUNT - 1} objects and at least one size of 0 or more.")
        self.order = order
        self.count = order.count
        self._endpoint = endpoint
        self._prefix = order.prefix.encode()
        self._segments = segments_of(order.style, order.count, order.seed)
        self._sizes = np.array(order.sizes, np.int64)
        self._checksums = ChecksumColumn(order)
        self._plans: dict[int, list[RowPlan]] = {}
        self._resumed: dict[bytes, int] = {}
        self.first = self.name(0)
        self.last = self.name(self.count - 1)

    def name(self, index: int) -> bytes:
        """Return the name of one object."""
        for segment in self._segments:
            if index < segment.first + segment.count:
                return self._prefix + segment.name(index)
        raise IndexError(index)

    def lower_bound(self, name: bytes) -> int:
        """Return the first index whose name is not before `name`; the count if there is none."""
        if name in self._resumed:
            return self._resumed[name]
        if name <= self.first:
            return 0
        if name > self.last:
            return self.count
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if self.name(middle) < name:
                low = middle + 1
            else:
                high = middle
        return low

    def resume_name(self, index: int) -> bytes:
        """Return the name of the object with which a page token resumes, to be found again without a bisection."""
        if len(self._resumed) >= _RESUMED_KEPT:
            self._resumed.clear()
        name = self.name(index)
        self._resumed[name] = index
        return name

    def find(self, name: bytes) -> int | None:
        """Return the index of an object, None if there is no such name."""
        index = self.lower_bound(name)
        return index if index < self.count and self.name(index) == name else None

    def generation(self, index: int) -> int:
        """Return the generation of one object."""
        return _FIRST_GENERATION + index

    def size_of(self, index: int) -> int:
        """Return the size of one object."""
        return self.order.sizes[int(size_number(index, len(self.order.sizes)))]

    def total_bytes(self, start: int, end: int) -> int:
        """Return the sum of the sizes of `[start, end)`."""
        return int(self._sizes[size_number(np.arange(start, end, dtype=np.int64), len(self._sizes))].sum())

    def record(self, index: int) -> ObjectRecord:
        """Make the record of one object."""
        order = self.order
        moment = _FIRST_UPDATED + timedelta(seconds=_updated_s(index))
        moment_us = int(moment.timestamp()) * 1_000_000
        return ObjectRecord(
            name=self.name(index),
            content=SyntheticContent(
                seed=order.seed,
                size=self.size_of(index),
                tail=tail_of(index, order.seed),
                crc=self._checksums.value(index),
            ),
            generation=self.generation(index),
            storage_class=order.storage_class,
            created_us=moment_us,
            updated_us=moment_us,
            headers={"contentType": order.content_type},
        )

    def items(self, start: int, end: int, projection: Projection) -> bytes:
        """Return the JSON items `[start, end)` of a listing, separated by commas."""
        return self._encode(start, end, id(projection), projection)[:-1]

    def lines(self, start: int, end: int, *, generations: bool) -> bytes:
        """Return the lines that digests are computed over: the name, and the generation, of `[start, end)`."""
        return self._encode(start, end, -2 if generations else -1, None)

    def _encode(self, start: int, end: int, key: int, projection: Projection) -> bytes:
        plans = self._plans.get(key)
        if plans is None:
            if key == -1:
                plans = [RowPlan([*self._name_pieces(segment), b"\n"]) for segment in self._segments]
            elif key == -2:
                generation = Digits(self.generation, 16)
                plans = [RowPlan([*self._name_pieces(part), b"\n", generation, b"\n"]) for part in self._segments]
            else:
                plans = [RowPlan(self._item_pieces(segment, projection)) for segment in self._segments]
            self._plans[key] = plans
        blocks = []
        for segment, plan in zip(self._segments, plans, strict=True):
            low, high = max(start, segment.first), min(end, segment.first + segment.count)
            if low < high:
                blocks.append(plan.rows(np.arange(low, high, dtype=np.int64)))
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def _name_pieces(self, segment: Segment) -> list[Piece]:
        return [self._prefix, *segment.pieces]

    def _item_pieces(self, segment: Segment, projection: Projection) -> list[Any]:
        pieces: list[Any] = [b"{"]
        for key, value in self._fields(segment).items():
            if projection is None or "*" in projection or key in projection:
                pieces += [b'"%b":' % key.encode(), *value, b","]
        if pieces[-1] == b",":
            pieces.pop()
        return [*pieces, b"},"]

    def _fields(self, segment: Segment) -> dict[str, list[Any]]:
        """Return the fields of an item, each as the pieces of its JSON value."""
        order = self.order
        bucket, link = _text(order.bucket), f"{self._endpoint}/storage/v1/b/{order.bucket}/o/".encode()
        download = f"{self._endpoint}/download/storage/v1/b/{order.bucket}/o/".encode()
        name = [piece if not isinstance(piece, bytes) else _escaped(piece) for piece in self._name_pieces(segment)]
        quoted = [_quoted(piece) for piece in self._name_pieces(segment)]
        generation = Digits(self.generation, 16)
        moment: list[Any] = [b'"', *_MOMENT, b'.000Z"']
        return {
            "kind": [b'"storage#object"'],
            "id": [b'"', order.bucket.encode(), b"/", *name, b"/", generation, b'"'],
            "selfLink": [b'"', link, *quoted, b'"'],
            "mediaLink": [b'"', download, *quoted, b"?generation=", generation, b'&alt=media"'],
            "name": [b'"', *name, b'"'],
            "bucket": [bucket],
            "generation": [b'"', generation, b'"'],
            "metageneration": [b'"1"'],
            "contentType": [_text(order.content_type)],
            "storageClass": [_text(order.storage_class)],
            "size": [_size_piece(order.sizes)],
            "crc32c": [b'"', self._checksums, b'"'],
            "etag": [b'"', generation, b'-1"'],
            "timeCreated": moment,
            "updated": moment,
            "timeStorageClassUpdated": moment,
        }


def _updated_s(index: Any) -> Any:
    return index * 7919 % _SPREAD_S


@lru_cache(maxsize=64)
def _text(text: str) -> bytes:
    return msgspec.json.encode(text)


def _escaped(literal: bytes) -> bytes:
    return msgspec.json.encode(literal.decode())[1:-1]


def _quoted(piece: Piece) -> Piece:
    """Return a piece of a name as it looks inside a URL."""
    if isinstance(piece, bytes):
        return quote(piece, safe="").encode()
    if isinstance(piece, OneOfLiterals):
        return OneOfLiterals(piece.value, tuple(quote(option, safe="").encode() for option in piece.options))
    return Digits(piece.value, piece.width, tuple(quote(symbol, safe="").encode() for symbol in piece.symbols))


def _size_piece(sizes: list[int]) -> OneOfLiterals:
    width = max(len(str(size)) for size in sizes)
    options = tuple(b'"%d"' % size + b" " * (width - len(str(size))) for size in sizes)
    return OneOfLiterals(lambda index: size_number(index, len(sizes)), options)


_MOMENT: tuple[Any, ...] = (
    OneOfLiterals(
        lambda index: _updated_s(index) // 86_400,
        tuple(f"{_FIRST_UPDATED + timedelta(days=day):%Y-%m-%dT}".encode() for day in range(366)),
    ),
    OneOfLiterals(
        lambda index: _updated_s(index) % 86_400,
        tuple(b"%02d:%02d:%02d" % (s // 3600, s // 60 % 60, s % 60) for s in range(86_400)),
    ),
)


class ChecksumColumn:
    """The CRC32C of every content of a range, as a column of its base64 form."""

    def __init__(self, order: SyntheticObjects) -> None:
        self._seed = order.seed
        self._size_count = len(order.sizes)
        self._tails = [min(size, TAIL_BYTES) for size in order.sizes]
        self._bases = [
            combine(filler_crc32c(order.seed, size - tail), crc32c(bytes(tail)), tail)
            for size, tail in zip(order.sizes, self._tails, strict=True)
        ]
        self._base_array = np.array(self._bases, np.int64)
        self._tail_array = np.array(self._tails, np.int64)
        self._tail_kinds = sorted(set(self._tails))
        self._tables = np.array(tail_tables(), np.int64)
        self._constant = tail_of(0, order.seed)

    def value(self, index: int) -> int:
        """Return one checksum."""
        number = size_number(index, self._size_count)
        tail_bytes, tables = self._tails[number], tail_tables()
        value = self._bases[number]
        for position, byte in enumerate(tail_of(index, self._seed)[:tail_bytes]):
            value ^= tables[TAIL_BYTES - tail_bytes + position][byte]
        return int(value)

    def values(self, indices: Indices) -> npt.NDArray[np.int64]:
        """Return the checksums of consecutive indices."""
        numbers = size_number(indices, self._size_count)
        result: npt.NDArray[np.int64] = self._base_array.take(numbers)
        if len(self._tail_kinds) == 1:
            return result ^ self._tail_sums(indices, self._tail_kinds[0])
        tails = self._tail_array.take(numbers)
        for tail_bytes in self._tail_kinds:
            result ^= np.where(tails == tail_bytes, self._tail_sums(indices, tail_bytes), 0)
        return result

    def _tail_sums(self, indices: Indices, tail_bytes: int) -> npt.NDArray[np.int64]:
        """Return what tails of a length add to the checksums of consecutive indices."""
        tables = self._tables[TAIL_BYTES - tail_bytes :]
        if tail_bytes == 0:
            return np.zeros(len(indices), np.int64)
        # All but the lowest byte of an index is the same for 256 indices: it is looked up once for those.
        blocks = np.arange(indices[0] >> 8, (indices[-1] >> 8) + 1, dtype=np.int64)
        sums = np.zeros(len(blocks), np.int64)
        for position in range(1, tail_bytes):
            if position < 4:
                sums ^= tables[position].take((blocks >> (8 * position - 8)) & 0xFF)
            else:
                sums ^= tables[position][self._constant[position]]
        low: npt.NDArray[np.int64] = tables[0].take(indices & 0xFF)
        low ^= sums.take((indices >> 8) - blocks[0])
        return low

    def columns(self, indices: Indices) -> Bytes2D:
        """Return the base64 forms, eight bytes a row."""
        values = self.values(indices)
        pairs, last = _base64_tables()
        block = np.empty((len(indices), 8), np.uint8)
        block[:, 0:2] = pairs.take(values >> 20)
        block[:, 2:4] = pairs.take((values >> 8) & 0xFFF)
        block[:, 4:8] = last.take(values & 0xFF)
        return block


@lru_cache(maxsize=1)
def _base64_tables() -> tuple[RowTable, RowTable]:
    """Return the two base64 characters of every 12-bit number, and the end of the encoding for a last byte."""
    pairs = [encode_crc32c(number << 20)[:2].encode() for number in range(1 << 12)]
    last = [encode_crc32c(number)[4:].encode() for number in range(256)]
    return RowTable(pairs), RowTable(last)


def tail_of(index: int, seed: int) -> bytes:
    """Return the last eight bytes of a content: four of the index, four of the seed."""
    return struct.pack("<II", index, seed & 0xFFFFFFFF)


def size_number(index: Any, count: int) -> Any:
    """Return which of `count` sizes an object has; an int or an array."""
    return index * 0 if count == 1 else mixed(index, 977) % count
