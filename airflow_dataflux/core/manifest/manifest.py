"""The manifest as its users see it: a durable, sorted, unique list of objects pinned by generation, or a shard of one.

Guarantees: opening reads only the index; rows stream with bounded memory and are verified as they come (reader.py); a
Manifest never changes, and the same reference gives the same rows or an error. Thread-safe; iterators are not shared.
A shard is a Manifest too: its length, bytes and rows are its own, and its bucket, prefixes, time and stats are the
whole manifest's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_dataflux.core.arrow import ROW_SCHEMA, rows_of, total
from airflow_dataflux.core.config import SelectRequest
from airflow_dataflux.core.errors import InvalidRequestError, ManifestChangedError, ManifestError
from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.manifest.diff import ManifestDiff
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.index import Index, read_index
from airflow_dataflux.core.manifest.location import manifest_location
from airflow_dataflux.core.manifest.reader import InlineRows, PartedRows, RememberedRows, RowSource
from airflow_dataflux.core.manifest.reference import InlineReference, make_reference, read_reference
from airflow_dataflux.core.manifest.sharding import Interval, Shard, boundary_names, cut
from airflow_dataflux.core.model import Row
from airflow_dataflux.core.namerange import NameRange
from airflow_dataflux.core.parameters import request_from

if TYPE_CHECKING:
    import pandas as pd


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
        read = read_reference(reference)
        if isinstance(read, InlineReference):
            start = read.shard.start if read.shard else 0
            return cls(index=read.index, source=InlineRows(read.rows), uri=None, shard=read.shard, source_start=start)
        manifest = cls.open(read.uri, store=store)
        if read.fingerprint not in (None, manifest.fingerprint):
            raise ManifestChangedError(
                f"The manifest at {read.uri} was replaced: the reference was made from {read.fingerprint}, there is "
                f"{manifest.fingerprint} now, listed at {manifest.listed_at.isoformat()}. Run the listing and what "
                "follows again, and give each run a manifest_uri of its own, such as one with {{ run_id }} in it.",
                uri=read.uri,
                expected=read.fingerprint,
                found=manifest.fingerprint,
            )
        if read.bucket not in (None, manifest.bucket):
            raise ManifestChangedError(
                f"The manifest at {read.uri} lists gs://{manifest.bucket}, the reference was made of "
                f"gs://{read.bucket}. Somebody changed one of them: list the bucket again.",
                uri=read.uri,
                expected=read.bucket,
                found=manifest.bucket,
            )
        return manifest if read.shard is None else manifest.piece(read.shard)

    def reference(self) -> dict[str, Any]:
        """Return the plain dict that stands for this manifest in XCom; docs/reference/manifest-format.md has its keys.

        Raises what reading rows raises, for an inline manifest.
        """
        return make_reference(self._index, uri=self._uri, shard=self._shard, batches=self.batches())

    @property
    def bucket(self) -> str:
        """Name of the listed bucket, without gs://."""
        return self._index.bucket

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Prefixes that were listed."""
        return self._index.prefixes

    @property
    def name_range(self) -> NameRange | None:
        """Range of the listed names, if several listings share the work; None: all names."""
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
        """Statistics of the listing (a copy)."""
        return dict(self._index.stats)

    @property
    def request(self) -> dict[str, Any]:
        """The request of the listing (a copy); empty for an inline manifest that came through a reference."""
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
        """Number and size of this shard; None for a whole manifest."""
        return self._shard

    def whole(self) -> Manifest | None:
        """Return the manifest that this is a shard of; itself if it is none, None for a shard of an inline manifest."""
        if self._shard is None:
            return self
        if self._uri is None:
            return None
        return Manifest(index=self._index, source=self._source, uri=self._uri, shard=None)

    def remembering(self, most_bytes: int) -> Manifest:
        """Return this manifest, for several walks: rows of up to so many bytes stay in memory after the first."""
        return Manifest(
            index=self._index,
            source=RememberedRows(self._source, most_bytes),
            uri=self._uri,
            shard=self._shard,
            source_start=self._source_start,
        )

    def batches_between(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Yield some rows of a whole manifest, as `batches` yields all; they are not counted against the index."""
        yield from self._source.batches(start, stop)

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

        Memory does not grow with the manifest. Raises ManifestError (ManifestChangedError, ManifestNotFoundError) if
        the parts differ from the index; the rows yielded until then are right, but incomplete.
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
        """Divide this manifest into `count` contiguous shards of nearly equal bytes; the same every time.

        An object's weight is its bytes and 4 KiB, so empty objects are distributed, too. A shard is never empty: if
        there are fewer objects than `count`, there are fewer shards; an empty manifest has none. Reads at most the
        parts with a boundary. Raises InvalidRequestError if `count` is not positive, and the errors of reading.
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
        """Divide this manifest into shards of about `shard_bytes` each, rounding their number up, as `shards` does."""
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
        """Compare this manifest with an earlier one, `other`: `today.diff(yesterday).added` has today's new rows.

        Nothing is read until the result is iterated or counted.
        """
        return ManifestDiff(before=other, after=self)

    def select(self, *, store: Store | None = None, **asked: Any) -> Manifest:
        """Return a manifest of some of the objects; the same for the same manifest and parameters.

        Args:
            store: for a `manifest_uri` on gs://; None opens one with the default credentials.
            asked: the fields of `SelectRequest` (`core/config.py`), but for `splits`.

        Without `manifest_uri` the rows stay in memory, and must fit into a reference. Raises InvalidRequestError,
        ManifestTooLargeError, and the errors of reading and writing.
        """
        from airflow_dataflux.core.manifest.deriving import select  # which makes manifests, and so imports this

        if asked.pop("splits", None) is not None:
            raise InvalidRequestError("A selection is one manifest: call split for one of each split.")
        return select(self, request_from(SelectRequest, asked), store=store)[""]

    def split(self, splits: Mapping[str, float], *, store: Store | None = None, **asked: Any) -> dict[str, Manifest]:
        """Divide the objects, or those that are selected, into splits: `split({"train": 0.9, "val": 0.1})`.

        A hash of the sample's key decides its split. `group_by` keeps the files of a sample together, and no sample
        moves when the bucket grows. With `manifest_uri`, each split is written below it. Otherwise as `select`.
        """
        from airflow_dataflux.core.manifest.deriving import select

        return select(self, request_from(SelectRequest, {**asked, "splits": splits}), store=store)

    def union(self, *others: Manifest, manifest_uri: str | None = None, store: Store | None = None) -> Manifest:
        """Return a manifest of the objects of this one and of `others`, of the same bucket; each object once.

        Raises ManifestError if an object has two generations among them. Otherwise as `select`.
        """
        from airflow_dataflux.core.manifest.deriving import unite

        return unite([self, *others], manifest_uri=manifest_uri, store=store)

    def piece(self, shard: Shard) -> Manifest:
        """Return the rows that `shard` names. Raises InvalidRequestError if there are not so many."""
        if shard.start + shard.object_count > self._source_start + self._source.object_count:
            raise InvalidRequestError(
                f"The shard reference names rows up to {shard.start + shard.object_count}, and the manifest at "
                f"{self._uri} has {len(self)}. Use shard references as they were returned."
            )
        return Manifest(
            index=self._index, source=self._source, uri=self._uri, shard=shard, source_start=self._source_start
        )
