"""Read the bytes of one pinned object, and go on where a connection broke.

Guarantees: the chunks joined are the requested range, each byte once; a body that breaks is resumed at its first
missing byte; after several breaks in a row without a byte in between, UnavailableError is raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from airflow_dataflux.core.errors import UnavailableError
from airflow_dataflux.core.gcs.store import ObjectVersion, Store
from airflow_dataflux.core.model import object_uri
from airflow_dataflux.core.runtime.cancel import CancelToken

CHUNK_BYTES = 1 << 18
"""What a thread holds of a stream: 256 KiB times the requests in flight is the memory of a worker."""

_BREAKS_IN_A_ROW = 6
_FIRST_PAUSE_S = 0.1
"""The first break is resumed at once; then 0.1 s, doubled each time: 3 s in all before giving up."""


@dataclass(slots=True)
class ReadTally:
    """What reading took. `crc32c` is of the whole object as the response said, None if it did not."""

    resumed: int = 0
    crc32c: int | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads from one bucket."""

    store: Store
    bucket: str
    cancel: CancelToken

    def chunks(self, version: ObjectVersion, *, start: int, end: int, size: int, tally: ReadTally) -> Iterator[bytes]:
        """Yield the bytes `[start, end)` of an object of `size` bytes.

        Raises ObjectNotFoundError or PreconditionFailedError if this generation is gone, CancelledError.
        """
        position, breaks = start, 0
        while position < end:
            # A whole object is asked for without a range: a body longer than it should be is then noticed.
            until = None if end == size else end
            try:
                with self.store.read(self.bucket, version, start=position, end=until) as body:
                    tally.crc32c = body.crc32c
                    for chunk in body.chunks(CHUNK_BYTES):
                        self.cancel.raise_if_cancelled()
                        position += len(chunk)
                        breaks = 0
                        yield chunk
                if position < end:
                    raise self._ended_early(version, position, end)
            except UnavailableError:
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
        )
