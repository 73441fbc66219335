"""What tells the contents of a synthetic range apart, their last eight bytes, and the checksums that follow from it.

Contents are filler that ends in eight bytes of the object's own, so that their checksums come from tables
(`checksums.tail_tables`) and still no two objects of a range have the same bytes, if they have at least four.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_dataflux.testing.checksums import TAIL_BYTES, combine, crc32c, encode_crc32c, tail_tables
from airflow_dataflux.testing.columns import Bytes2D, Indices, RowTable
from airflow_dataflux.testing.contents import filler_crc32c
from airflow_dataflux.testing.names import mixed
from airflow_dataflux.testing.orders import SyntheticOrder


class ChecksumColumn:
    """The CRC32C of every content of a range, as a column of its base64 form."""

    def __init__(self, order: SyntheticOrder) -> None:
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
        choice = size_choice(index, self._size_count)
        tail_bytes, tables = self._tails[choice], tail_tables()
        value = self._bases[choice]
        for position, byte in enumerate(tail_of(index, self._seed)[:tail_bytes]):
            value ^= tables[TAIL_BYTES - tail_bytes + position][byte]
        return int(value)

    def values(self, indices: Indices) -> npt.NDArray[np.int64]:
        """Return the checksums of consecutive indices."""
        choices = size_choice(indices, self._size_count)
        result: npt.NDArray[np.int64] = self._base_array.take(choices)
        if len(self._tail_kinds) == 1:
            return result ^ self._tail_sums(indices, self._tail_kinds[0])
        tails = self._tail_array.take(choices)
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


def size_choice(index: Any, count: int) -> Any:
    """Return which of `count` sizes an object has; an int or an array."""
    return index * 0 if count == 1 else mixed(index, 977) % count
