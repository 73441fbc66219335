"""The objects of one bucket: names, sizes, generations, checksums and contents, all following from a specification.

Both the server and the harness compute a data set from its specification, so that a peer's result is checked against
the truth and not against what the server happened to send.

Contents are windows of one block of noise. That makes them free to serve (a slice), distinct (other windows have other
checksums), and their true CRC32C cheap to compute once.
"""

from __future__ import annotations

import bisect
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import google_crc32c
import numpy as np
import numpy.typing as npt

from airflow_dataflux.testing.synthetic_names import Digits, Piece, Segment, segments_of
from dataflux_bench.namesets import NAME_SETS, names_of

CHUNK = 100_000
"""Names are handled this many at a time, so that ten million of them never exist as Python objects at once."""

SHORT = "short"
"""A style of the benchmark's own: one counter without leading zeros behind four letters, kind to blind splitting."""

FIRST_GENERATION = 1_700_000_000_000_000
NOISE_BYTES = 64 << 20
NOISE_MARGIN_BYTES = 16 << 20
"""The noise is this much longer than the largest object, so that large objects differ, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec:
    """What a data set is made of. Picklable and JSON-friendly.

    Attributes:
        style: names, see `airflow_dataflux.testing.synthetic_names`, `SHORT`, or one of `namesets`.
        count: objects; of a real tree, no more than there are.
        sizes: "10240" for one size in bytes, or "lognormal:median:sigma:largest".
        moved: share of the objects, from the end, that lie under another prefix: "half the names changed".
        readable: whether contents are served. Data sets that are only listed carry made-up checksums instead.
    """

    style: str = "flat"
    count: int = 1000
    sizes: str = "10240"
    moved: float = 0.0
    readable: bool = False


class Dataset:
    """A specification, worked out. Objects are numbered in UTF-8 byte order of their names."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec
        self.tables = list(_name_tables(spec))
        self.count = sum(len(table) for _, table in self.tables)

    def name(self, index: int) -> bytes:
        """Return the name of one object."""
        for first, table in self.tables:
            if index < first + len(table):
                return bytes(table[index - first])
        raise IndexError(index)

    def names(self, first: int, last: int) -> list[bytes]:
        """Return the names of `[first, last)`."""
        found: list[bytes] = []
        for start, table in self.tables:
            low, high = max(first - start, 0), min(last - start, len(table))
            if low < high:
                some = table[low:high]
                found.extend(some if isinstance(some, list) else map(bytes, np.ascontiguousarray(some)))
        return found

    def lower_bound(self, name: bytes) -> int:
        """Return the number of the first object whose name is not before `name`."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if self.name(middle) < name:
                low = middle + 1
            else:
                high = middle
        return low

    def prefix_range(self, prefix: bytes) -> tuple[int, int]:
        """Return the numbers `[first, last)` of the objects whose names start with `prefix`."""
        if not prefix:
            return 0, self.count
        after = prefix.rstrip(b"\xff")
        end = self.lower_bound(after[:-1] + bytes([after[-1] + 1])) if after else self.count
        return self.lower_bound(prefix), end

    def end_of_prefix(self, prefix: bytes, first: int) -> int:
        """Return where the names that start with `prefix` end, given the number of one of them: quick if it is soon."""
        step = 1
        while first + step < self.count and self.name(first + step).startswith(prefix):
            step *= 2
        return bisect.bisect_left(
            range(self.count),
            True,
            lo=first + step // 2 + 1,
            hi=min(first + step, self.count),
            key=lambda number: not self.name(number).startswith(prefix),
        )

    def find(self, name: bytes) -> int | None:
        """Return the number of an object, None if there is none of this name."""
        index = self.lower_bound(name)
        return index if index < self.count and self.name(index) == name else None

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """The objects' sizes."""
        kind, _, rest = self.spec.sizes.partition(":")
        if kind != "lognormal":
            return np.full(self.count, int(kind), np.int64)
        median, sigma, largest = rest.split(":")
        drawn = np.random.default_rng(7).lognormal(np.log(float(median)), float(sigma), self.count)
        return np.clip(drawn, 1, int(largest)).astype(np.int64)

    @cached_property
    def noise(self) -> bytes:
        """The block of bytes of which all contents are windows."""
        return random.Random(11).randbytes(max(NOISE_BYTES, int(self.sizes.max()) + NOISE_MARGIN_BYTES))

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where in the noise each object's content starts."""
        spread = (np.arange(self.count, dtype=np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(24)
        return (spread % (len(self.noise) - self.sizes + 1).astype(np.uint64)).astype(np.int64)

    @cached_property
    def checksums(self) -> npt.NDArray[np.uint32]:
        """The CRC32C of each object; of a data set that is only listed, a number in its place."""
        if not self.spec.readable:
            return (np.arange(self.count, dtype=np.uint64) * np.uint64(2654435761)).astype(np.uint32)
        noise = self.noise
        windows = zip(self.offsets.tolist(), self.sizes.tolist(), strict=True)
        return np.array([google_crc32c.value(noise[at : at + size]) for at, size in windows], np.uint32)

    def generation(self, index: int) -> int:
        """Return the generation of one object."""
        return FIRST_GENERATION + index

    def chunks(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield all names, in order, some at a time, with the number of the first of them."""
        for first in range(0, self.count, CHUNK):
            yield first, self.names(first, min(first + CHUNK, self.count))

    def names_digest(self) -> str:
        """Return SHA-256 over `name \\n` of all objects in order: what every listing is checked against."""
        digest = hashlib.sha256()
        for _, table in self.tables:
            for first in range(0, len(table), CHUNK):
                rows = table[first : first + CHUNK]
                if isinstance(rows, list):
                    digest.update(b"".join(name + b"\n" for name in rows))
                    continue
                lines = np.concatenate([rows, np.full((len(rows), 1), 10, np.uint8)], axis=1)
                digest.update(lines.tobytes())
        return digest.hexdigest()


_Table = npt.NDArray[np.uint8] | list[bytes]


def _name_tables(spec: DatasetSpec) -> Iterator[tuple[int, _Table]]:
    """Yield (number of the first object, matrix with a name a row or a list of names), in order."""
    kept = spec.count - int(spec.count * spec.moved)
    if spec.style in NAME_SETS:
        names = [name.encode() for name in names_of(spec.style, spec.count)]
        kept = len(names) - int(len(names) * spec.moved)
        yield 0, names[:kept]
        if kept < len(names):
            yield kept, _moved(kept, len(names) - kept)
        return
    for segment in _segments(spec):
        below = min(segment.count, max(0, kept - segment.first))
        if below:
            yield segment.first, _render(segment, segment.first, below)
    if kept < spec.count:
        yield kept, _moved(kept, spec.count - kept)


def _moved(first: int, count: int) -> npt.NDArray[np.uint8]:
    # This sign sorts behind the names of every style.
    return _render(Segment(first, count, ("\U0001f6d1/moved/".encode(), *_counter_pieces())), first, count)


def _segments(spec: DatasetSpec) -> tuple[Segment, ...]:
    if spec.style == SHORT:
        digits = Digits(lambda index: index, len(str(max(0, spec.count - 1))))
        return (Segment(0, spec.count, (b"img-", digits, b".jpg")),)
    return segments_of(spec.style, spec.count, 0)


def _counter_pieces() -> tuple[Piece, ...]:
    return segments_of("flat", 1, 0)[0].pieces[1:]


def _render(segment: Segment, first: int, count: int) -> npt.NDArray[np.uint8]:
    parts = []
    for start in range(first, first + count, CHUNK):
        indices = np.arange(start, min(start + CHUNK, first + count), dtype=np.int64)
        columns = [
            np.broadcast_to(np.frombuffer(piece, np.uint8), (len(indices), len(piece)))
            if isinstance(piece, bytes)
            else piece.columns(indices)
            for piece in segment.pieces
        ]
        parts.append(np.concatenate(columns, axis=1))
    return np.concatenate(parts) if len(parts) > 1 else parts[0]
