"""How many objects there are of each order of magnitude of size and of each storage class.

Rows are counted as they pass, in groups of some thousand, because most of the cost is that of a call: about 25 ms of
processor time for a million objects. The functions make the blocks of a report from such counts; they are pure, and
import what draws: whoever only counts (each worker) has no use for pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from airflow_dataflux.core.arrow import cast, compute, number, tally
from airflow_dataflux.core.report import formatting

if TYPE_CHECKING:
    from airflow_dataflux.core.report.charts import Histogram
    from airflow_dataflux.core.report.page import Block

_HALF, _ONE = number(0.5, pa.float64()), number(1, pa.float64())

_GROUP_ROWS = 8192
"""Rows that wait to be counted together."""


class ObjectStatistics(msgspec.Struct):
    """Objects by size and by storage class. One thread; pickles; adds up.

    Attributes:
        sizes: by the number of binary digits of the size: 0 holds empty objects, 11 those of 1,024 to 2,047 bytes.
        classes: by storage class.
        bytes_by_class: their bytes.
    """

    sizes: Counter[int] = msgspec.field(default_factory=Counter)
    classes: Counter[str] = msgspec.field(default_factory=Counter)
    bytes_by_class: Counter[str] = msgspec.field(default_factory=Counter)
    _waiting: list[tuple[pa.Array, pa.Array]] = []
    _waiting_rows: int = 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Take note of rows in `ROW_SCHEMA`; they are counted with the next ones, or by `count`."""
        if rows.num_rows == 0:
            return
        self._waiting.append((rows.column("size"), rows.column("storage_class")))
        self._waiting_rows += rows.num_rows
        if self._waiting_rows >= _GROUP_ROWS:
            self.count()

    def count(self) -> ObjectStatistics:
        """Count what waits; return self."""
        if self._waiting:
            sizes = pa.concat_arrays([each[0] for each in self._waiting])
            classes = pa.concat_arrays([each[1] for each in self._waiting])
            self._waiting, self._waiting_rows = [], 0
            self._count_sizes(sizes)
            self._count_classes(classes, sizes)
        return self

    def merge(self, other: ObjectStatistics) -> None:
        """Add another one's counts."""
        other.count()
        self.sizes.update(other.sizes)
        self.classes.update(other.classes)
        self.bytes_by_class.update(other.bytes_by_class)

    def _count_sizes(self, sizes: pa.Array) -> None:
        # The logarithm of 0 is minus infinity, which the cast would turn into anything: half a byte is its stand-in.
        logarithms = compute("log2", compute("max_element_wise", cast(sizes, pa.float64(), safe=False), _HALF))
        digits = cast(compute("add", logarithms, _ONE), pa.int8(), safe=False)
        for pair in compute("value_counts", digits).to_pylist():
            self.sizes[pair["values"]] += pair["counts"]

    def _count_classes(self, classes: pa.Array, sizes: pa.Array) -> None:
        for name, (count, total_bytes) in tally(classes, sizes).items():
            self.classes[name] += count
            self.bytes_by_class[name] += total_bytes


def size_histogram(sizes: Mapping[int, int], *, title: str, about: str) -> tuple[Histogram, ...]:
    """Draw how many objects there are of each order of magnitude; nothing for no objects.

    Args:
        sizes: objects by the number of binary digits of their size, as `ObjectStatistics` counts them.
        title: of the picture.
        about: which objects these are, such as "in the manifest".
    """
    from airflow_dataflux.core.report.charts import Bar, Histogram

    counted = Counter({digits: count for digits, count in sizes.items() if count})
    whole = sum(counted.values())
    if not whole:
        return ()
    span = range(min(counted), max(counted) + 1)
    bars = tuple(
        Bar(
            label=_least(digits),
            value=counted[digits],
            shown=f"{formatting.plural(counted[digits], 'object')}, {formatting.percent(counted[digits], whole)}",
        )
        for digits in span
    )
    most = max(counted, key=lambda digits: counted[digits])
    summary = (
        f"Each bar holds the objects {about} from its label up to twice that size. Most, "
        f"{formatting.percent(counted[most], whole)}, are {_between(most)}; half are smaller than "
        f"{_least(_median(counted, whole) + 1)}."
    )
    return (Histogram(title=title, summary=summary, bars=bars),)


def class_table(counts: Mapping[str, int], size_by_class: Mapping[str, int]) -> tuple[Block, ...]:
    """Tell how much there is of each storage class; nothing for no objects."""
    from airflow_dataflux.core.report.page import Table

    if not size_by_class:
        return ()
    whole = sum(size_by_class.values())
    ordered = sorted(size_by_class, key=lambda each: (-size_by_class[each], each))
    rows = tuple(
        (
            each,
            *((formatting.count(counts[each]),) if counts else ()),
            formatting.size(size_by_class[each]),
            formatting.percent(size_by_class[each], whole),
        )
        for each in ordered
    )
    columns = ("storage class", *(("objects",) if counts else ()), "bytes", "of the bytes")
    return (Table(caption="Storage classes", columns=columns, rows=rows),)


def _least(digits: int) -> str:
    return formatting.size(0 if digits == 0 else 1 << (digits - 1))


def _between(digits: int) -> str:
    return "empty" if digits == 0 else f"of {_least(digits)} to {_least(digits + 1)}"


def _median(counted: Mapping[int, int], whole: int) -> int:
    before = 0
    for digits in sorted(counted):
        before += counted[digits]
        if 2 * before >= whole:
            return digits
    return 0
