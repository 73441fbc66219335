"""Dividing a bucket's names by an earlier manifest: for a new listing of it, and for one that several machines share.

Such a manifest only says where names were. What has changed since is listed as exactly, in ranges that are less even.
A module of its own, because each listing needs it, and most need no scheduler.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from airflow_dataflux.core.config import DEFAULT_STREAMS, ListRequest
from airflow_dataflux.core.errors import CancelledError, DatafluxError, InvalidRequestError
from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.listing.stats import described
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.manifest.index import request_as_read, what_was_asked
from airflow_dataflux.core.namerange import NameRange

_logger = logging.getLogger(__name__)

PAGE_ROWS = 1000
"""Rows of a page, as documented. A guess for sizes and boundaries only: a page ends where its token says so."""


def ranges_of(manifest: Manifest, count: int) -> list[NameRange]:
    """Divide all names so that each range has about the same number of the manifest's objects."""
    return NameRange().divided(manifest.boundary_names(count - 1))


class Seeds(msgspec.Struct, frozen=True):
    """Names that divide an earlier listing into whole pages and even ranges, and how many objects that had.

    Attributes:
        names: that divide it.
        object_count: of its manifest, after its filters.
        listed: how many objects it listed, before its filters, if it was asked for the same; None if it was not.
    """

    names: tuple[str, ...] = ()
    object_count: int = 0
    listed: int | None = None

    @classmethod
    def of(cls, request: ListRequest, store: Store) -> Seeds:
        """Take a name for each stream from the seed of a request: from its index alone, if it is large.

        A seed is only a head start. One that is missing, damaged, of a newer format or not ours to read is a warning,
        and the bucket is listed without it. Raises InvalidRequestError for a malformed URI, and CancelledError.
        """
        uri = request.seed_manifest_uri
        if uri is None:
            return cls()
        try:
            seed = Manifest.open(uri, store=store)
            names = seed.boundary_names((request.streams or DEFAULT_STREAMS) - 1, page_rows=PAGE_ROWS)
            return cls(tuple(names), len(seed), _listed(seed) if _is_for_the_same(seed, request) else None)
        except (CancelledError, InvalidRequestError):
            raise
        except DatafluxError as error:
            _logger.warning("The seed manifest cannot be used, so the bucket is listed without it: %s", error)
            return cls()

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


def _is_for_the_same(seed: Manifest, request: ListRequest) -> bool:
    asked = what_was_asked(request_as_read(described(request)))
    return seed.name_range == request.name_range and what_was_asked(seed.request) == asked


def _listed(seed: Manifest) -> int | None:
    listed = seed.stats.get("listed")
    return listed if isinstance(listed, int) else None
