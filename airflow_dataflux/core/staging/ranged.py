"""A large object in several ranges at once, into one preallocated file.

Guarantees: the file appears only after all ranges are there and the CRC32C of the whole, combined from those of the
ranges, is the listed one; a wrong one is fetched once more as a whole. Any thread may fetch any range; the thread
that finishes the last one finishes the object.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import msgspec

from airflow_dataflux.core.errors import StoreError
from airflow_dataflux.core.gcs.store import ObjectVersion
from airflow_dataflux.core.staging.batching import RANGE_BYTES, Batch
from airflow_dataflux.core.staging.checksum import combine, extend
from airflow_dataflux.core.staging.transfer import BatchResult, ReadTally, Transfer, wrong_bytes


class _Range(msgspec.Struct, frozen=True):
    index: int
    start: int
    end: int


class RangedObject:
    """One ranged batch under way. `on_done` gets its BatchResult or the error that ended it, exactly once."""

    def __init__(
        self,
        transfer: Transfer,
        batch: Batch,
        *,
        enqueue: Callable[[Callable[[], None]], None],
        on_done: Callable[[BatchResult | BaseException], None],
    ) -> None:
        self._transfer = transfer
        self._batch = batch
        self._enqueue = enqueue
        self._on_done = on_done
        self._result = BatchResult(batch.number)
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
        self._writer = transfer.open_writer()
        try:
            self._file = self._writer.begin(transfer.path(batch.names[0]), size)
        except BaseException:
            self._writer.__exit__()
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
            self._result.resumed += tally.resumed
            self._result.read_s += time.monotonic() - started
            self._missing -= 1
            last = self._missing == 0
        if last:
            self._finish()

    def _finish(self) -> None:
        result: BatchResult | BaseException = self._result
        try:
            if isinstance(self._error, StoreError):
                self._result.leave_out(self._batch, 0, self._error)
            elif self._error is not None:
                result = self._error
            else:
                wrong = self._verify()
                if wrong is None:
                    self._result.place(self._batch, 0, self._file.publish())
                elif self._attempts == 1:
                    self._result.refetched += 1
                    self.start()
                    return
                else:
                    result = wrong_bytes(self._transfer.reader.bucket, self._batch, 0, wrong)
        except BaseException as error:  # noqa: BLE001 - handed to on_done
            result = error
        self._file.close()
        self._writer.__exit__()
        self._on_done(result)

    def _verify(self) -> str | None:
        size = self._batch.sizes[0]
        if -1 in self._crcs:
            return "a range arrived with more bytes than it has"
        whole = 0
        for one, crc in zip(self._ranges, self._crcs, strict=True):
            whole = combine(whole, crc, one.end - one.start)
        return self._transfer.verify(self._batch, 0, size, whole, self._sent_crc)
