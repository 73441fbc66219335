"""Fetch one batch: compose, stream, slice, verify, write; or read its objects one by one.

Guarantees: a file is published only after its size and CRC32C were found to be those listed (or, where the listing
has none, those that Cloud Storage sends with the bytes). A composite is registered before it is asked for and given
up for deletion on every way out. What a composite cannot give (a component changed, composes are throttled, a
component arrives wrong) is read directly, and said.

Does not do: large objects in ranges (`ranged.py`), threads (`worker.py`), what a changed object means (`stager.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_dataflux.core.errors import (
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    ThrottledError,
    UnavailableError,
    VerificationError,
)
from airflow_dataflux.core.gcs.store import ObjectVersion, RequestCounts, Store, StoredObject
from airflow_dataflux.core.model import object_uri
from airflow_dataflux.core.staging.checksum import crc32c
from airflow_dataflux.core.staging.composites import CompositeNames
from airflow_dataflux.core.staging.keeper import CompositeKeeper
from airflow_dataflux.core.staging.localfile import Branches, DestinationTree, PendingFile, Placed
from airflow_dataflux.core.staging.plan import Batch, BatchKind
from airflow_dataflux.core.staging.reading import Reader, ReadTally
from airflow_dataflux.core.staging.slicer import Slice, Slicer

WHOLE_BYTES = 1 << 20
"""Objects up to this size are verified in memory before a file is opened for them."""

_MOST_CUTTING = 32
_COMPUTED_A_FILE_S = 0.0001

NO_COMPONENT = "a component changed since it was listed"
THROTTLED = "composes were throttled"
NOT_ALLOWED = "composing was refused (permission)"
UNAVAILABLE = "compose was unavailable"
COMPOSITE_LOST = "the composite disappeared while it was read"


def cutting_at_once(seconds_a_file: float) -> int:
    """Return how many threads should cut composites and write files at once, by how long one file takes.

    Each file takes five system calls, each of which lets the next thread have the interpreter. With several threads at
    it, much of the time goes into handing it round: 11,098 objects of 10 KiB on tmpfs took 2.0 s and 1.9 CPU-s with
    one, 2.4 s and 2.5 CPU-s with six. Where the file system makes a thread wait, such as one over a network, as many
    wait side by side as it takes to keep a processor busy.
    """
    return max(1, min(_MOST_CUTTING, round(seconds_a_file / _COMPUTED_A_FILE_S)))


@dataclass(slots=True)
class Outcome:
    """What became of a batch.

    Attributes:
        number: the batch's.
        ordinals, mtimes_ns, inodes: the objects that are in place now, and what identifies their files.
        downloaded_bytes: their bytes.
        changed: ordinal and name of the objects whose generation is gone.
        composites: composites made.
        composed_bytes: their bytes.
        fell_back: why objects of a composite batch were read directly; "" if none were.
        fallback_objects: how many.
        refetched: objects that arrived wrong and were read again.
        resumed: bodies that broke and were read on.
        compose_s, read_s: time spent waiting for composes, and reading, slicing and writing.
        began: when work on it began, on the monotonic clock.
    """

    number: int
    ordinals: list[int] = field(default_factory=list)
    mtimes_ns: list[int] = field(default_factory=list)
    inodes: list[int] = field(default_factory=list)
    downloaded_bytes: int = 0
    changed: list[tuple[int, str]] = field(default_factory=list)
    composites: int = 0
    composed_bytes: int = 0
    fell_back: str = ""
    fallback_objects: int = 0
    refetched: int = 0
    resumed: int = 0
    compose_s: float = 0.0
    read_s: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def place(self, batch: Batch, index: int, placed: Placed) -> None:
        """Record that an object of the batch is in its place."""
        self.ordinals.append(batch.ordinals[index])
        self.mtimes_ns.append(placed.mtime_ns)
        self.inodes.append(placed.inode)
        self.downloaded_bytes += batch.sizes[index]

    def change(self, batch: Batch, index: int) -> None:
        """Record that the listed generation of an object is gone."""
        self.changed.append((batch.ordinals[index], batch.names[index]))


@dataclass(frozen=True, slots=True)
class Transfer:
    """Everything that fetching a batch needs. Thread-safe.

    Attributes:
        reader: reads bytes; a cancel ends it.
        writer: makes composites; a cancel does not end it, so that the outcome of each compose becomes known.
        tree: where files go.
        keeper: accounts for composites.
        names: names them.
        strip_prefix: what paths lack of object names.
        cutting: admits the threads that cut composites into files at one moment (`cutting_at_once`).
    """

    reader: Reader
    writer: Store
    tree: DestinationTree
    keeper: CompositeKeeper
    names: CompositeNames
    strip_prefix: str
    cutting: threading.Semaphore

    def run(self, batch: Batch, round_: int) -> Outcome:
        """Fetch a batch that is not ranged; `round_` counts how often it was handed out before."""
        outcome = Outcome(batch.number)
        with Branches(self.tree) as branches:
            if batch.kind is BatchKind.LOCAL:
                self._make_empty(batch, branches, outcome)
            elif batch.kind is BatchKind.COMPOSITE:
                self._through_composite(batch, round_, branches, outcome)
            else:
                self._directly(batch, range(len(batch.names)), branches, outcome)
        return outcome

    def counts(self) -> RequestCounts:
        """Return the requests sent so far."""
        return self.reader.store.counts() + self.writer.counts()

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

    def _make_empty(self, batch: Batch, branches: Branches, outcome: Outcome) -> None:
        for index, name in enumerate(batch.names):
            path = self.path(name)
            if path.endswith("/"):
                branches.directory(path.rstrip("/"))
                outcome.place(batch, index, Placed(0, 0))
            else:
                outcome.place(batch, index, branches.write(path, b""))

    def _through_composite(self, batch: Batch, round_: int, branches: Branches, outcome: Outcome) -> None:
        started = time.monotonic()
        composite = self._compose(batch, round_, outcome)
        outcome.compose_s += time.monotonic() - started
        everything = range(len(batch.names))
        if composite is None:
            outcome.fallback_objects = len(batch.names)
            self._directly(batch, everything, branches, outcome)
            return
        version = ObjectVersion(name=composite.row.name, generation=composite.row.generation)
        started = time.monotonic()
        done: set[int] = set()
        try:
            self._slice(batch, version, branches, outcome, done)
        except (ObjectNotFoundError, PreconditionFailedError):
            outcome.fell_back = COMPOSITE_LOST
        except (UnavailableError, VerificationError) as error:
            outcome.fell_back = f"reading the composite failed ({type(error).__name__})"
        finally:
            outcome.read_s += time.monotonic() - started
            self.keeper.discard(version)
        wrong = [index for index in everything if index not in done]
        if wrong:
            if outcome.fell_back:
                outcome.fallback_objects = len(wrong)
            else:
                outcome.refetched += len(wrong)
            self._directly(batch, wrong, branches, outcome)

    def _compose(self, batch: Batch, round_: int, outcome: Outcome) -> StoredObject | None:
        """Make the batch's composite; None, with the reason in the outcome, if there is to be none."""
        name = self.names.name(batch.number, round_)
        sources = [
            ObjectVersion(name=source, generation=generation)
            for source, generation in zip(batch.names, batch.generations, strict=True)
        ]
        self.reader.cancel.raise_if_cancelled()
        self.keeper.register(name)
        try:
            stored = self.writer.compose(
                self.reader.bucket,
                name,
                sources,
                metadata=self.names.metadata,
                storage_class=batch.storage_class,
            )
        except (ObjectNotFoundError, PreconditionFailedError):
            outcome.fell_back = NO_COMPONENT
        except ThrottledError:
            # Some of the retries may have been answered otherwise: its outcome stays unknown to the keeper.
            outcome.fell_back = THROTTLED
            return None
        except PermissionDeniedError:
            outcome.fell_back = NOT_ALLOWED
        except UnavailableError:
            outcome.fell_back = UNAVAILABLE
            return None
        else:
            version = ObjectVersion(name=stored.row.name, generation=stored.row.generation)
            self.keeper.created(version)
            outcome.composites += 1
            outcome.composed_bytes += batch.total_bytes
            if stored.row.size == batch.total_bytes:
                return stored
            self.keeper.discard(version)
            outcome.fell_back = "the composite has the wrong size"
            return None
        self.keeper.never_made(name)
        return None

    def _slice(
        self, batch: Batch, version: ObjectVersion, branches: Branches, outcome: Outcome, done: set[int]
    ) -> None:
        """Stream the composite into files; `done` receives the components that arrived right."""
        slicer = Slicer(batch.sizes)
        tally = ReadTally()
        file: PendingFile | None = None
        size = batch.total_bytes
        try:
            for chunk in self.reader.chunks(version, start=0, end=size, size=size, tally=tally):
                with self.cutting:
                    for piece in slicer.feed(chunk):
                        file = self._take(piece, batch, file, branches, outcome, done)
            for piece in slicer.finish():
                file = self._take(piece, batch, file, branches, outcome, done)
        finally:
            outcome.resumed += tally.resumed
            if file is not None:
                file.close()

    def _take(
        self,
        piece: Slice,
        batch: Batch,
        file: PendingFile | None,
        branches: Branches,
        outcome: Outcome,
        done: set[int],
    ) -> PendingFile | None:
        """Put a slice into its file; return the file while it needs more."""
        index = piece.component
        if piece.last and self.verify(batch, index, piece.offset + len(piece.data), piece.crc32c, None) is not None:
            if file is not None:
                file.close()
            return None  # it is not in `done`, and so is read again directly
        if piece.last and file is None:
            outcome.place(batch, index, branches.write(self.path(batch.names[index]), piece.data))
            done.add(index)
            return None
        if file is None:
            file = branches.begin(self.path(batch.names[index]))
        file.append(piece.data)
        if not piece.last:
            return file
        with file:
            outcome.place(batch, index, file.publish())
        done.add(index)
        return None

    def _directly(self, batch: Batch, indexes: Iterable[int], branches: Branches, outcome: Outcome) -> None:
        started = time.monotonic()
        try:
            for index in indexes:
                self.reader.cancel.raise_if_cancelled()
                try:
                    outcome.place(batch, index, self._fetch(batch, index, branches, outcome))
                except (ObjectNotFoundError, PreconditionFailedError):
                    outcome.change(batch, index)
        finally:
            outcome.read_s += time.monotonic() - started

    def _fetch(self, batch: Batch, index: int, branches: Branches, outcome: Outcome) -> Placed:
        """Read one object, once more if it arrives wrong. Raises VerificationError if it does so again."""
        once = self._fetch_small if batch.sizes[index] <= WHOLE_BYTES else self._fetch_large
        result = once(batch, index, branches, outcome)
        if isinstance(result, str):
            outcome.refetched += 1
            result = once(batch, index, branches, outcome)
        if isinstance(result, str):
            raise wrong_bytes(self.reader.bucket, batch, index, result)
        return result

    def _fetch_small(self, batch: Batch, index: int, branches: Branches, outcome: Outcome) -> Placed | str:
        tally = ReadTally()
        data = b"".join(self._chunks(batch, index, tally, outcome))
        wrong = self.verify(batch, index, len(data), crc32c(data), tally.crc32c)
        return wrong or branches.write(self.path(batch.names[index]), data)

    def _fetch_large(self, batch: Batch, index: int, branches: Branches, outcome: Outcome) -> Placed | str:
        tally = ReadTally()
        slicer = Slicer((batch.sizes[index],))
        crc = 0
        with branches.begin(self.path(batch.names[index])) as file:
            try:
                for chunk in self._chunks(batch, index, tally, outcome):
                    for piece in slicer.feed(chunk):
                        file.append(piece.data)
                        crc = piece.crc32c
            except VerificationError as error:
                return error.message
            wrong = self.verify(batch, index, slicer.received_bytes, crc, tally.crc32c)
            return wrong or file.publish()

    def _chunks(self, batch: Batch, index: int, tally: ReadTally, outcome: Outcome) -> Iterable[bytes]:
        version = ObjectVersion(name=batch.names[index], generation=batch.generations[index])
        size = batch.sizes[index]
        try:
            yield from self.reader.chunks(version, start=0, end=size, size=size, tally=tally)
        finally:
            outcome.resumed += tally.resumed


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
