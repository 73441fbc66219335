"""Fetch one batch: compose, stream, slice, verify, write; or read its objects one by one.

Guarantees: a file is published only after its size and CRC32C were found to be those listed (or, where the listing
has none, those that Cloud Storage sends with the bytes). A composite is registered before it is asked for and given
up for deletion on every way out. What a composite cannot give (a component changed, composes are throttled, a
component arrives wrong) is read directly, and said.

Does not do: large objects in ranges (`ranged.py`), threads (`fetch_worker.py`), what a changed object means
(`left_out.py`).
"""

from __future__ import annotations

import itertools
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, Self

import msgspec

from airflow_dataflux.core.errors import (
    AuthenticationError,
    BucketNotFoundError,
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreError,
    ThrottledError,
    UnavailableError,
    VerificationError,
)
from airflow_dataflux.core.gcs.store import NotWantedError, ObjectVersion, Pace, Store, StoredObject
from airflow_dataflux.core.model import object_uri
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.staging.batching import Batch, BatchKind
from airflow_dataflux.core.staging.checksum import crc32c, extend
from airflow_dataflux.core.staging.composite_registry import CompositeRegistry
from airflow_dataflux.core.staging.composites import CompositeNames
from airflow_dataflux.core.staging.helped_group import HelpedGroup, Helpers
from airflow_dataflux.core.staging.localfile import FileIdentity
from airflow_dataflux.core.staging.slicer import Slice, Slicer
from airflow_dataflux.core.staging.strategy import AWAITED, PROBED, WRITES_LIMITED, StrategyChooser, help_pays

_GZIP_MEMBER = 16 + zlib.MAX_WBITS
"""Window bits that mean the gzip format (https://docs.python.org/3/library/zlib.html#zlib.decompressobj)."""

_UNPACKED_BYTES = 1 << 20
"""Unpacked at once: a small object may hold a thousand times as much."""

WHOLE_BYTES = 1 << 18
"""Objects up to this size, which arrive in one chunk, are verified in memory before a file is opened for them. 160 of
1 MiB at a time took 50 MB and a tenth of the processor time more than as files that grow."""

_MOST_CUTTING = 32
_COMPUTED_A_FILE_S = 0.0001

GIVE_WAY_S = 0.25
"""How long a direct read waits at most for composites to be cut: on a slow disk they may always wait."""

NO_COMPONENT = "a component changed since it was listed"
THROTTLED = "composes were throttled"
NOT_ALLOWED = "composing was refused (permission)"
UNAVAILABLE = "compose was unavailable"
REFUSED = "compose was refused"
COMPOSITE_LOST = "the composite disappeared while it was read"

_CONFLICT = 409

MOST_REFUSALS = {THROTTLED: 1, NOT_ALLOWED: 1, UNAVAILABLE: 3, REFUSED: 3}
"""So many batches that could not be composed for one of these reasons, and no more composes are sent: one may have been
about its objects, three in a row of failures are about the bucket, or about what lies before it."""


def refused_compose(error: StoreError) -> str:
    """Return the reason of a batch that was read directly because its compose was refused."""
    return f"{REFUSED} ({error.details.get('status')} {error.details.get('reason')})"


class ComposeRefusals:
    """Counts batches that could not be composed, until it is known that no more are worth asking for. One thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.stop_reason = ""

    def count(self, result: BatchResult) -> None:
        """Take note of a batch; `stop_reason` says afterwards why no more should be composed, if so.

        A source that cannot be read makes its compose refused, too; that says nothing about others.
        """
        reason = result.fell_back
        kind = next((kind for kind in MOST_REFUSALS if reason.startswith(kind)), None)
        if kind is None or result.unreadable:
            return
        self._counts[kind] += 1
        if self._counts[kind] >= MOST_REFUSALS[kind] and not self.stop_reason:
            self.stop_reason = reason


def cutting_at_once(seconds_a_file: float) -> int:
    """Return how many threads should cut composites and write files at once, by how long one file takes.

    Each file takes five system calls, each of which lets the next thread have the interpreter. With several threads at
    it, much of the time goes into handing it round: 11,098 objects of 10 KiB on tmpfs took 2.0 s and 1.9 CPU-s with
    one, 2.4 s and 2.5 CPU-s with six. Where the file system makes a thread wait, such as one over a network, as many
    wait side by side as it takes to keep a processor busy.
    """
    return max(1, min(_MOST_CUTTING, round(seconds_a_file / _COMPUTED_A_FILE_S)))


class Cutting:
    """Admits so many threads at one moment that cut composites into files (`cutting_at_once`). Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places = threading.Semaphore(most)
        self._changed = threading.Condition()
        self._wanted = 0

    def __enter__(self) -> None:
        with self._changed:
            self._wanted += 1
        self._places.acquire()

    def __exit__(self, *_: object) -> None:
        self._places.release()
        with self._changed:
            self._wanted -= 1
            if self._wanted <= self._most:
                self._changed.notify_all()

    def give_way(self) -> None:
        """Wait while others wait to cut, but not for long: an object takes a sixth of the time when it is cut.

        Threads that read directly take the interpreter from the one that cuts, at each of its files. Composites that
        are cut late are deleted late, and the staging ends when they are.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._wanted <= self._most, GIVE_WAY_S)


class BatchResult(msgspec.Struct):
    """What became of a batch.

    Attributes:
        number: the batch's.
        ordinals, mtimes_ns, inodes: the objects that are in place now, and what identifies their files.
        downloaded_bytes: their bytes.
        direct_bytes: those of them that were read directly, and not from a composite.
        changed: ordinal and name of the objects whose generation is gone.
        unreadable: ordinal, name and reason of the objects that Cloud Storage will not give out.
        composites: composites made.
        composed_bytes: their bytes.
        fell_back: why a composite batch could not be composed, or its composite not be read; "" if it could.
        fallback_objects: how many objects were read directly for that reason.
        chosen_direct: objects that were read directly because that is better, by reason.
        refetched: objects with wrong bytes that were read again.
        resumed: interrupted reads that were continued.
        compose_s, read_s: time spent waiting for composes, and reading, slicing and writing.
        network_s: time that requests were under way, without the wait for their turn, for files and for other threads.
        began: when work on it began, on the monotonic clock.
    """

    number: int
    ordinals: list[int] = []
    mtimes_ns: list[int] = []
    inodes: list[int] = []
    downloaded_bytes: int = 0
    direct_bytes: int = 0
    changed: list[tuple[int, str]] = []
    unreadable: list[tuple[int, str, str]] = []
    composites: int = 0
    composed_bytes: int = 0
    fell_back: str = ""
    fallback_objects: int = 0
    chosen_direct: Counter[str] = msgspec.field(default_factory=Counter)
    refetched: int = 0
    resumed: int = 0
    compose_s: float = 0.0
    read_s: float = 0.0
    network_s: float = 0.0
    began: float = msgspec.field(default_factory=time.monotonic)

    def place(self, batch: Batch, index: int, placed: FileIdentity) -> None:
        """Record that an object of the batch is in its place."""
        self.ordinals.append(batch.ordinals[index])
        self.mtimes_ns.append(placed.mtime_ns)
        self.inodes.append(placed.inode)
        self.downloaded_bytes += batch.sizes[index]

    def add(self, other: BatchResult) -> None:
        """Add what another thread fetched of the same batch."""
        self.ordinals += other.ordinals
        self.mtimes_ns += other.mtimes_ns
        self.inodes += other.inodes
        self.downloaded_bytes += other.downloaded_bytes
        self.direct_bytes += other.direct_bytes
        self.changed += other.changed
        self.unreadable += other.unreadable
        self.chosen_direct += other.chosen_direct
        self.refetched += other.refetched
        self.resumed += other.resumed
        self.read_s += other.read_s
        self.network_s += other.network_s

    def leave_out(self, batch: Batch, index: int, error: StoreError) -> None:
        """Record that an object cannot be had, because of an answer that is about this object.

        Raises the error if it is not.
        """
        if isinstance(error, ObjectNotFoundError | PreconditionFailedError):
            self.changed.append((batch.ordinals[index], batch.names[index]))
        elif error.retryable or isinstance(error, AuthenticationError | BucketNotFoundError):
            raise error
        else:
            self.unreadable.append((batch.ordinals[index], batch.names[index], _told(error)))


def _told(error: StoreError) -> str:
    """Return what Cloud Storage answered, in a few words."""
    told = (error.details.get("status"), error.details.get("reason"))
    return " ".join(str(one) for one in told if one) or str(error)


class PendingObject(Protocol):
    """An object that is arriving. Use it in a `with` block: without `publish`, nothing remains of it."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_exc: object) -> None: ...

    def append(self, data: bytes) -> None:
        """Take the bytes behind those that were appended before."""
        ...

    def write_at(self, data: bytes, offset: int) -> None:
        """Take bytes from an offset on; may be called from several threads at once."""
        ...

    def publish(self) -> FileIdentity:
        """Make it the object, whole."""
        ...

    def close(self) -> None:
        """Give it up if it was not published."""
        ...


class ObjectWriter(Protocol):
    """Takes verified objects by their paths: files of a tree (`localfile.TreeWriter`), or members of a shard.

    One thread, in a `with` block.
    """

    def __enter__(self) -> Self: ...
    def __exit__(self, *_exc: object) -> None: ...

    def directory(self, path: str) -> object:
        """Make a directory, for a placeholder."""
        ...

    def write(self, path: str, data: bytes) -> FileIdentity:
        """Take a whole object."""
        ...

    def begin(self, path: str, size: int = 0) -> PendingObject:
        """Take an object piece by piece. Publish or close it before the next call of this writer."""
        ...


class Transfer(msgspec.Struct, frozen=True):
    """Everything that fetching a batch needs. Thread-safe.

    Attributes:
        reader: reads bytes; a cancel ends it.
        composing_store: makes composites; a cancel does not end it, so that the result of each compose becomes known.
        open_writer: opens what takes the objects of one batch; each batch has its own.
        registry: keeps track of composites.
        names: names them.
        strip_prefix: what paths lack of object names.
        cutting: admits the threads that cut composites into files.
        chooser: chooses the way of what may be composed; None: it is composed.
        enqueue: has a job done by a thread that has nothing else to do; None: there are none.
    """

    reader: ObjectReader
    composing_store: Store
    open_writer: Callable[[], ObjectWriter]
    registry: CompositeRegistry
    names: CompositeNames
    strip_prefix: str
    cutting: Cutting
    chooser: StrategyChooser | None = None
    enqueue: Callable[[Callable[[], None]], None] | None = None

    def run(self, batch: Batch, round_: int) -> BatchResult:
        """Fetch a batch that is not ranged; `round_` counts how often it was handed out before."""
        result = BatchResult(batch.number)
        with self.open_writer() as writer:
            if batch.kind is BatchKind.COMPOSITE:
                self._as_chosen(batch, round_, writer, result)
            else:
                self._directly(batch, range(len(batch.names)), writer, result)
        return result

    def path(self, name: str) -> str:
        """Return the relative path of an object that passed the name check."""
        return name[len(self.strip_prefix) :]

    def verify(self, batch: Batch, index: int, size: int, crc: int, sent_crc: int | None) -> str | None:
        """Return what is wrong with the bytes that arrived for an object, None if nothing is."""
        if size != batch.sizes[index]:
            return f"{size} bytes arrived, {batch.sizes[index]} were listed"
        listed = batch.crcs[index]
        expected = listed if listed is not None else sent_crc
        if expected is None:
            return "neither the listing nor the answer has a crc32c to verify it with"
        if sent_crc is not None and sent_crc != expected:
            return f"the answer announces crc32c {sent_crc:08x}, {expected:08x} was listed"
        if crc != expected:
            return f"crc32c {crc:08x} arrived, {expected:08x} is right"
        return None

    def _put(self, batch: Batch, index: int, data: bytes, writer: ObjectWriter) -> FileIdentity:
        """Put the whole content of an object in place; a placeholder becomes a directory."""
        path = self.path(batch.names[index])
        if path and not path.endswith("/"):
            return writer.write(path, data)
        writer.directory(path.rstrip("/"))
        return FileIdentity(0, 0)

    def _as_chosen(self, batch: Batch, round_: int, writer: ObjectWriter, result: BatchResult) -> None:
        """Compose a batch, but for what is better read directly."""
        chooser, count = self.chooser, len(batch.names)
        if chooser is None:
            self._through_composite(batch, round_, writer, result)
            return
        choose, done = chooser.first, 0
        while done < count:
            decision = choose(batch.sizes[done:count], *self._paces(), self.registry.undeleted)
            if decision.wait:
                chooser.wait_for_answer()
                self.reader.cancel.raise_if_cancelled()
                continue
            if not decision.direct:
                composed_to = count - decision.probe
                group = batch.part(range(done, composed_to))
                helpers = None if decision.probe else self._helpers(group)
                left = self._through_composite(group, round_, writer, result, helpers)
                if decision.probe:
                    self._directly_measured(batch, range(composed_to, count), PROBED, writer, result)
                count, choose = done + left, chooser.following
                continue
            if decision.reason == WRITES_LIMITED:
                self.cutting.give_way()
            taken = range(done, done + decision.direct)
            self._directly_measured(batch, taken, decision.reason, writer, result)
            done, choose = taken.stop, chooser.following

    def _directly_measured(
        self, batch: Batch, taken: range, reason: str, writer: ObjectWriter, result: BatchResult
    ) -> None:
        result.chosen_direct[reason] += len(taken)
        network_s, cpu_s = result.network_s, time.thread_time()
        measured_s = 0.0
        try:
            self._directly(batch, taken, writer, result)
            measured_s = result.network_s - network_s
        finally:
            if self.chooser is not None:
                self.chooser.read(batch.sizes[taken.start : taken.stop], measured_s, time.thread_time() - cpu_s)

    def _through_composite(
        self, batch: Batch, round_: int, writer: ObjectWriter, result: BatchResult, helpers: Helpers | None = None
    ) -> int:
        """Compose a batch and read it; return how many of its first objects are left: 0, unless that was given up."""
        results: list[BatchResult] = []
        try:
            with HelpedGroup(len(batch.names), lambda taken: self._help(batch, taken, results), helpers) as helped:
                return self._composed_batch(batch, round_, writer, result, helped)
        finally:
            for each in results:
                result.add(each)

    def _composed_batch(
        self, batch: Batch, round_: int, writer: ObjectWriter, result: BatchResult, helped: HelpedGroup
    ) -> int:
        """Do so with what helpers do not take; return the same."""
        began = time.monotonic()
        network_s, cpu_s = result.network_s, time.thread_time()
        done: set[int] = set()
        try:
            composite = self._compose(batch, round_, result, helped)
            result.compose_s += time.monotonic() - began
            if self.chooser is not None:
                self.chooser.answered()
            rest = helped.take_rest()
            if composite is not None:
                self._read_composite(batch, helped, composite, writer, result, done)
        except NotWantedError:
            rest = helped.take_rest()
            self._directly(batch, helped.handed_back(), writer, result)
            return rest
        finally:
            if self.chooser is not None:
                whole = len(done) == len(batch.names)
                self.chooser.composed(
                    batch.sizes, result.network_s - network_s if whole else 0.0, time.thread_time() - cpu_s
                )
        own = (*range(rest), *helped.handed_back())
        wrong = [index for index in own if batch.ordinals[index] not in done]
        if wrong:
            if result.fell_back:
                result.fallback_objects = len(wrong)
            else:
                result.refetched += len(wrong)
            self._directly(batch, wrong, writer, result)
        return 0

    def _helpers(self, batch: Batch) -> Helpers | None:
        """Return who reads objects of a batch while its composite is awaited, if that is worth it."""
        if self.enqueue is None or not help_pays(batch.sizes):
            return None
        return Helpers(self.enqueue, lambda: self.reader.store.pace("read").kept_per_s is None)

    def _help(self, batch: Batch, taken: Iterator[int], results: list[BatchResult]) -> Iterable[int]:
        """Read objects directly, in a thread that has nothing else to do; return what could not be read.

        The composite may have that: the batch's own thread reads it.
        """
        first = next(taken, None)
        if first is None:
            return ()
        result = BatchResult(batch.number)
        results.append(result)
        with self.open_writer() as writer:
            for index in itertools.chain([first], taken):
                try:
                    self._directly(batch, [index], writer, result)
                except (StoreError, VerificationError):
                    return (index,)
                result.chosen_direct[AWAITED] += 1
        return ()

    def _still_composes(self, batch: Batch, helped: HelpedGroup) -> bool:
        if self.chooser is None:
            return True
        sizes = batch.sizes[: helped.left]
        return bool(sizes) and self.chooser.still_composes(sizes, *self._paces(), self.registry.undeleted - 1)

    def _paces(self) -> tuple[Pace, Pace]:
        """Return how reads and writes are paced now."""
        return self.reader.store.pace("read"), self.composing_store.pace("write")

    def _read_composite(
        self,
        batch: Batch,
        helped: HelpedGroup,
        composite: StoredObject,
        writer: ObjectWriter,
        result: BatchResult,
        done: set[int],
    ) -> None:
        """Read what helpers did not, and discard the composite; `done` receives the ordinals of what arrived right."""
        version = ObjectVersion(name=composite.row.name, generation=composite.row.generation)
        started = time.monotonic()
        try:
            if rest := helped.take_rest():
                self._slice(batch, range(rest), composite, writer, result, done)
            for index in helped.handed_back():
                self._slice(batch, range(index, index + 1), composite, writer, result, done)
        except (ObjectNotFoundError, PreconditionFailedError):
            result.fell_back = COMPOSITE_LOST
        except (UnavailableError, VerificationError) as error:
            result.fell_back = f"reading the composite failed ({type(error).__name__})"
        finally:
            result.read_s += time.monotonic() - started
            self.registry.discard(version)

    def _compose(self, batch: Batch, round_: int, result: BatchResult, helped: HelpedGroup) -> StoredObject | None:
        """Make the batch's composite; None, with the reason in the result, if there is to be none.

        Raises NotWantedError if it was given up.
        """
        name = self.names.name(batch.number, round_)
        sources = [
            ObjectVersion(name=source, generation=generation)
            for source, generation in zip(batch.names, batch.generations, strict=True)
        ]
        self.reader.cancel.raise_if_cancelled()
        self.registry.register(name)
        try:
            return self._composed(batch, name, sources, result, helped)
        finally:
            self.registry.given_up(name)

    def _composed(
        self,
        batch: Batch,
        name: str,
        sources: list[ObjectVersion],
        result: BatchResult,
        helped: HelpedGroup,
    ) -> StoredObject | None:
        """Ask for a composite that is registered, and tell the registry what became of it, if that is known."""
        began, waited_s = time.monotonic(), self.composing_store.waited_s()
        try:
            stored = self.composing_store.compose(
                self.reader.bucket,
                name,
                sources,
                metadata=self.names.metadata,
                storage_class=batch.storage_class,
                still_wanted=lambda: self._still_composes(batch, helped),
                answer_lost=lambda: self.registry.answer_lost(name),
            )
        except NotWantedError:
            self.registry.never_made(name)
            raise
        except (ObjectNotFoundError, PreconditionFailedError):
            result.fell_back = NO_COMPONENT
        except ThrottledError:
            # Some of the retries may have been answered otherwise: its outcome stays unknown to the registry.
            result.fell_back = THROTTLED
            return None
        except PermissionDeniedError:
            result.fell_back = NOT_ALLOWED
        except UnavailableError as error:
            conflict = error.details.get("status") == _CONFLICT
            result.fell_back = refused_compose(error) if conflict else UNAVAILABLE
            return None
        except StoreError as error:
            if isinstance(error, AuthenticationError | BucketNotFoundError):
                raise  # whoever is not let in cannot read, either
            result.fell_back = refused_compose(error)
            if error.details.get("attempts", 1) > 1:
                return None  # an earlier attempt may have been carried out
        else:
            result.network_s += time.monotonic() - began - (self.composing_store.waited_s() - waited_s)
            version = ObjectVersion(name=stored.row.name, generation=stored.row.generation)
            self.registry.created(version)
            result.composites += 1
            result.composed_bytes += batch.total_bytes
            if stored.row.size == batch.total_bytes:
                return stored
            self.registry.discard(version)
            result.fell_back = "the composite has the wrong size"
            return None
        self.registry.never_made(name)
        return None

    def _slice(
        self,
        whole: Batch,
        indexes: range,
        composite: StoredObject,
        writer: ObjectWriter,
        result: BatchResult,
        done: set[int],
    ) -> None:
        """Stream a stretch of the components into files."""
        version = ObjectVersion(name=composite.row.name, generation=composite.row.generation)
        batch = whole.part(indexes)
        slicer = Slicer(batch.sizes)
        tally = ReadTally()
        file: PendingObject | None = None
        start, size = sum(whole.sizes[: indexes.start]), composite.row.size
        end = start + batch.total_bytes
        try:
            for chunk in (
                self.reader.chunks(version, start=start, end=end, size=size, tally=tally) if end > start else ()
            ):
                with self.cutting:
                    for piece in slicer.feed(chunk):
                        file = self._take(piece, batch, file, writer, result, done)
            for piece in slicer.finish():
                file = self._take(piece, batch, file, writer, result, done)
        finally:
            result.resumed += tally.resumed
            result.network_s += tally.network_s
            if file is not None:
                file.close()

    def _take(
        self,
        piece: Slice,
        batch: Batch,
        file: PendingObject | None,
        writer: ObjectWriter,
        result: BatchResult,
        done: set[int],
    ) -> PendingObject | None:
        """Put a slice into its file; return the file while it needs more."""
        index = piece.component
        if piece.last and self.verify(batch, index, piece.offset + len(piece.data), piece.crc32c, None) is not None:
            if file is not None:
                file.close()
            return None  # it is not in `done`, and so is read again directly
        if piece.last and file is None:
            result.place(batch, index, self._put(batch, index, piece.data, writer))
            done.add(batch.ordinals[index])
            return None
        if file is None:
            file = writer.begin(self.path(batch.names[index]))
        file.append(piece.data)
        if not piece.last:
            return file
        with file:
            result.place(batch, index, file.publish())
        done.add(batch.ordinals[index])
        return None

    def _directly(self, batch: Batch, indexes: Iterable[int], writer: ObjectWriter, result: BatchResult) -> None:
        started = time.monotonic()
        try:
            for index in indexes:
                self.reader.cancel.raise_if_cancelled()
                try:
                    result.place(batch, index, self._fetch(batch, index, writer, result))
                    result.direct_bytes += batch.sizes[index]
                except StoreError as error:
                    result.leave_out(batch, index, error)
        finally:
            result.read_s += time.monotonic() - started

    def _fetch(self, batch: Batch, index: int, writer: ObjectWriter, result: BatchResult) -> FileIdentity:
        """Read one object, once more if it arrives wrong. Raises VerificationError if it does so again."""
        once = self._fetch_small if batch.sizes[index] <= WHOLE_BYTES else self._fetch_large
        if batch.kind is BatchKind.DECOMPRESSED:
            once = self._fetch_decompressed
        file = once(batch, index, writer, result)
        if isinstance(file, str):
            result.refetched += 1
            file = once(batch, index, writer, result)
        if isinstance(file, str):
            raise wrong_bytes(self.reader.bucket, batch, index, file)
        return file

    def _fetch_small(self, batch: Batch, index: int, writer: ObjectWriter, result: BatchResult) -> FileIdentity | str:
        tally = ReadTally()
        data = b"".join(self._chunks(batch, index, tally, result))
        wrong = self.verify(batch, index, len(data), crc32c(data), tally.crc32c)
        return wrong or self._put(batch, index, data, writer)

    def _fetch_large(self, batch: Batch, index: int, writer: ObjectWriter, result: BatchResult) -> FileIdentity | str:
        tally = ReadTally()
        slicer = Slicer((batch.sizes[index],))
        crc = 0
        with writer.begin(self.path(batch.names[index])) as file:
            try:
                for chunk in self._chunks(batch, index, tally, result):
                    for piece in slicer.feed(chunk):
                        file.append(piece.data)
                        crc = piece.crc32c
            except VerificationError as error:
                return error.message
            wrong = self.verify(batch, index, slicer.received_bytes, crc, tally.crc32c)
            return wrong or file.publish()

    def _fetch_decompressed(
        self, batch: Batch, index: int, writer: ObjectWriter, result: BatchResult
    ) -> FileIdentity | str:
        """Read an object and unpack it; what is verified are the bytes that are stored."""
        tally = ReadTally()
        unpacker = GzipUnpacker()
        crc = size = 0
        with writer.begin(self.path(batch.names[index])) as file:
            for chunk in self._chunks(batch, index, tally, result):
                crc, size = extend(crc, chunk), size + len(chunk)
                for data in unpacker.feed(chunk):
                    file.append(data)
            wrong = self.verify(batch, index, size, crc, tally.crc32c)
            if wrong:
                return wrong
            if unpacker.broken:
                raise self._not_gzip(batch, index, unpacker.broken)
            return file.publish()

    def _not_gzip(self, batch: Batch, index: int, why: str) -> StoreError:
        resource = object_uri(self.reader.bucket, batch.names[index], batch.generations[index])
        reason = f"not gzip, as its content encoding says: {why}"
        return StoreError(
            f"{resource} cannot be unpacked ({reason}). "
            "Stage it with decompress=False, or correct its content encoding.",
            operation="read",
            resource=resource,
            status=None,
            reason=reason,
        )

    def _chunks(self, batch: Batch, index: int, tally: ReadTally, result: BatchResult) -> Iterable[bytes]:
        version = ObjectVersion(name=batch.names[index], generation=batch.generations[index])
        size = batch.sizes[index]
        try:
            yield from self.reader.chunks(version, start=0, end=size, size=size, tally=tally)
        finally:
            result.resumed += tally.resumed
            result.network_s += tally.network_s


class GzipUnpacker:
    """Feed it the bytes of a gzip file, take what they hold. One thread."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_MEMBER)
        self._error = ""

    @property
    def broken(self) -> str:
        """What is wrong with what was fed so far, as a whole file; "" if nothing is."""
        return self._error or ("" if self._member.eof else "it ends too early")

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield unpacked bytes, a megabyte at most at once."""
        pending = chunk
        try:
            while not self._error:
                if self._member.eof:
                    pending = pending.lstrip(b"\0")  # another member, or padding
                    if not pending:
                        return
                    self._member = zlib.decompressobj(_GZIP_MEMBER)
                data = self._member.decompress(pending, _UNPACKED_BYTES)
                pending = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
                if data:
                    yield data
                elif not pending and not self._member.eof:
                    return
        except zlib.error as error:
            self._error = str(error)


def wrong_bytes(bucket: str, batch: Batch, index: int, wrong: str) -> VerificationError:
    """Return the error for an object that arrived wrong twice."""
    uri = object_uri(bucket, batch.names[index], batch.generations[index])
    return VerificationError(
        f"{uri} arrived wrong twice: {wrong}. Nothing was published for it. Run again; if it stays, compare the "
        "object's crc32c with that of its source.",
        name=batch.names[index],
        generation=batch.generations[index],
        reason=wrong,
    )


CHUNK_BYTES = 1 << 18
"""What a thread holds of a stream: 256 KiB times the requests in flight is the memory of a worker."""

_BREAKS_IN_A_ROW = 6
_FIRST_PAUSE_S = 0.1
"""The first break is resumed at once; then 0.1 s, doubled each time: 3 s in all before giving up."""


class ReadTally(msgspec.Struct):
    """What reading took. `crc32c` is of the whole object as the response said, None if it did not.

    `network_s` is the time until the first byte, without the wait for the request's turn, and until each that followed.
    """

    resumed: int = 0
    crc32c: int | None = None
    network_s: float = 0.0


class ObjectReader(msgspec.Struct, frozen=True):
    """Reads from one bucket."""

    store: Store
    bucket: str
    cancel: CancelToken

    def chunks(self, version: ObjectVersion, *, start: int, end: int, size: int, tally: ReadTally) -> Iterator[bytes]:
        """Yield the bytes `[start, end)` of an object of `size` bytes.

        Raises ObjectNotFoundError or PreconditionFailedError if this generation is gone, CancelledError.
        """
        position, breaks, asked = start, 0, False
        while position < end or not asked:
            since_break = 0
            # A whole object is asked for without a range: a body longer than it should be is then noticed.
            until = None if end == size else end
            try:
                began, waited_s = time.monotonic(), self.store.waited_s()
                with self.store.read(self.bucket, version, start=position, end=until) as body:
                    tally.network_s -= self.store.waited_s() - waited_s
                    asked, tally.crc32c = True, body.crc32c
                    chunks = body.chunks(CHUNK_BYTES)
                    while True:
                        chunk = next(chunks, b"")
                        tally.network_s += time.monotonic() - began
                        if not chunk:
                            break
                        self.cancel.raise_if_cancelled()
                        position += len(chunk)
                        since_break += len(chunk)
                        if since_break >= CHUNK_BYTES:
                            breaks = 0  # a body that only trickles does not count as one that comes
                        yield chunk
                        began = time.monotonic()
                if position < end:
                    raise self._ended_early(version, position, end)
            except UnavailableError as error:
                if "received_bytes" not in error.details:
                    raise  # there was no body yet, and the store has asked for it as often as it is worth
                breaks += 1
                tally.resumed += 1
                if breaks == _BREAKS_IN_A_ROW:
                    raise
                if breaks > 1 and self.cancel.wait(_FIRST_PAUSE_S * 2 ** (breaks - 2)):
                    self.cancel.raise_if_cancelled()

    def _ended_early(self, version: ObjectVersion, position: int, end: int) -> UnavailableError:
        resource = object_uri(self.bucket, version.name, version.generation)
        return UnavailableError(
            f"{resource} ended at byte {position} of {end}.",
            operation="read",
            resource=resource,
            status=None,
            reason="the body ended early",
            received_bytes=position,
        )
