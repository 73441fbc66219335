"""Divide the objects of a manifest into batches of work (pure).

Guarantees, whatever the objects: every wanted object is in exactly one batch; a composite batch has 2-32 components
of one storage class and at most `max_composite_bytes`; what must not be composed is read directly, and the reason is
counted. The planner holds one open batch per storage class and kind, however long the manifest is.

Assumption: rows come with their ordinals, in the manifest's order; neighbours in it are neighbours on disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import Enum

import msgspec
import pyarrow as pa

from airflow_dataflux.core.arrow import compute, indices
from airflow_dataflux.core.config import DEFAULT_MAX_COMPOSITE_BYTES
from airflow_dataflux.core.gcs.store import MAX_COMPONENTS

COLD_CLASSES = frozenset({"NEARLINE", "COLDLINE", "ARCHIVE"})
"""A composite inherits them, and with them a fee for early deletion."""

RANGED_BYTES = 32 << 20
"""Larger objects are read in several ranges at once: from here a single connection, not its latency, is the limit."""

RANGE_BYTES = 16 << 20
"""At 80 MB/s a range takes five times the latency of its request."""

DIRECT_BATCH_BYTES = 8 << 20
DIRECT_BATCH_OBJECTS = 16
"""Objects that one thread reads one after another: few enough that the last batch keeps no other thread waiting."""


def is_gzip(encoding: str | None) -> bool:
    """Return whether a content encoding is gzip."""
    return encoding is not None and "gzip" in encoding


class BatchKind(Enum):
    """How a batch is fetched."""

    COMPOSITE = "composite"
    DIRECT = "direct"
    RANGED = "ranged"
    DECOMPRESSED = "decompressed"  # read directly, and unpacked


class Batch(msgspec.Struct, frozen=True):
    """Objects that are fetched together. All tuples have one entry per object.

    Attributes:
        number: counts the batches of one staging from 0.
        kind: how they are fetched.
        storage_class: of all of them, for a composite; else of the first.
        ordinals: positions in the manifest.
        names, sizes, generations, crcs: as listed; a crc is None where the listing had none.
    """

    number: int
    kind: BatchKind
    storage_class: str
    ordinals: tuple[int, ...]
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    generations: tuple[int, ...]
    crcs: tuple[int | None, ...]

    @property
    def total_bytes(self) -> int:
        """Bytes of all objects of the batch."""
        return sum(self.sizes)

    def part(self, indexes: range) -> Batch:
        """Return a stretch of this batch as one of the same number."""
        if len(indexes) == len(self.names):
            return self
        taken = slice(indexes.start, indexes.stop)
        return msgspec.structs.replace(
            self,
            ordinals=self.ordinals[taken],
            names=self.names[taken],
            sizes=self.sizes[taken],
            generations=self.generations[taken],
            crcs=self.crcs[taken],
        )


class BatchRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner obeys.

    Attributes:
        compose: make composites at all.
        no_compose_reason: counted for each object that is read directly because `compose` is off.
        max_composite_bytes: no composite is larger.
        max_object_bytes: no larger object is composed; None: only `max_composite_bytes` counts.
        direct_objects: most objects of a direct batch.
        ranged_bytes: larger objects are read in ranges.
        decompress: gzip-encoded objects are unpacked.
    """

    compose: bool
    no_compose_reason: str = "direct reads were asked for"
    max_composite_bytes: int = DEFAULT_MAX_COMPOSITE_BYTES
    max_object_bytes: int | None = None
    direct_objects: int = DIRECT_BATCH_OBJECTS
    ranged_bytes: int = RANGED_BYTES
    decompress: bool = False


def why_direct(
    rules: BatchRules, size: int, crc32c: int | None, storage_class: str, encoding: str | None
) -> str | None:
    """Return why an object must not be composed, or None; the sources of the rules are in docs/concepts."""
    if is_gzip(encoding):
        return "gzip-encoded: staged as stored"
    if storage_class in COLD_CLASSES:
        return f"storage class {storage_class}: a composite would cost an early-deletion fee"
    if crc32c is None:
        return "no crc32c in the listing (customer-managed key)"
    if not rules.compose:
        return rules.no_compose_reason
    if size > rules.max_composite_bytes:
        return "larger than max_composite_bytes"
    if rules.max_object_bytes is not None and size > rules.max_object_bytes:
        return "large enough to be read directly"
    return None


_Object = tuple[int, str, int, int, int | None]
"""Ordinal, name, size, generation, crc32c."""


class _Open(msgspec.Struct):
    """A batch that takes more objects."""

    objects: list[_Object] = []
    total_bytes: int = 0

    def add(self, item: _Object) -> None:
        self.objects.append(item)
        self.total_bytes += item[2]


class Batcher:
    """Give it rows, take batches, then `finish`. `reasons` counts why objects are read directly."""

    def __init__(self, rules: BatchRules) -> None:
        self._rules = rules
        self._composites: dict[str, _Open] = {}
        self._direct = _Open()
        self._decompressed = _Open()
        self._number = 0
        self.reasons: Counter[str] = Counter()

    def add(self, rows: pa.RecordBatch, first_ordinal: int, wanted: pa.Array | None = None) -> Iterator[Batch]:
        """Yield the batches that these rows complete.

        Args:
            rows: in `ROW_SCHEMA`.
            first_ordinal: position of the first row in the manifest.
            wanted: a boolean per row; None wants all.
        """
        if wanted is None:
            ordinals: list[int] = list(range(first_ordinal, first_ordinal + rows.num_rows))
        else:
            ordinals = [first_ordinal + index for index in indices(wanted)]
            rows = compute("filter", rows, wanted)
        columns = zip(
            ordinals,
            rows["name"].to_pylist(),
            rows["size"].to_pylist(),
            rows["generation"].to_pylist(),
            rows["crc32c"].to_pylist(),
            rows["storage_class"].to_pylist(),
            rows["content_encoding"].to_pylist(),
            strict=True,
        )
        for ordinal, name, size, generation, crc, storage_class, encoding in columns:
            yield from self._place((ordinal, name, size, generation, crc), storage_class, encoding)

    def stop_composing(self, reason: str) -> Iterator[Batch]:
        """Read everything that is still to come directly; yield batches of what waited for company."""
        self._rules = msgspec.structs.replace(self._rules, compose=False, no_compose_reason=reason)
        for storage_class, group in self._composites.items():
            self.reasons[reason] += len(group.objects)
            for item in group.objects:
                yield from self._place_direct(item, storage_class)
        self._composites.clear()

    def finish(self) -> Iterator[Batch]:
        """Yield the batches that are still open. An object alone in its group is read directly."""
        for storage_class, group in self._composites.items():
            if group.objects:
                yield from self._close_group(group, storage_class)
        self._composites.clear()
        if self._direct.objects:
            yield self._close(self._direct, BatchKind.DIRECT, "")
        if self._decompressed.objects:
            yield self._close(self._decompressed, BatchKind.DECOMPRESSED, "")

    def _place(self, item: _Object, storage_class: str, encoding: str | None) -> Iterator[Batch]:
        if self._rules.decompress and is_gzip(encoding):
            self.reasons["gzip-encoded: decompressed"] += 1
            self._decompressed.add(item)
            if len(self._decompressed.objects) >= self._rules.direct_objects:
                yield self._close(self._decompressed, BatchKind.DECOMPRESSED, storage_class)
            return
        reason = why_direct(self._rules, item[2], item[4], storage_class, encoding)
        if reason is not None:
            self.reasons[reason] += 1
            yield from self._place_direct(item, storage_class)
            return
        group = self._composites.setdefault(storage_class, _Open())
        if group.objects and group.total_bytes + item[2] > self._rules.max_composite_bytes:
            yield from self._close_group(group, storage_class)
        group.add(item)
        if len(group.objects) == MAX_COMPONENTS:
            yield from self._close_group(group, storage_class)

    def _close_group(self, group: _Open, storage_class: str) -> Iterator[Batch]:
        if len(group.objects) > 1:
            yield self._close(group, BatchKind.COMPOSITE, storage_class)
            return
        # A neighbour that did not fit leaves one object behind: a composite of one would be a copy.
        self.reasons["alone in its group"] += 1
        item = group.objects[0]
        group.objects, group.total_bytes = [], 0
        yield from self._place_direct(item, storage_class)

    def _place_direct(self, item: _Object, storage_class: str) -> Iterator[Batch]:
        if item[2] > self._rules.ranged_bytes:
            alone = _Open()
            alone.add(item)
            yield self._close(alone, BatchKind.RANGED, storage_class)
            return
        if self._direct.objects and self._direct.total_bytes + item[2] > DIRECT_BATCH_BYTES:
            yield self._close(self._direct, BatchKind.DIRECT, storage_class)
        self._direct.add(item)
        if len(self._direct.objects) >= self._rules.direct_objects:
            yield self._close(self._direct, BatchKind.DIRECT, storage_class)

    def _close(self, group: _Open, kind: BatchKind, storage_class: str) -> Batch:
        ordinals, names, sizes, generations, crcs = zip(*group.objects, strict=True)
        group.objects, group.total_bytes = [], 0
        self._number += 1
        return Batch(self._number - 1, kind, storage_class, ordinals, names, sizes, generations, crcs)
