"""A large object in several ranges at once, into one preallocated file.

Guarantees: the file appears only after all ranges are there and the CRC32C of the whole, combined from those of the
ranges, is the listed one; a wrong one is fetched once more as a whole. Any thread may fetch any range; the thread
that finishes the last one finishes the object.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from airflow_dataflux.core.errors import ObjectNotFoundError, PreconditionFailedError
from airflow_dataflux.core.gcs.store import ObjectVersion
from airflow_dataflux.core.staging.checksum import combine, extend
from airflow_dataflux.core.staging.localfile import Branches
from airflow_dataflux.core.staging.plan import RANGE_BYTES, Batch
from airflow_dataflux.core.staging.reading import ReadTally
from airflow_dataflux.core.staging.transfer import Outcome, Transfer, wrong_bytes


@dataclass(frozen=True, slots=True)
class _Range:
    index: int
    start: int
    end: int


class RangedObject:
    """One ranged batch under way. `on_done` gets its Outcome or the error that ended it, exactly once."""

    def __init__(
        self,
        transfer: Transfer,
        batch: Batch,
        *,
        enqueue: Callable[[Callable[[], None]], None],
        on_done: Callable[[Outcome | BaseException], None],
    ) -> None:
        self._transfer = transfer
        self._batch = batch
        self._enqueue = enqueue
        self._on_done = on_done
        self._outcome = Outcome(batch.number)
        self._lock = threading.Lock()
        self._attempts = 0
        self._error: BaseException | None = None
        self._missing = 0
        self._crcs: list[int] = []
        self._sent_crc: int | None = None
        size = batch.sizes[0]
        self._ranges = [
            _Range(index, start, min(start + RANGE_BYTES, size))
            for index, start in enumerate(range(0, size, RANGE_BYTES))
        ]
        self._branches = Branches(transfer.tree)
        try:
            self._file = self._branches.begin(transfer.path(batch.names[0]), size)
        except BaseException:
            self._branches.__exit__()
            raise

    def start(self) -> None:
        """Enqueue all ranges."""
        self._attempts += 1
        self._missing = len(self._ranges)
        self._crcs = [0] * len(self._ranges)
        for one in self._ranges:
            self._enqueue(partial(self._fetch, one))

    def _fetch(self, one: _Range) -> None:
        started = time.monotonic()
        tally = ReadTally()
        crc, position = 0, one.start
        batch = self._batch
        try:
            self._transfer.reader.cancel.raise_if_cancelled()
            if self._error is None:
                version = ObjectVersion(name=batch.names[0], generation=batch.generations[0])
                for chunk in self._transfer.reader.chunks(
                    version, start=one.start, end=one.end, size=batch.sizes[0], tally=tally
                ):
                    self._file.write_at(chunk, position)
                    crc = extend(crc, chunk)
                    position += len(chunk)
        except BaseException as error:  # noqa: BLE001 - handed to on_done by whoever ends last
            self._error = self._error or error
        with self._lock:
            self._crcs[one.index] = crc if position == one.end else -1
            self._sent_crc = tally.crc32c if tally.crc32c is not None else self._sent_crc
            self._outcome.resumed += tally.resumed
            self._outcome.read_s += time.monotonic() - started
            self._missing -= 1
            last = self._missing == 0
        if last:
            self._finish()

    def _finish(self) -> None:
        result: Outcome | BaseException = self._outcome
        try:
            if isinstance(self._error, ObjectNotFoundError | PreconditionFailedError):
                self._outcome.change(self._batch, 0)
            elif self._error is not None:
                result = self._error
            else:
                wrong = self._verify()
                if wrong is None:
                    self._outcome.place(self._batch, 0, self._file.publish())
                elif self._attempts == 1:
                    self._outcome.refetched += 1
                    self.start()
                    return
                else:
                    result = wrong_bytes(self._transfer.reader.bucket, self._batch, 0, wrong)
        except BaseException as error:  # noqa: BLE001 - handed to on_done
            result = error
        self._file.close()
        self._branches.__exit__()
        self._on_done(result)

    def _verify(self) -> str | None:
        size = self._batch.sizes[0]
        if -1 in self._crcs:
            return "a range arrived with more bytes than it has"
        whole = 0
        for one, crc in zip(self._ranges, self._crcs, strict=True):
            whole = combine(whole, crc, one.end - one.start)
        return self._transfer.verify(self._batch, 0, size, whole, self._sent_crc)
