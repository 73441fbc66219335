"""One walk over the manifest before anything is fetched: names, what is there already, what is needed.

Guarantees: after it, every name is known to be safe and every obstruction at the destination is known (one error
names them all), and each object is either to be fetched or proven right where it is. Moves and writes nothing.

Memory: 17 bytes an object, in `ObjectStates`, and the paths of extraneous files.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from airflow_dataflux.core.arrowcompute import compute, indices, starts_with, total
from airflow_dataflux.core.arrowvalues import from_buffers, number, tally
from airflow_dataflux.core.gcs.store import ObjectVersion
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.staging.choice import SizeHistogram
from airflow_dataflux.core.staging.composites import is_composite_name
from airflow_dataflux.core.staging.localfile import Placed
from airflow_dataflux.core.staging.localpath import FileSystemTraits, NameCheck
from airflow_dataflux.core.staging.preflight import SpaceNeeded
from airflow_dataflux.core.staging.receipt import REUSED, SKIPPED
from airflow_dataflux.core.staging.reuse import (
    EarlierObject,
    EarlierStaging,
    Looker,
    Obstruction,
    Wanted,
    still_right,
)

_TO_FETCH = number(0, pa.uint8())


class ObjectStates:
    """The state of each object of the manifest, by its position: 0 in `status` means to be fetched."""

    def __init__(self, count: int) -> None:
        self.status = bytearray(count)
        self.mtime_ns = array("q", bytes(8 * count))
        self.inode = array("Q", bytes(8 * count))

    def place(self, ordinal: int, status: int, mtime_ns: int, inode: int) -> None:
        """Record that an object is in its place."""
        self.status[ordinal] = status
        self.mtime_ns[ordinal] = mtime_ns
        self.inode[ordinal] = inode

    def wanted(self, first: int, count: int) -> pa.Array:
        """Return a boolean for each of `count` objects: it is to be fetched."""
        return compute("equal", from_buffers(pa.uint8(), count, self.status[first : first + count]), _TO_FETCH)

    def columns(self, first: int, count: int) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Return status, mtime_ns and inode of `count` objects as Arrow arrays."""
        return (
            from_buffers(pa.uint8(), count, self.status[first : first + count]),
            from_buffers(pa.int64(), count, self.mtime_ns[first : first + count]),
            from_buffers(pa.uint64(), count, self.inode[first : first + count]),
        )


@dataclass(slots=True)
class Survey:
    """What the walk found.

    Attributes:
        states: of all objects.
        needed: disk space of the objects to fetch.
        fetch_count, fetch_bytes: objects to fetch.
        reused: objects that are right where they are.
        temporary: composites of other stagings that the listing met; they are no data and are left out.
        sizes: histogram of the objects to fetch.
        bytes_by_class: bytes to fetch, by storage class.
        extraneous: files of earlier stagings that this manifest lacks.
        sample: one of the objects to fetch, and its storage class.
    """

    states: ObjectStates
    needed: SpaceNeeded
    fetch_count: int = 0
    fetch_bytes: int = 0
    reused: int = 0
    temporary: int = 0
    sizes: SizeHistogram = field(default_factory=SizeHistogram)
    bytes_by_class: Counter[str] = field(default_factory=Counter)
    extraneous: list[EarlierObject] = field(default_factory=list)
    sample: ObjectVersion | None = None
    sample_class: str = ""

    def count_batch(self, rows: pa.RecordBatch) -> None:
        """Count rows that are to be fetched."""
        if rows.num_rows == 0:
            return
        sizes = rows["size"]
        block, last = number(self.needed.block_bytes, sizes.type), number(self.needed.block_bytes - 1, sizes.type)
        blocks = compute("divide", compute("add", sizes, last), block)
        self.needed.bytes += total(blocks) * self.needed.block_bytes
        self.needed.files += rows.num_rows
        self.fetch_count += rows.num_rows
        self.fetch_bytes += total(sizes)
        self.sizes.add(sizes.to_pylist())
        for storage_class, (_, total_bytes) in tally(rows["storage_class"], sizes).items():
            self.bytes_by_class[storage_class] += total_bytes
        if self.sample is None:
            self.sample = ObjectVersion(name=rows["name"][0].as_py(), generation=rows["generation"][0].as_py())
            self.sample_class = rows["storage_class"][0].as_py()


@dataclass(frozen=True, slots=True)
class Ground:
    """What the walk compares the manifest with.

    Attributes:
        root_fd: the open destination, None if there is none or nothing in it.
        earlier: receipts found there.
        traits: how its file system treats names.
        block_bytes: in which it hands out space.
        composite_prefix: where stagings name their temporary objects.
    """

    root_fd: int | None
    earlier: list[EarlierStaging]
    traits: FileSystemTraits
    block_bytes: int
    composite_prefix: str


def survey(manifest: Manifest, destination: str, strip_prefix: str, ground: Ground) -> Survey:
    """Walk over the manifest. Raises UnsafeNameError that names everything that cannot be staged here."""
    found = Survey(ObjectStates(len(manifest)), SpaceNeeded(ground.block_bytes))
    names = NameCheck(destination, strip_prefix, ground.traits)
    first = 0
    with Looker(-1 if ground.root_fd is None else ground.root_fd) as looker:
        for rows in manifest.batches():
            _leave_out_temporary(rows["name"], first, ground.composite_prefix, found)
            refused_before = names.refused_count
            listed = names.look(rows["name"], rows["size"])
            if ground.root_fd is not None and names.refused_count == refused_before:
                for wanted, ordinal in _wanted(rows, listed, strip_prefix, first):
                    if not found.states.status[ordinal]:
                        _look_at(wanted, ordinal, ground, looker, found, names)
            found.count_batch(compute("filter", rows, found.states.wanted(first, rows.num_rows)))
            first += rows.num_rows
    names.raise_if_refused(manifest.bucket)
    for staging in ground.earlier:
        _skip(staging, None, found)
    return found


def _leave_out_temporary(names: pa.Array, first: int, composite_prefix: str, found: Survey) -> None:
    for index in indices(starts_with(names, composite_prefix)):
        if is_composite_name(names[index].as_py(), composite_prefix):
            found.states.place(first + index, SKIPPED, 0, 0)
            found.temporary += 1


def _wanted(rows: pa.RecordBatch, listed: list[str], strip_prefix: str, first: int) -> Iterator[tuple[Wanted, int]]:
    stripped = len(strip_prefix)
    columns = zip(
        listed, rows["size"].to_pylist(), rows["generation"].to_pylist(), rows["crc32c"].to_pylist(), strict=True
    )
    for ordinal, (name, size, generation, crc) in enumerate(columns, first):
        yield Wanted(name[stripped:], name, size, generation, crc), ordinal


def _look_at(wanted: Wanted, ordinal: int, ground: Ground, looker: Looker, found: Survey, names: NameCheck) -> None:
    earlier: list[EarlierObject] = []
    for staging in ground.earlier:
        _skip(staging, wanted.path, found)
        known = staging.take(wanted.path)
        if known is not None:
            earlier.append(known)
    try:
        placed: Placed | None = still_right(wanted, earlier, looker)
    except Obstruction as obstruction:
        names.refuse(wanted.name, str(obstruction))
        return
    if placed is not None:
        found.states.place(ordinal, REUSED, placed.mtime_ns, placed.inode)
        found.reused += 1


def _skip(staging: EarlierStaging, path: str | None, found: Survey) -> None:
    """Pass over what an earlier staging placed before `path` and this manifest does not have there."""
    for one in staging.take_until(path):
        if staging.accountable and one.status != SKIPPED:
            found.extraneous.append(one)
