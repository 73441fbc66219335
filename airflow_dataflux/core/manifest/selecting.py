"""Choosing objects of a manifest, and dividing them into splits.

An object passes the filters or it does not. What passes falls into *samples*: objects in whose names `group_by` finds
the same text belong together (`001.jpg`, `001.json`), and any other object is a sample of its own. A sample is taken or
left, and goes to one split, as a whole.

Both are decided by hashes of the sample's key and the seed, and by nothing else. So the same manifest and parameters
give the same rows, and a bucket that grows moves no sample from one split to another. A fraction keeps a sample that it
has once kept, too; a number of samples, also of each class, takes those with the smallest hashes.

Rows keep their generations. They stream: filters, fractions and splits take one pass over the manifest and memory for
one row group a split. A pass before it counts samples where that is asked for (`group_by`, `per_group`, a number of
samples), with about 14 bytes of memory a sample. About 3 CPU-seconds per million rows and pass, a fraction of that
where only filters are given.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from itertools import accumulate

import msgspec
import pyarrow as pa

from airflow_dataflux.core.arrow import compute, from_buffers, number
from airflow_dataflux.core.config import SelectRequest
from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.manifest.diff import Comparable
from airflow_dataflux.core.row_masks import Mask, glob_mask, masks_of, no_glob_mask, regex_mask

WHOLE = ""
"""Name of the only output of a selection without splits."""

MOST_CLASSES = 10_000
"""Classes that are told apart. Each is counted in memory and named in the index."""

_HASHES = 1 << 64
_LEFT = 255
"""In the place of an output's number: the row is in none."""


class SelectionCounts(msgspec.Struct):
    """What was counted.

    Attributes:
        considered: rows of the manifest.
        dropped: rows that each filter dropped, by the filter's name.
        samples: samples in each output.
        classes: samples of each class in each output; `None` are those of no class. Empty without `class_by`.
    """

    considered: int = 0
    dropped: Counter[str] = msgspec.field(default_factory=Counter)
    samples: Counter[str] = msgspec.field(default_factory=Counter)
    classes: dict[str, Counter[str | None]] = {}


class Selection:
    """One selection from one manifest. Raises InvalidRequestError for parameters that contradict each other."""

    def __init__(self, rows: Comparable, request: SelectRequest) -> None:
        self._rows = rows
        self._request = request
        self._masks = _masks(request)
        self._key = _group_in_name(request.group_by, "group_by")
        self._class = _group_in_name(request.class_by, "class_by")
        self._salt = blake2b(str(request.seed).encode(), digest_size=16).digest()
        self.outputs = tuple(request.splits) if request.splits else (WHOLE,)
        self._bounds = _bounds(tuple(request.splits.values())) if request.splits else [_HASHES]
        self._classes: dict[str | None, int] = {}
        self._limit = _HASHES
        self._class_limits: dict[int, int] = {}
        if isinstance(request.sample, float):
            self._limit = round(request.sample * _HASHES)
        self.counts = SelectionCounts()

    def batches(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Yield the rows of each output, in order, with the output's name; then `counts` are complete."""
        request = self._request
        by_sample = request.sample is not None or request.per_group is not None or request.splits is not None
        if not by_sample and self._class is None and self._key is None:
            for batch in self._filtered(self.counts):
                self.counts.samples[WHOLE] += batch.num_rows
                yield WHOLE, batch
            return
        counted = self._key is not None or request.per_group is not None or type(request.sample) is int
        if counted:
            self._count_samples()
        for batch in self._filtered(self.counts):
            outputs = array("B")
            for hashed, class_id in self._hashed(batch):
                output = self._output_of(hashed, class_id)
                outputs.append(output)
                if not counted and output != _LEFT:
                    self._note(output, class_id)
            numbers = from_buffers(pa.uint8(), len(outputs), outputs)
            for place, name in enumerate(self.outputs):
                kept = compute("equal", numbers, number(place, pa.uint8()))
                if kept.true_count:
                    yield name, batch if not kept.false_count else compute("filter", batch, kept)

    def _filtered(self, counts: SelectionCounts) -> Iterator[pa.RecordBatch]:
        for batch in self._rows.batches():
            counts.considered += batch.num_rows
            for name, mask in self._masks:
                kept = mask(batch)
                if kept is not None and kept.false_count:
                    counts.dropped[name] += kept.false_count
                    batch = compute("filter", batch, kept)
                if not batch.num_rows:
                    break
            if batch.num_rows:
                yield batch

    def _hashed(self, batch: pa.RecordBatch) -> Iterator[tuple[bytes, int]]:
        """Yield the hash of the sample and the number of the class, for each row."""
        key_of, class_of, salt, classes = self._key, self._class, self._salt, self._classes
        class_id = -1
        for name in batch.column("name").to_pylist():
            text = None if key_of is None else key_of(name)
            # A key and a name that are the same text are two samples.
            kind = b"name" if text is None else b"key"
            hashed = blake2b((name if text is None else text).encode(), digest_size=16, key=salt, person=kind).digest()
            if class_of is not None:
                found = class_of(name)
                class_id = classes.setdefault(found, len(classes))
                if class_id >= MOST_CLASSES:
                    raise InvalidRequestError(
                        f"class_by={self._request.class_by!r} finds more than {MOST_CLASSES} classes, the last "
                        f"{found!r} in {name!r}. Give an expression whose group finds the class and nothing else."
                    )
            yield hashed, class_id

    def _output_of(self, hashed: bytes, class_id: int) -> int:
        chance = int.from_bytes(hashed[:8], "big")
        if chance >= self._limit or (self._class_limits and chance >= self._class_limits[class_id]):
            return _LEFT
        return bisect_right(self._bounds, int.from_bytes(hashed[8:], "big"))

    def _note(self, output: int, class_id: int) -> None:
        name = self.outputs[output]
        self.counts.samples[name] += 1
        if class_id >= 0:
            self.counts.classes.setdefault(name, Counter())[self._class_name(class_id)] += 1

    def _class_name(self, class_id: int) -> str | None:
        return list(self._classes)[class_id]

    def _count_samples(self) -> None:
        """Find how far hashes may go, and count the samples below: the pass before the one that yields rows."""
        table = _SampleTable()
        unused = SelectionCounts()
        for batch in self._filtered(unused):
            for hashed, class_id in self._hashed(batch):
                output = bisect_right(self._bounds, int.from_bytes(hashed[8:], "big"))
                table.add(int.from_bytes(hashed[:8], "big"), class_id, output)
        request = self._request
        if type(request.sample) is int:
            self._limit = next(
                (chance for place, (chance, _, _) in enumerate(table) if place == request.sample), _HASHES
            )
        taken: Counter[int] = Counter()
        by_output: Counter[tuple[int, int]] = Counter()
        if request.per_group is not None:
            self._class_limits = dict.fromkeys([-1, *range(len(self._classes))], _HASHES)
        before = -1
        for chance, class_id, output in table:
            if chance >= self._limit:
                break
            if chance == before:
                raise self._two_classes(chance)
            before = chance
            if request.per_group is not None:
                if taken[class_id] == request.per_group:
                    self._class_limits[class_id] = min(self._class_limits[class_id], chance)
                    continue
                taken[class_id] += 1
            by_output[output, class_id] += 1
        names = list(self._classes)
        for (output, class_id), count in by_output.items():
            self.counts.samples[self.outputs[output]] += count
            if class_id >= 0:
                self.counts.classes.setdefault(self.outputs[output], Counter())[names[class_id]] += count

    def _two_classes(self, chance: int) -> InvalidRequestError:
        """Name two objects of one sample that are of two classes."""
        found: dict[int, str] = {}
        for batch in self._filtered(SelectionCounts()):
            for name, (hashed, class_id) in zip(batch.column("name").to_pylist(), self._hashed(batch), strict=True):
                if int.from_bytes(hashed[:8], "big") == chance:
                    found.setdefault(class_id, name)
        (first, name), (second, other) = list(found.items())[:2]
        classes = list(self._classes)
        return InvalidRequestError(
            f"{name!r} and {other!r} are one sample by group_by, and of two classes by class_by: {classes[first]!r} "
            f"and {classes[second]!r}. Give a class_by that finds the same text in all names of a sample."
        )


class _SampleTable:
    """Hash, class and output of each sample, in the order of the hashes. Rows of one sample and class are one entry."""

    _TOP = 60
    """Entries are kept apart by the first four bits of the hash, so that a sixteenth is sorted at once."""

    def __init__(self) -> None:
        self._tables = [(array("Q"), array("i"), array("B")) for _ in range(_HASHES >> self._TOP)]
        self._last = (-1, -1)

    def add(self, chance: int, class_id: int, output: int) -> None:
        if (chance, class_id) == self._last:
            return
        self._last = (chance, class_id)
        chances, classes, outputs = self._tables[chance >> self._TOP]
        chances.append(chance)
        classes.append(class_id)
        outputs.append(output)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        for chances, classes, outputs in self._tables:
            order = compute("array_sort_indices", from_buffers(pa.uint64(), len(chances), chances))
            chance_before, seen = -1, set[int]()
            for place in order.to_pylist():
                chance, class_id = chances[place], classes[place]
                if chance != chance_before:
                    chance_before, seen = chance, {class_id}
                elif class_id in seen:
                    continue
                else:
                    seen.add(class_id)
                yield chance, class_id, outputs[place]


def _masks(request: SelectRequest) -> list[tuple[str, Mask]]:
    masks: list[tuple[str, Mask]] = []
    if request.include_glob:
        masks.append(("include_glob", glob_mask(request.include_glob)))
    if request.exclude_glob:
        masks.append(("exclude_glob", no_glob_mask(request.exclude_glob)))
    if request.match_regex is not None:
        masks.append(("match_regex", regex_mask(request.match_regex)))
    return masks + masks_of(request.filters)


def _bounds(fractions: tuple[float, ...]) -> list[int]:
    """Return where the hashes of each split end; the last one takes what rounding leaves."""
    return [*(round(bound * _HASHES) for bound in accumulate(fractions[:-1])), _HASHES]


class _GroupInName:
    """Finds the one group of an expression in names."""

    def __init__(self, expression: re.Pattern[str]) -> None:
        self._search = expression.search

    def __call__(self, name: str) -> str | None:
        found = self._search(name)
        return None if found is None else found[1]


def _group_in_name(expression: str | None, parameter: str) -> _GroupInName | None:
    if expression is None:
        return None
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise InvalidRequestError(f"{parameter}={expression!r} is no regular expression: {error}.") from error
    if compiled.groups != 1:
        raise InvalidRequestError(
            f"{parameter}={expression!r} must have exactly one group, which finds the text, and has {compiled.groups}: "
            "write (?:...) for the other groups."
        )
    return _GroupInName(compiled)
