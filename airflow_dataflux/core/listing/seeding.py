"""Beginning where an earlier listing knew the names: its boundaries divide what is to be listed.

Only a head start: ranges are listed to their ends whatever is in them, so a bucket that has changed is listed exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.namerange import NameRange

PAGE_ROWS = 1000
"""Rows of a page, as documented. A guess for sizes and boundaries only: a page ends where its token says so."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """Names that divide an earlier listing into whole pages and even ranges, and how many objects that had."""

    names: tuple[str, ...] = ()
    object_count: int = 0

    @classmethod
    def of(cls, uri: str | None, count: int, store: Store) -> Seeds:
        """Take `count` names from the manifest at `uri`: from its index alone, if it is large."""
        if uri is None:
            return cls()
        seed = Manifest.open(uri, store=store)
        return cls(tuple(seed.boundary_names(count, page_rows=PAGE_ROWS)), len(seed))

    def pages_in(self, roots: Sequence[NameRange]) -> float:
        """Return about how many pages the ranges had then."""
        inside = sum(any(name in root for root in roots) for name in self.names)
        return self.object_count / PAGE_ROWS * inside / max(1, len(self.names))

    def divide(self, waiting: Sequence[NameRange]) -> tuple[NameRange, ...]:
        """Divide what is waiting at the names."""
        divided: list[NameRange] = []
        for names in waiting:
            divided.extend(names.divided([seed for seed in self.names if seed > names.start and seed in names]))
        return tuple(divided)
