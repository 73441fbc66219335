"""The bytes of stored objects and their checksums, made or read only when somebody asks for them.

Guarantees: contents never change once made (a file that changes on disk below the server is the owner's mistake),
and `pieces` yields exactly the bytes `[start, end)`.

CRC32C is affine over GF(2). Two consequences make checksums cheap:

* the checksum of a concatenation follows from the checksums and lengths of its pieces (`combine`), so a composite
  of 32 objects costs 32 multiplications, not a pass over its bytes;
* the checksum of a content that differs from another only in its last eight bytes differs by a sum of table
  entries (`tail_tables`), so a page of synthetic objects gets right checksums without making their contents.
"""

from __future__ import annotations

import base64
import os
import random
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

import google_crc32c

_BLOCK_BYTES = 65_521
"""A prime, so that a slice cut at the wrong power of two never happens to hold the right bytes."""

_FILE_PIECE_BYTES = 1 << 18


class Content(Protocol):
    """Immutable bytes of a known length.

    Attributes:
        size: length in bytes.
        crc32c: checksum of all of them.
    """

    size: int
    crc32c: int

    def pieces(self, start: int, end: int) -> Iterator[bytes | memoryview]:
        """Yield the bytes `[start, end)`, 0 <= start <= end <= size, in pieces of any length."""
        ...


class MemoryContent:
    """Bytes that somebody uploaded."""

    __slots__ = ("crc32c", "data", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.crc32c = crc32c(data)

    def pieces(self, start: int, end: int) -> Iterator[bytes | memoryview]:
        """Yield one view of the range."""
        yield memoryview(self.data)[start:end]


class FileContent:
    """A file on disk, read in place; its checksum is computed once, when it is seeded."""

    __slots__ = ("crc32c", "path", "size")

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self.crc32c = 0
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(1 << 20):
                self.crc32c = crc32c(piece, self.crc32c)
                self.size += len(piece)

    def pieces(self, start: int, end: int) -> Iterator[bytes | memoryview]:
        """Read the range from disk, piece by piece."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            while start < end:
                piece = os.pread(descriptor, min(_FILE_PIECE_BYTES, end - start), start)
                if not piece:
                    return  # the file shrank on disk: the answer ends early, as a broken disk would make it
                start += len(piece)
                yield piece
        finally:
            os.close(descriptor)


@lru_cache(maxsize=8)
def filler_block(seed: int) -> bytes:
    """Return the pseudo-random block that synthetic contents of one seed repeat."""
    return random.Random(seed).randbytes(_BLOCK_BYTES)  # noqa: S311 - filler, the same for the same seed


def filler_pieces(seed: int, start: int, end: int) -> Iterator[memoryview]:
    """Yield the bytes `[start, end)` of the endless repetition of a seed's block."""
    block = memoryview(filler_block(seed))
    while start < end:
        offset = start % _BLOCK_BYTES
        count = min(_BLOCK_BYTES - offset, end - start)
        yield block[offset : offset + count]
        start += count


def filler_crc32c(seed: int, byte_count: int) -> int:
    """Return the CRC32C of the first `byte_count` filler bytes, by doubling instead of a pass over them."""
    block = filler_block(seed)
    whole, rest = divmod(byte_count, _BLOCK_BYTES)
    result, unit, unit_bytes = 0, crc32c(block), _BLOCK_BYTES
    while whole:
        if whole & 1:
            result = combine(result, unit, unit_bytes)
        unit, unit_bytes = combine(unit, unit, unit_bytes), unit_bytes * 2
        whole >>= 1
    return combine(result, crc32c(block[:rest]), rest)


class SyntheticContent:
    """Filler that ends in eight bytes of its own (the first of them, if it is shorter than eight)."""

    __slots__ = ("crc32c", "seed", "size", "tail")

    def __init__(self, *, seed: int, size: int, tail: bytes, crc: int) -> None:
        self.seed = seed
        self.size = size
        self.tail = tail[:size]
        self.crc32c = crc

    def pieces(self, start: int, end: int) -> Iterator[bytes | memoryview]:
        """Make the range."""
        body_bytes = max(0, self.size - TAIL_BYTES)
        if start < body_bytes:
            yield from filler_pieces(self.seed, start, min(end, body_bytes))
        if end > body_bytes:
            yield self.tail[max(0, start - body_bytes) : end - body_bytes]


class CompositeContent:
    """The concatenation of other contents, by reference."""

    __slots__ = ("crc32c", "ends", "parts", "size")

    def __init__(self, parts: Sequence[Content]) -> None:
        # Composites of composites are flattened, so that reading never recurses.
        self.parts: list[Content] = []
        for part in parts:
            self.parts.extend(part.parts if isinstance(part, CompositeContent) else [part])
        self.ends = list(accumulate(part.size for part in self.parts))
        self.size = self.ends[-1] if self.ends else 0
        self.crc32c = 0
        for part in parts:
            self.crc32c = combine(self.crc32c, part.crc32c, part.size)

    def pieces(self, start: int, end: int) -> Iterator[bytes | memoryview]:
        """Yield the pieces of the parts in the range."""
        index = bisect_right(self.ends, start)
        while start < end:
            part = self.parts[index]
            offset = self.ends[index] - part.size
            until = min(end, self.ends[index])
            yield from part.pieces(start - offset, until - offset)
            start = until
            index += 1


def whole(content: Content) -> bytes:
    """Return all bytes of `content` in memory."""
    return b"".join(content.pieces(0, content.size))


_POLYNOMIAL = 0x82F63B78
"""Castagnoli, reflected (RFC 3720, appendix B.4)."""

TAIL_BYTES = 8


def crc32c(data: bytes | memoryview, value: int = 0) -> int:
    """Return the CRC32C of `data`, or of what had the CRC32C `value` followed by `data`."""
    return int(google_crc32c.extend(value, bytes(data) if isinstance(data, memoryview) else data))


def encode_crc32c(value: int) -> str:
    """Return the checksum as the API writes it: base64 of four big-endian bytes."""
    return base64.b64encode(struct.pack(">I", value)).decode()


def combine(first: int, second: int, second_bytes: int) -> int:
    """Return the CRC32C of a concatenation from those of its two pieces and the length of the second."""
    return _multiply(_shift(second_bytes), first) ^ second


def _multiply(a: int, b: int) -> int:
    """Multiply two polynomials modulo the CRC's, bits reflected as in zlib's `multmodp`."""
    product = 0
    bit = 1 << 31
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


@lru_cache(maxsize=1 << 16)
def _shift(byte_count: int) -> int:
    """Return x^(8 * byte_count) modulo the polynomial, by repeated squaring."""
    result = 1 << 31  # x^0
    square = 1 << 23  # x^8
    while byte_count:
        if byte_count & 1:
            result = _multiply(square, result)
        square = _multiply(square, square)
        byte_count >>= 1
    return result


@lru_cache(maxsize=1)
def tail_tables() -> list[list[int]]:
    """Return, for each of the last eight bytes of a content and each value of it, what it adds (xor) to the CRC32C.

    The base is the same content with eight zero bytes at its end.
    """
    zero = crc32c(bytes(TAIL_BYTES))
    tables = []
    for position in range(TAIL_BYTES):
        row = []
        for value in range(256):
            tail = bytearray(TAIL_BYTES)
            tail[position] = value
            row.append(crc32c(bytes(tail)) ^ zero)
        tables.append(row)
    return tables
