"""The manifest as its users see it: a durable, sorted, unique list of objects pinned by generation, or a shard of one.

Guarantees: opening reads only the index; rows stream with bounded memory and are verified as they come (reader.py); a
Manifest never changes, and the same reference gives the same rows or an error. Thread-safe; iterators are not shared.
A shard is a Manifest too: its length, bytes and rows are its own, and its bucket, prefixes, time and stats are the
whole manifest's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_dataflux.core.arrowcompute import total
from airflow_dataflux.core.errors import InvalidRequestError, ManifestError
from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.manifest.boundaries import boundary_names
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.index import Index, read_index
from airflow_dataflux.core.manifest.location import manifest_location
from airflow_dataflux.core.manifest.reader import PartedRows, RowSource
from airflow_dataflux.core.manifest.rows import rows_of
from airflow_dataflux.core.manifest.shards import Interval, cut
from airflow_dataflux.core.model import Row
from airflow_dataflux.core.namerange import NameRange
from airflow_dataflux.core.rowschema import ROW_SCHEMA

if TYPE_CHECKING:
    import pandas as pd

    from airflow_dataflux.core.manifest.diff import ManifestDiff


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Which piece of a manifest this is.

    Attributes:
        index: from 0.
        count: pieces in all.
        object_count, total_bytes: of this piece.
        start: position of its first row in the whole manifest.
    """

    index: int
    count: int
    object_count: int
    total_bytes: int
    start: int


class Manifest:
    """A list of objects. Made by `Manifest.open`, `Manifest.from_reference`, `publish`, `inline` and `join`."""

    def __init__(
        self, *, index: Index, source: RowSource, uri: str | None, shard: Shard | None, source_start: int = 0
    ) -> None:
        """For this package; `source_start` is the position in the whole manifest of the source's first row."""
        self._index = index
        self._source = source
        self._uri = uri
        self._shard = shard
        self._source_start = source_start
        self._interval = Interval(
            start=shard.start - source_start if shard else 0,
            stop=shard.start - source_start + shard.object_count if shard else index.object_count,
            total_bytes=shard.total_bytes if shard else index.total_bytes,
        )

    @classmethod
    def open(cls, uri: str, *, store: Store | None = None) -> Manifest:
        """Open the manifest at `uri`: its directory, or its index file. Reads the index only.

        Args:
            uri: gs://, file://, an absolute path, or any fsspec URI.
            store: for gs://; None opens one with the default credentials.

        Raises ManifestNotFoundError, ManifestError, InvalidRequestError for a malformed URI, and what the store raises.
        """
        files = ManifestFiles(store)
        directory = manifest_location(uri).uri
        index = read_index(files, directory)
        return cls(index=index, source=PartedRows(files, directory, index), uri=directory, shard=None)

    @classmethod
    def from_reference(cls, reference: Mapping[str, Any] | str, *, store: Store | None = None) -> Manifest:
        """Open what `reference` refers to: a reference, a shard reference, or a URI.

        Raises InvalidRequestError for anything else, ManifestChangedError if the manifest at the URI is not the one the
        reference was made from, and what `open` raises.
        """
        from airflow_dataflux.core.manifest.reference import open_reference

        return open_reference(reference, store)

    def reference(self) -> dict[str, Any]:
        """Return the plain dict that stands for this manifest in XCom; docs/reference/manifest-format.md has its keys.

        Raises what reading rows raises, for an inline manifest.
        """
        from airflow_dataflux.core.manifest.reference import make_reference

        return make_reference(self)

    @property
    def bucket(self) -> str:
        """Bare name of the bucket that was listed."""
        return self._index.bucket

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Prefixes that were listed."""
        return self._index.prefixes

    @property
    def name_range(self) -> NameRange | None:
        """The only names that were listed, where several listings share the work; None: all names."""
        return self._index.name_range

    @property
    def total_bytes(self) -> int:
        """Sum of the objects' sizes, of this shard if it is one."""
        return self._interval.total_bytes

    @property
    def fingerprint(self) -> str:
        """Digest of the (name, generation) pairs: same fingerprint, same data.

        A shard's is the whole manifest's followed by its rows, such as `4eog…[1000:2000]`.
        """
        if self._shard is None:
            return self._index.fingerprint
        return f"{self._index.fingerprint}[{self._shard.start}:{self._shard.start + self._shard.object_count}]"

    @property
    def listed_at(self) -> datetime:
        """Start of the listing, aware."""
        return self._index.listed_at

    @property
    def stats(self) -> dict[str, Any]:
        """What the listing counted (a copy)."""
        return dict(self._index.stats)

    @property
    def request(self) -> dict[str, Any]:
        """What the listing was asked for (a copy); empty for an inline manifest that came through a reference."""
        return dict(self._index.request)

    @property
    def uri(self) -> str | None:
        """Directory of the manifest, None for an inline one."""
        return self._uri

    @property
    def index(self) -> Index:
        """The whole manifest's description."""
        return self._index

    @property
    def shard_info(self) -> Shard | None:
        """Which piece this is, None for a whole manifest."""
        return self._shard

    def __len__(self) -> int:
        """Return the number of objects, of this shard if it is one."""
        return self._interval.stop - self._interval.start

    def __bool__(self) -> bool:
        """Return True: an empty manifest is still a manifest."""
        return True

    def __repr__(self) -> str:
        where = self._uri or "inline"
        return f"<Manifest {where} {self.fingerprint}: {len(self)} objects, {self.total_bytes} bytes of gs://{self.bucket}>"

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in `ROW_SCHEMA`, sorted by name in UTF-8 byte order, fewer than 8,192 at once.

        Memory is bounded whatever the size. Raises ManifestError (ManifestChangedError, ManifestNotFoundError) when
        what is read is not what the index describes; what was yielded until then is right but not all.
        """
        row_count = total_bytes = 0
        for batch in self._source.batches(self._interval.start, self._interval.stop):
            row_count += batch.num_rows
            total_bytes += total(batch.column("size"))
            yield batch
        if (row_count, total_bytes) != (len(self), self.total_bytes):
            raise ManifestError(
                f"The manifest at {self._uri or 'XCom'} should have {len(self)} objects and {self.total_bytes} bytes "
                f"here, and has {row_count} and {total_bytes}. List the bucket again.",
                uri=self._uri,
            )

    def rows(self) -> Iterator[Row]:
        """Yield the rows one by one, as `batches` does, at about 2 CPU-seconds per million."""
        for batch in self.batches():
            yield from rows_of(batch)

    def __iter__(self) -> Iterator[Row]:
        return self.rows()

    def to_arrow(self) -> pa.Table:
        """Return all rows as one table in `ROW_SCHEMA`: about 110 bytes of memory an object."""
        return pa.Table.from_batches(self.batches(), ROW_SCHEMA)

    def to_pandas(self) -> pd.DataFrame:
        """Return all rows as a data frame. Needs pandas."""
        return self.to_arrow().to_pandas()

    def shards(self, count: int) -> list[Manifest]:
        """Cut this manifest into `count` contiguous shards of nearly equal bytes; the same every time.

        An object weighs its bytes and 4 KiB, so that empty objects are spread too. A shard is never empty: with fewer
        objects than `count` there are fewer shards, and none of an empty manifest. Reads at most the parts in which a
        cut falls. Raises InvalidRequestError if `count` is not positive, and what reading raises.
        """
        if count < 1:
            raise InvalidRequestError(f"The number of shards must be 1 or more, got {count}.")
        if len(self) == 0:
            return []
        pieces = cut(self._interval, count, self._source.marks(), self._source.columns("size"))
        return [
            self.piece(
                Shard(
                    index=index,
                    count=len(pieces),
                    object_count=piece.stop - piece.start,
                    total_bytes=piece.total_bytes,
                    start=self._source_start + piece.start,
                )
            )
            for index, piece in enumerate(pieces)
        ]

    def shards_of(self, shard_bytes: int) -> list[Manifest]:
        """Cut this manifest into as many shards as it has `shard_bytes`, rounded up. Otherwise as `shards`."""
        if shard_bytes < 1:
            raise InvalidRequestError(f"shard_bytes must be 1 or more, got {shard_bytes}.")
        return self.shards(max(1, -(-self.total_bytes // shard_bytes)))

    def shard(self, k: int, n: int) -> Manifest:
        """Return the k-th (from 0) of `n` shards, the same as `shards(n)[k]`.

        Raises InvalidRequestError if there is no k-th: k is not in [0, n), or there are at most k objects.
        """
        if not 0 <= k < n:
            raise InvalidRequestError(f"The shard's number must be at least 0 and below {n}, got {k}.")
        shards = self.shards(n)
        if k >= len(shards):
            raise InvalidRequestError(
                f"There is no shard {k} of {n}: {len(self)} objects make {len(shards)} shards, because none is empty. "
                "Map over shards(n) instead of a fixed number."
            )
        return shards[k]

    def boundary_names(self, count: int, *, page_rows: int = 1) -> list[str]:
        """Return up to `count` names that divide the rows evenly, ascending, unique, without the first name.

        Cheap: from the index alone, to about 500 rows; with so many boundaries that this matters, the names are read.
        With `page_rows`, ranges are less even, and most of them a multiple of so many rows.
        """
        if count < 0:
            raise InvalidRequestError(f"The number of boundary names must be 0 or more, got {count}.")
        return boundary_names(
            self._interval, count, self._source.marks(), self._source.columns("name"), page_rows=page_rows
        )

    def diff(self, other: Manifest) -> ManifestDiff:
        """Compare this manifest with an earlier one, `other`: `today.diff(yesterday).added` is what is new today.

        Reads nothing yet: iterating and counting do.
        """
        from airflow_dataflux.core.manifest.diff import ManifestDiff

        return ManifestDiff(before=other, after=self)

    def piece(self, shard: Shard) -> Manifest:
        """Return the rows that `shard` names, for references; the caller has checked that they exist."""
        return Manifest(
            index=self._index, source=self._source, uri=self._uri, shard=shard, source_start=self._source_start
        )
