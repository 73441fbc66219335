"""Write one shard: fetch its objects in pieces, several at once, and join the pieces in order.

A *piece* is a stretch of the shard: up to 32 members that are fetched together (through a composite where that pays,
else one by one), or a range of one large object. Pieces are fetched by other threads; this one takes them in order, so
a shard is written as a stream, and nothing but the pieces under way is held.

Guarantees: every member was verified by size and CRC32C before the shard appears. A shard whose objects changed is not
written ("fail"), or is written without the samples they belong to ("skip"). The record is written just before the
shard appears, so a shard that is there has one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import msgspec

from airflow_dataflux.core.config import OnChangedObject
from airflow_dataflux.core.errors import (
    DestinationError,
    ObjectNotFoundError,
    ObjectsChangedError,
    PackError,
    PreconditionFailedError,
    UnavailableError,
    UnreadableObjectsError,
    VerificationError,
)
from airflow_dataflux.core.gcs.store import MAX_COMPONENTS, ObjectVersion
from airflow_dataflux.core.model import object_uri
from airflow_dataflux.core.packing.pack_index import ShardRecord, decode_record, encode_record, fits, record_name
from airflow_dataflux.core.packing.pack_output import FoundShard, PackOutput, ShardFile
from airflow_dataflux.core.packing.samples import Member
from airflow_dataflux.core.packing.shard_plan import ShardPlan
from airflow_dataflux.core.packing.tar_format import end_of_archive, member_header, padding
from airflow_dataflux.core.staging.batching import Batch, BatchKind, BatchRules, why_direct
from airflow_dataflux.core.staging.checksum import crc32c, extend
from airflow_dataflux.core.staging.localfile import FileIdentity
from airflow_dataflux.core.staging.transfer import BatchResult, ReadTally, Transfer

PIECE_BYTES = 4 << 20
"""Objects up to this size are fetched whole into memory, larger ones in ranges of it."""

_ATTEMPTS = 3
_NAMED = 20
_BATCHES_A_PIECE = 8


class Piece(msgspec.Struct, frozen=True):
    """A stretch of a shard: whole members, or the bytes `[start, end)` of one."""

    number: int
    members: tuple[Member, ...]
    start: int = 0
    end: int = 0

    @property
    def is_range(self) -> bool:
        """Whether it is a part of a large object."""
        return self.end > 0

    @property
    def fetched_bytes(self) -> int:
        """Bytes of objects in it."""
        return self.end - self.start if self.is_range else sum(member.size for member in self.members)


def pieces_of(plan: ShardPlan, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
    """Yield the pieces of a shard in order."""
    number = total = 0
    members: list[Member] = []
    for member in plan.members:
        large = member.size > piece_bytes
        if members and (large or len(members) == MAX_COMPONENTS or total + member.size > piece_bytes):
            yield Piece(number, tuple(members))
            number, total, members = number + 1, 0, []
        if large:
            for start in range(0, member.size, piece_bytes):
                yield Piece(number, (member,), start, min(start + piece_bytes, member.size))
                number += 1
        else:
            members.append(member)
            total += member.size
    if members:
        yield Piece(number, tuple(members))


def batches_of(piece: Piece, rules: BatchRules, first_number: int) -> Iterator[Batch]:
    """Yield what to fetch for the members of a piece: a composite for each storage class, and direct reads."""
    groups: dict[str, list[int]] = {}
    for index, member in enumerate(piece.members):
        reason = why_direct(rules, member.size, member.crc32c, member.storage_class, member.content_encoding)
        groups.setdefault("" if reason else member.storage_class, []).append(index)
    direct = groups.pop("", [])
    number = first_number
    for storage_class, indexes in groups.items():
        if len(indexes) > 1 and number < first_number + _BATCHES_A_PIECE - 1:
            yield _batch(piece, indexes, number, BatchKind.COMPOSITE, storage_class)
            number += 1
        else:
            direct += indexes
    if direct:
        yield _batch(piece, sorted(direct), number, BatchKind.DIRECT, piece.members[direct[0]].storage_class)


def _batch(piece: Piece, indexes: list[int], number: int, kind: BatchKind, storage_class: str) -> Batch:
    members = [piece.members[index] for index in indexes]
    return Batch(
        number,
        kind,
        storage_class,
        tuple(indexes),
        tuple(member.name for member in members),
        tuple(member.size for member in members),
        tuple(member.generation for member in members),
        tuple(member.crc32c for member in members),
    )


class FetchedPiece(msgspec.Struct):
    """The bytes of a piece as they stand in the shard, or what kept them from coming.

    Attributes:
        data: headers, contents and paddings.
        crcs: of the members, or of the range alone.
        sent_crc: of the whole object, as the answer to a range said.
        changed: names of objects whose listed generation is gone.
        results: what fetching took.
    """

    data: bytes = b""
    crcs: tuple[int, ...] = ()
    sent_crc: int | None = None
    changed: tuple[str, ...] = ()
    results: list[BatchResult] = []


class PieceWriter:
    """Keeps the objects of a batch until their piece is joined: the `ObjectWriter` of packing."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        """`contents` receives each object that arrived whole, by its name."""
        self._contents = contents

    def __enter__(self) -> PieceWriter:
        return self

    def __exit__(self, *_exc: object) -> None:
        return None

    def directory(self, path: str) -> None:
        """Do nothing: a shard has no directories."""

    def write(self, path: str, data: bytes) -> FileIdentity:
        """Keep a whole object."""
        self._contents[path] = data
        return _NOWHERE

    def begin(self, path: str, size: int = 0) -> _Arriving:
        """Keep an object as it arrives."""
        del size
        return _Arriving(self._contents, path)


class _Arriving:
    """An object that comes in chunks, one after the other."""

    def __init__(self, contents: dict[str, bytes], path: str) -> None:
        self._contents = contents
        self._path = path
        self._chunks: list[bytes] = []

    def __enter__(self) -> _Arriving:
        return self

    def __exit__(self, *_exc: object) -> None:
        return None

    def append(self, data: bytes) -> None:
        self._chunks.append(data)

    def write_at(self, data: bytes, offset: int) -> None:
        raise NotImplementedError("ranges of an object are pieces of their own in a pack")

    def publish(self) -> FileIdentity:
        self._contents[self._path] = b"".join(self._chunks)
        return _NOWHERE

    def close(self) -> None:
        return None


_NOWHERE = FileIdentity(0, 0)


def joined(members: tuple[Member, ...], contents: dict[str, bytes]) -> bytes:
    """Return the stretch of a shard that whole members take."""
    parts: list[bytes] = []
    for member in members:
        parts += (member_header(member.name, member.size), contents.get(member.name, b""), padding(member.size))
    return b"".join(parts)


class PieceFetcher:
    """Fetches pieces of a bucket's objects. Thread-safe."""

    def __init__(
        self, transfer: Callable[[Callable[[], PieceWriter]], Transfer], rules: Callable[[], BatchRules]
    ) -> None:
        """`transfer` makes what fetches a batch into a writer; `rules` are asked for each piece anew."""
        self._transfer = transfer
        self._rules = rules

    def fetch(self, shard_index: int, piece: Piece, round_: int) -> FetchedPiece:
        """Fetch a piece; `round_` makes the names of its composites unique. Raises what cannot be got over."""
        if piece.is_range:
            return self._fetch_range(piece)
        contents: dict[str, bytes] = {}
        transfer = self._transfer(lambda: PieceWriter(contents))
        fetched = FetchedPiece()
        first_number = (shard_index * 1_000_000 + piece.number) * _BATCHES_A_PIECE
        for batch in batches_of(piece, self._rules(), first_number):
            result = transfer.run(batch, round_)
            fetched.results.append(result)
            if result.unreadable:
                _, name, reason = result.unreadable[0]
                raise UnreadableObjectsError(
                    f"{object_uri(transfer.reader.bucket, name)} could not be read ({reason}). Check its own access "
                    "list and encryption key, and the permission storage.objects.get on the bucket.",
                    names={name: reason for _, name, reason in result.unreadable},
                )
            fetched.changed += tuple(name for _, name in result.changed)
        if fetched.changed:
            return fetched
        fetched.data = joined(piece.members, contents)
        fetched.crcs = tuple(
            member.crc32c if member.crc32c is not None else crc32c(contents.get(member.name, b""))
            for member in piece.members
        )
        return fetched

    def _fetch_range(self, piece: Piece) -> FetchedPiece:
        (member,) = piece.members
        transfer = self._transfer(lambda: PieceWriter({}))
        version = ObjectVersion(name=member.name, generation=member.generation)
        tally = ReadTally()
        result = BatchResult(piece.number)
        parts: list[bytes] = []
        try:
            for chunk in transfer.reader.chunks(
                version, start=piece.start, end=piece.end, size=member.size, tally=tally
            ):
                parts.append(chunk)  # noqa: PERF402 - what came before an error is let go
        except (ObjectNotFoundError, PreconditionFailedError):
            return FetchedPiece(changed=(member.name,))
        content = b"".join(parts)
        result.resumed = tally.resumed
        result.downloaded_bytes = len(content)
        header = member_header(member.name, member.size) if piece.start == 0 else b""
        end = padding(member.size) if piece.end == member.size else b""
        return FetchedPiece(header + content + end, (crc32c(content),), tally.crc32c, (), [result])


class ShardResult(msgspec.Struct):
    """What became of a shard.

    Attributes:
        index: the shard's.
        reused: it was there already, and right.
        archive_bytes, object_count, sample_count, total_bytes: what it holds.
        skipped: names of objects that were left out, because they or others of their sample had changed.
        composites, composed_bytes, composed_objects, refetched, resumed: what fetching took.
        reasons: how many objects were read directly although they were to be composed, by reason.
    """

    index: int
    reused: bool = False
    archive_bytes: int = 0
    object_count: int = 0
    sample_count: int = 0
    total_bytes: int = 0
    skipped: tuple[str, ...] = ()
    composites: int = 0
    composed_bytes: int = 0
    composed_objects: int = 0
    refetched: int = 0
    resumed: int = 0
    reasons: dict[str, int] = {}

    def add(self, result: BatchResult) -> None:
        """Add what fetching a batch took."""
        self.composites += result.composites
        self.composed_bytes += result.composed_bytes
        self.refetched += result.refetched
        self.resumed += result.resumed
        if result.composites:
            self.composed_objects += len(result.ordinals) - result.fallback_objects
        if result.fell_back:
            self.reasons[result.fell_back] = self.reasons.get(result.fell_back, 0) + result.fallback_objects


class ShardWriter(msgspec.Struct, frozen=True, kw_only=True):
    """Writes the shards of one pack. Thread-safe.

    Attributes:
        bucket: of the objects.
        output: where shards go.
        fetch: fetches a piece: of which shard, which piece, in which round.
        submit: runs a fetch in another thread.
        window_bytes, window_pieces: most that is fetched ahead of what was written, of one shard.
        on_changed_object: as in the request.
        on_written: told how many objects and bytes went into a shard, as they do.
        on_replace: called before a shard is written: whatever described the pack until now does so no longer.
        check: raises if the work is to stop.
    """

    bucket: str
    output: PackOutput
    fetch: Callable[[int, Piece, int], FetchedPiece]
    submit: Callable[[Callable[[], FetchedPiece]], Future[FetchedPiece]]
    window_bytes: int
    window_pieces: int
    on_changed_object: OnChangedObject
    on_written: Callable[[int, int], None]
    on_replace: Callable[[], None]
    check: Callable[[], None]

    def write(self, plan: ShardPlan, round_: int) -> ShardResult:
        """Write a shard if it is not there.

        Raises DestinationError if somebody else's file is there, or no file; PackError if somebody else writes there
        meanwhile; ObjectsChangedError, VerificationError, and what stores raise.
        """
        for name in (plan.name, record_name(plan.name)):
            self.output.check_place(name)
        found = self.output.find(plan.name)
        reused = self._reusable(plan, found)
        if reused is not None:
            return reused
        self._check_it_is_ours(plan, found)
        self.on_replace()
        excluded: frozenset[str] = frozenset()
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1
            result = ShardResult(plan.index)
            try:
                changed = self._write_once(plan, excluded, found, round_ * _ATTEMPTS + attempt, result)
            except (VerificationError, UnavailableError):
                # The stream cannot be taken back: what is wrong in it, or an upload that broke, takes a new one.
                if last:
                    raise
                continue
            except PreconditionFailedError as error:
                written = self._written_by_another(plan, error)
                if written is not None:
                    return written
                raise
            if not changed:
                return result
            if self.on_changed_object == "fail":
                raise self._changed(changed)
            excluded |= changed
        raise self._changed(excluded)

    def _check_it_is_ours(self, plan: ShardPlan, found: FoundShard | None) -> None:
        """Raise DestinationError if no pack has written what is there.

        A shard's record is written before the shard appears. A shard in a bucket has its digest as metadata, too.
        """
        if found is None or found.digest is not None:
            return
        data = self.output.read(record_name(plan.name))
        if data is not None and decode_record(data) is not None:
            return
        place = self.output.uri_of(plan.name)
        raise DestinationError(
            f"{place} is there already, and no pack has written it, so it is not replaced. Give the pack an output of "
            "its own, or remove the file if nobody needs it.",
            path=place,
        )

    def _reusable(self, plan: ShardPlan, found: FoundShard | None) -> ShardResult | None:
        """Return what is there, if it is the planned shard."""
        if found is None:
            return None
        data = self.output.read(record_name(plan.name))
        record = None if data is None else decode_record(data)
        if record is None or not fits(record, plan, may_lack_objects=self.on_changed_object == "skip"):
            return None
        if not self.output.is_right(found, record):
            return None
        return ShardResult(
            plan.index,
            reused=True,
            archive_bytes=record.archive_bytes,
            object_count=len(record.names),
            sample_count=record.sample_count,
            total_bytes=record.total_bytes,
            skipped=record.skipped,
        )

    def _written_by_another(self, plan: ShardPlan, error: PreconditionFailedError) -> ShardResult | None:
        """Look at what somebody else wrote: the same shard is as good as ours."""
        written = self._reusable(plan, self.output.find(plan.name))
        if written is None:
            raise PackError(
                f"Another task wrote a different shard to {self.output.uri_of(plan.name)} at the same time. Give each "
                "pack an output of its own, and run again.",
                resource=self.output.uri_of(plan.name),
            ) from error
        return written

    def _write_once(
        self, plan: ShardPlan, excluded: frozenset[str], found: FoundShard | None, round_: int, result: ShardResult
    ) -> frozenset[str]:
        """Write the shard without the samples of `excluded`; return what else has changed: then nothing was written."""
        planned = plan.without(excluded) if excluded else plan
        changed: set[str] = set()
        crc = length = 0
        crcs: list[int] = []
        large = _LargeObject()
        with self.output.begin(plan.name, plan.digest, found) as file:
            for piece, fetched in self._in_order(planned, round_):
                for one in fetched.results:
                    result.add(one)
                if fetched.changed:
                    changed.update(fetched.changed)
                    if self.on_changed_object == "fail":
                        return frozenset(changed)
                if changed:
                    continue  # the others are fetched only to know which of them have changed, too
                if piece.is_range:
                    crcs += large.take(self.bucket, piece, fetched)
                else:
                    crcs += fetched.crcs
                file.append(fetched.data)
                crc = extend(crc, fetched.data)
                length += len(fetched.data)
                self.on_written(
                    0 if piece.end < piece.members[0].size and piece.is_range else len(piece.members),
                    piece.fetched_bytes,
                )
            if changed:
                return frozenset(changed)
            end = end_of_archive(length)
            file.append(end)
            crc, length = extend(crc, end), length + len(end)
            record = self._record(plan, planned, crcs, crc, length, file)
            self.output.write(record_name(plan.name), encode_record(record))
            self.check()
            file.publish(crc)
        result.archive_bytes, result.skipped = length, record.skipped
        result.object_count, result.sample_count = len(record.names), record.sample_count
        result.total_bytes = record.total_bytes
        return frozenset()

    def _record(
        self, plan: ShardPlan, planned: ShardPlan, crcs: list[int], crc: int, length: int, file: ShardFile
    ) -> ShardRecord:
        packed = {member.name for member in planned.members}
        return ShardRecord(
            index=plan.index,
            name=plan.name,
            digest=plan.digest,
            archive_bytes=length,
            crc32c=crc,
            skipped=tuple(member.name for member in plan.members if member.name not in packed),
            file=file.identity(),
            names=tuple(member.name for member in planned.members),
            sizes=tuple(member.size for member in planned.members),
            generations=tuple(member.generation for member in planned.members),
            crcs=tuple(crcs),
        )

    def _in_order(self, plan: ShardPlan, round_: int) -> Iterator[tuple[Piece, FetchedPiece]]:
        """Fetch ahead, and yield the pieces in order. What is under way when the caller stops is waited for."""
        waiting: deque[tuple[Piece, Future[FetchedPiece]]] = deque()
        ahead = 0
        try:
            for piece in pieces_of(plan):
                while waiting and (
                    len(waiting) >= self.window_pieces or ahead + piece.fetched_bytes > self.window_bytes
                ):
                    first, future = waiting.popleft()
                    ahead -= first.fetched_bytes
                    yield first, future.result()
                self.check()
                ahead += piece.fetched_bytes
                waiting.append((piece, self.submit(self._job(plan.index, piece, round_))))
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
            for _, future in waiting:
                if not future.cancelled():
                    future.exception()  # waits, and lets what it says go: the caller has an error already

    def _job(self, shard_index: int, piece: Piece, round_: int) -> Callable[[], FetchedPiece]:
        return lambda: self.fetch(shard_index, piece, round_)

    def _changed(self, changed: frozenset[str]) -> ObjectsChangedError:
        names = sorted(changed)
        shown = ", ".join(object_uri(self.bucket, name) for name in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return ObjectsChangedError(
            f"{len(names)} object(s) were overwritten or deleted since they were listed: {shown}{more}. List again and "
            "pack the new manifest (shards that stay the same are not written again), or leave their samples out with "
            'on_changed_object="skip".',
            names=names,
        )


class _LargeObject:
    """Joins the checksums of an object's ranges, which come in order."""

    def __init__(self) -> None:
        self._crc = 0

    def take(self, bucket: str, piece: Piece, fetched: FetchedPiece) -> list[int]:
        """Add a range; return the object's checksum with its last one. Raises VerificationError if it is wrong."""
        (member,) = piece.members
        start = len(member_header(member.name, member.size)) if piece.start == 0 else 0
        content = fetched.data[start : start + piece.end - piece.start]
        self._crc = extend(self._crc, content)
        if piece.end < member.size:
            return []
        crc, self._crc = self._crc, 0
        expected = member.crc32c if member.crc32c is not None else fetched.sent_crc
        if crc != expected:
            uri = object_uri(bucket, member.name, member.generation)
            right = "no other was announced" if expected is None else f"{expected:08x} is right"
            raise VerificationError(
                f"{uri} arrived with crc32c {crc:08x}, {right}. Nothing was published for its shard. Run again; if it "
                "stays, compare the object's crc32c with that of its source.",
                name=member.name,
                generation=member.generation,
            )
        return [crc]
