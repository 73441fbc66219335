"""The end of a pack: its index and its table of members, made of the records of all shards.

One task that packed everything ends with it; where several tasks packed a part each, it is a step of its own
(`pack_join`).

Guarantees: the index is written last, and only if every shard of the pack is there with its record; so a place with an
index holds the pack that it describes. Memory: the rows of a few shards.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec

from airflow_dataflux.core.errors import InvalidRequestError, PackError
from airflow_dataflux.core.packing.pack_index import (
    INDEX_NAME,
    MEMBERS_NAME,
    REPORT_NAME,
    ShardRecord,
    decode_index,
    decode_record,
    encode_index,
    missing_record,
    record_name,
    write_members,
)
from airflow_dataflux.core.packing.pack_output import PackOutput, ShardFile
from airflow_dataflux.core.packing.shard_plan import PACK_FORMAT, PackDigest
from airflow_dataflux.core.report.formatting import plural
from airflow_dataflux.core.runtime.threads import ThreadPool
from airflow_dataflux.core.staging.checksum import extend

_READ_AT_ONCE = 8
_PARQUET = "application/vnd.apache.parquet"
_NAMED_SKIPPED = 1000


class PackSource(msgspec.Struct, frozen=True, kw_only=True):
    """The whole manifest that was packed.

    Attributes:
        bucket, prefixes: where its objects are.
        fingerprint: of the manifest.
    """

    bucket: str
    prefixes: tuple[str, ...]
    fingerprint: str

    def shown(self) -> str:
        """Return bucket and prefixes for people."""
        more = len(self.prefixes) - 1
        others = f" and {plural(more, 'more prefix', 'more prefixes')}" if more else ""
        return f"gs://{self.bucket}/{self.prefixes[0]}{others}"


class PackResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a pack, or one task's part of it, came to.

    Attributes:
        output: URI of its place; ends in `/`.
        hostname: where a local pack lies.
        source: the manifest; None in what an earlier release returned.
        fingerprint: digest of all shards: same fingerprint, same names and bytes.
        name_template: makes the shards' names.
        shard_count, sample_count, object_count, total_bytes, pack_bytes: of the whole pack; the last one of its shards.
        packed_shards, reused_shards: what this run wrote, and what it found there and right.
        packed_objects, packed_bytes, reused_objects: what is in these shards.
        skipped: objects that are in no shard because they, or others of their sample, had changed.
        part: which of how many tasks this was; None if it was the only one.
        index, members: URIs; None until all parts are joined.
        other_shards: shards of an earlier pack that lie there still and are not part of this one.
        requests, estimated_usd, costs: what was sent, and what it costs, by item; of a joined pack, by all parts and
            the join.
        composites: temporary objects that were made.
        leftovers: those that could not be deleted.
        notes: what was found and decided, a line each.
        seconds: in all; of a joined pack, of the part that took longest.
        dry_run: nothing was written: the figures are estimates.
    """

    output: str
    hostname: str = msgspec.field(default_factory=socket.gethostname)
    source: PackSource | None = None
    fingerprint: str
    name_template: str
    shard_count: int
    sample_count: int
    object_count: int
    total_bytes: int
    pack_bytes: int
    packed_shards: int = 0
    reused_shards: int = 0
    packed_objects: int = 0
    packed_bytes: int = 0
    reused_objects: int = 0
    skipped: int = 0
    part: tuple[int, int] | None = None
    index: str | None = None
    members: str | None = None
    other_shards: tuple[str, ...] = ()
    requests: Mapping[str, int] = {}
    estimated_usd: float = 0.0
    costs: Mapping[str, float] = {}
    composites: int = 0
    leftovers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    dry_run: bool = False

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any]) -> PackResult:
        """Return what `summary` was made of, but for the notes. Raises InvalidRequestError for anything else."""
        problem: Exception | str = "its format is another"
        if isinstance(summary, Mapping) and summary.get("format") == PACK_FORMAT:
            figures = dict(summary)
            part = figures.pop("part", None)
            try:
                if part is not None:
                    figures["part"] = (part["index"], part["count"])
                return msgspec.convert(figures, cls)
            except (TypeError, ValueError, KeyError) as error:  # msgspec's errors are ValueErrors
                problem = error
        raise InvalidRequestError(f"This is not what packing returns ({problem}): {str(summary)[:200]}.")

    def summary(self) -> dict[str, Any]:
        """Return the plain dictionary that stands for this in XCom."""
        figures: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))  # lists, as what XCom gives back
        if self.part is not None:
            figures["part"] = {"index": self.part[0], "count": self.part[1]}
        else:
            del figures["part"]
        del figures["notes"]
        return {"format": PACK_FORMAT, **figures}


def finish_pack(
    output: PackOutput, result: PackResult, *, on_record: Callable[[int, int], None] = lambda _shards, _objects: None
) -> PackResult:
    """Write members and index, and return the result with what the records say.

    `on_record` is told, after each record, how many shards and objects have been looked at.

    Raises PackError if a shard is not there, or is another than was packed.
    """
    names = [result.name_template.format(index=index) for index in range(result.shard_count)]
    digest = PackDigest()
    objects = samples = total_bytes = pack_bytes = skipped = 0
    skipped_names: list[str] = []
    records: list[ShardRecord] = []

    def counted() -> Iterator[ShardRecord]:
        nonlocal objects, samples, total_bytes, pack_bytes, skipped
        for record in _records(output, names):
            digest.add(record.name, record.digest)
            objects += len(record.names)
            samples += record.sample_count
            total_bytes += record.total_bytes
            pack_bytes += record.archive_bytes
            skipped += len(record.skipped)
            skipped_names.extend(record.skipped[: _NAMED_SKIPPED - len(skipped_names)])
            records.append(_without_rows(record))
            on_record(len(records), objects)
            yield record

    unchanged = result.packed_shards == 0 and _is_indexed(output, result.fingerprint)
    if unchanged:
        deque(counted(), maxlen=0)
    else:
        _write_members(output, result.fingerprint, counted)
    if digest.fingerprint != result.fingerprint:
        raise PackError(
            f"The shards at {output.uri} are not those that were packed: another pack was written to the same place "
            "meanwhile. Give each pack an output of its own, and run again.",
            resource=output.uri,
        )
    finished = msgspec.structs.replace(
        result,
        object_count=objects,
        sample_count=samples,
        total_bytes=total_bytes,
        pack_bytes=pack_bytes,
        skipped=skipped,
        part=None,
        index=output.uri_of(INDEX_NAME),
        members=output.uri_of(MEMBERS_NAME),
        other_shards=_other_shards(output, names),
    )
    if not unchanged:
        report = {**finished.summary(), "notes": finished.notes, "skipped_names": skipped_names}
        output.write(REPORT_NAME, msgspec.json.format(msgspec.json.encode(report), indent=1))
        described = {
            name: getattr(finished, name)
            for name in ("fingerprint", "sample_count", "object_count", "total_bytes", "pack_bytes", "skipped")
        }
        name = output.uri.rstrip("/").rpartition("/")[2]
        described["members"] = MEMBERS_NAME
        output.write(INDEX_NAME, encode_index(records, name=name, described=described))
    return finished


def _is_indexed(output: PackOutput, fingerprint: str) -> bool:
    data = output.read(INDEX_NAME)
    found = None if data is None else decode_index(data)
    return found is not None and found.fingerprint == fingerprint and output.find(MEMBERS_NAME) is not None


def _records(output: PackOutput, names: Sequence[str]) -> Iterator[ShardRecord]:
    """Yield the records of all shards in order, a few fetched ahead."""
    with ThreadPool(_READ_AT_ONCE, "dataflux-records") as pool:
        waiting: deque[Future[ShardRecord]] = deque()
        for index, name in enumerate(names):
            waiting.append(pool.submit(_record, output, index, name))
            if len(waiting) >= _READ_AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _record(output: PackOutput, index: int, name: str) -> ShardRecord:
    data = output.read(record_name(name))
    record = None if data is None else decode_record(data)
    if record is None or (record.index, record.name) != (index, name):
        raise missing_record(output.uri_of(record_name(name)))
    found = output.find(name)
    if found is None or found.archive_bytes != record.archive_bytes:
        raise PackError(
            f"{output.uri_of(name)} is not there any more, or is not what was packed. Run again: shards that are right "
            "are not written again.",
            resource=output.uri_of(name),
        )
    return record


def _without_rows(record: ShardRecord) -> ShardRecord:
    """Return a record that only counts: the index needs no more of it, and there may be thousands."""
    return msgspec.structs.replace(
        record, names=(), sizes=(), generations=(), crcs=(), skipped=(), samples=record.sample_count
    )


def _other_shards(output: PackOutput, names: Sequence[str]) -> tuple[str, ...]:
    ours = {record_name(name).rpartition("/")[2] for name in names}
    others = (name.removesuffix(".record") for name in output.record_names() if name not in ours)
    return tuple(name for name in others if output.find(name) is not None)


def _write_members(output: PackOutput, fingerprint: str, records: Callable[[], Iterator[ShardRecord]]) -> None:
    found = output.find(MEMBERS_NAME)
    with output.begin(MEMBERS_NAME, fingerprint, found, content_type=_PARQUET) as file:
        stream = _Stream(file)
        write_members(records(), stream)  # type: ignore[arg-type]  # what Parquet asks of a file, and no more
        file.publish(stream.crc32c)


class _Stream:
    """A file that is only written, from its beginning to its end, as Parquet does."""

    mode = "wb"
    closed = False

    def __init__(self, file: ShardFile) -> None:
        self._file = file
        self._position = 0
        self.crc32c = 0

    def write(self, data: bytes) -> int:
        piece = bytes(data)
        self._file.append(piece)
        self.crc32c = extend(self.crc32c, piece)
        self._position += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False
