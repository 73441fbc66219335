"""What lies beside the shards of a pack: a record of each, and the index and table of all.

- `.dataflux-pack/<shard's name>.record`: what one shard holds, written just before the shard appears. It tells a later
  run that the shard is right, and is what the others are made of.
- `members.parquet`: a row for each object: where its bytes lie in which shard, for reading it alone by a range.
- `index.json`: the shards, as WebDataset's indexed reader (`wids`) takes them. Written last: there is no pack without.

All are functions of the records (pure); who writes them where is not known here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

import msgspec
import pyarrow as pa

from airflow_dataflux.core.errors import PackError
from airflow_dataflux.core.packing.samples import webdataset_key
from airflow_dataflux.core.packing.shard_plan import PACK_FORMAT, ShardPlan
from airflow_dataflux.core.packing.tar_format import BLOCK_BYTES, header_bytes

INDEX_NAME = "index.json"
MEMBERS_NAME = "members.parquet"
REPORT_NAME = "report.json"
RECORD_DIRECTORY = ".dataflux-pack"

_RECORD_FORMAT = "dataflux-pack-shard/1"
_MOST_RECORD_BYTES = 1 << 30

MEMBERS_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("generation", pa.int64(), nullable=False),
        pa.field("crc32c", pa.uint32(), nullable=False),
    ]
)


class ShardRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a shard that was written. The columns have an entry for each object, in the shard's order.

    Attributes:
        format: of this record.
        index, name, digest: of the plan.
        archive_bytes, crc32c: of the shard.
        skipped: names of objects that are not in it because they, or others of their sample, had changed.
        file: time of change (ns) and inode of a local shard; None in a bucket.
        names, sizes, generations, crcs: of the objects.
        samples: how many samples WebDataset finds, where the rows were dropped; None: they are counted.
    """

    index: int
    name: str
    digest: str
    archive_bytes: int
    crc32c: int
    skipped: tuple[str, ...]
    file: tuple[int, int] | None
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    generations: tuple[int, ...]
    crcs: tuple[int, ...]
    samples: int | None = None
    format: str = _RECORD_FORMAT

    @property
    def total_bytes(self) -> int:
        """Bytes of its objects."""
        return sum(self.sizes)

    @property
    def sample_count(self) -> int:
        """How many samples WebDataset finds in it: neighbours with the same key are one."""
        if self.samples is not None:
            return self.samples
        count, before = 0, None
        for name in self.names:
            key = webdataset_key(name)
            count += key is not None and key != before
            before = before if key is None else key
        return count

    def offsets(self) -> Iterator[int]:
        """Yield where the bytes of each object begin in the shard."""
        position = 0
        for name, size in zip(self.names, self.sizes, strict=True):
            position += header_bytes(name, size)
            yield position
            position += size + -size % BLOCK_BYTES


_RECORD = msgspec.msgpack.Decoder(ShardRecord)


def record_name(shard_name: str) -> str:
    """Return where the record of a shard lies, relative to the pack."""
    return f"{RECORD_DIRECTORY}/{shard_name}.record"


def encode_record(record: ShardRecord) -> bytes:
    """Return the record's file."""
    return zlib.compress(msgspec.msgpack.encode(record), 6)


def decode_record(data: bytes) -> ShardRecord | None:
    """Return the record of a file, None if it is damaged, of another format, or no record at all."""
    try:
        inflated = zlib.decompressobj().decompress(data, _MOST_RECORD_BYTES)
        record = _RECORD.decode(inflated)
    except (zlib.error, msgspec.MsgspecError):
        return None
    lengths = {len(column) for column in (record.names, record.sizes, record.generations, record.crcs)}
    return record if record.format == _RECORD_FORMAT and len(lengths) == 1 else None


def fits(record: ShardRecord, plan: ShardPlan, *, may_lack_objects: bool) -> bool:
    """Return whether a record tells of the very shard that is planned."""
    same = (record.index, record.name, record.digest) == (plan.index, plan.name, plan.digest)
    return same and (may_lack_objects or not record.skipped)


def encode_index(records: Iterable[ShardRecord], *, name: str, described: dict[str, Any]) -> bytes:
    """Return `index.json`; `described` is what this project says of the pack, below the key `dataflux`."""
    shards = [
        {
            "url": record.name,
            "nsamples": record.sample_count,
            "filesize": record.archive_bytes,
            "crc32c": f"{record.crc32c:08x}",
        }
        for record in records
    ]
    index = {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": name,
        "shardlist": shards,
        "dataflux": {"format": PACK_FORMAT, **described},
    }
    return msgspec.json.format(msgspec.json.encode(index), indent=1)


class IndexedShard(msgspec.Struct, frozen=True):
    """A shard in an index: its name, its samples and its length, in the words of WebDataset's indexes."""

    url: str
    nsamples: int
    filesize: int


class PackDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What the index of a pack says of it.

    Attributes:
        fingerprint: digest of all shards.
        sample_count, object_count, total_bytes, pack_bytes: of the whole pack; the last one of its shards.
        skipped: objects that are in no shard.
        shards: in order.
    """

    fingerprint: str
    sample_count: int
    object_count: int
    total_bytes: int
    pack_bytes: int
    skipped: int = 0
    shards: tuple[IndexedShard, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return it as plain data, with the number of shards in place of the shards."""
        figures: dict[str, Any] = msgspec.to_builtins(self)
        return {"format": PACK_FORMAT, **figures, "shards": len(self.shards)}


class _Index(msgspec.Struct):
    dataflux: PackDescription
    shardlist: tuple[IndexedShard, ...]


_INDEX = msgspec.json.Decoder(_Index)


def decode_index(data: bytes) -> PackDescription | None:
    """Return what an `index.json` describes, None if it is none of ours."""
    try:
        found = _INDEX.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return msgspec.structs.replace(found.dataflux, shards=found.shardlist)


def write_members(records: Iterable[ShardRecord], file: IO[bytes]) -> int:
    """Write `members.parquet`, a row group for each shard; return how many rows. Memory: one shard's rows."""
    import pyarrow.parquet as pq

    rows = 0
    with pq.ParquetWriter(file, MEMBERS_SCHEMA, compression="zstd") as writer:
        for record in records:
            table = pa.table(
                [
                    pa.repeat(record.name, len(record.names)),
                    pa.array(record.offsets(), pa.int64()),
                    pa.array(record.sizes, pa.int64()),
                    pa.array(record.names, pa.string()),
                    pa.array(record.generations, pa.int64()),
                    pa.array(record.crcs, pa.uint32()),
                ],
                schema=MEMBERS_SCHEMA,
            )
            writer.write_table(table)
            rows += table.num_rows
    return rows


def missing_record(uri: str) -> PackError:
    """Return the error for a shard whose record is not there or does not fit."""
    return PackError(
        f"{uri} is not the record of the shard that was packed here: something else wrote to this place meanwhile, or "
        "removed it. Pack again; shards that are right are not written again.",
        resource=uri,
    )
