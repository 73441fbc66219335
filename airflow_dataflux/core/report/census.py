"""How many objects there are of each order of magnitude of size and of each storage class.

Counted from rows as they pass, in groups of some thousand, because most of the cost is that of a call: about 25 ms of
processor time for a million objects. Pickles; adds up.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from airflow_dataflux.core.arrowcompute import cast, compute
from airflow_dataflux.core.arrowvalues import number, tally

_HALF, _ONE = number(0.5, pa.float64()), number(1, pa.float64())

_GROUP_ROWS = 8192
"""Rows that wait to be counted together."""


@dataclass(slots=True)
class Census:
    """Objects by size and by storage class. One thread.

    Attributes:
        sizes: by the number of binary digits of the size: 0 holds empty objects, 11 those of 1,024 to 2,047 bytes.
        classes: by storage class.
        bytes_by_class: their bytes.
    """

    sizes: Counter[int] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    bytes_by_class: Counter[str] = field(default_factory=Counter)
    _waiting: list[tuple[pa.Array, pa.Array]] = field(default_factory=list)
    _waiting_rows: int = 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Take note of rows in `ROW_SCHEMA`; they are counted with the next ones, or by `count`."""
        if rows.num_rows == 0:
            return
        self._waiting.append((rows.column("size"), rows.column("storage_class")))
        self._waiting_rows += rows.num_rows
        if self._waiting_rows >= _GROUP_ROWS:
            self.count()

    def count(self) -> Census:
        """Count what waits; return self."""
        if self._waiting:
            sizes = pa.concat_arrays([each[0] for each in self._waiting])
            classes = pa.concat_arrays([each[1] for each in self._waiting])
            self._waiting, self._waiting_rows = [], 0
            self._count_sizes(sizes)
            self._count_classes(classes, sizes)
        return self

    def merge(self, other: Census) -> None:
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
