"""The body of one read, as it arrives.

Guarantees: bytes come as stored (never decompressed); a body that is shorter than the server announced is an error, not
an end; whatever breaks is an UnavailableError that says how many bytes had come, so that the caller can go on from
there. A body belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Iterator

from urllib3.exceptions import HTTPError

from airflow_dataflux.core.errors import UnavailableError
from airflow_dataflux.core.gcs.exchange import Answer
from airflow_dataflux.core.gcs.operations import Call


class HttpBody:
    """One answer's bytes; the `Body` of the Store protocol."""

    def __init__(self, answer: Answer, call: Call, *, crc32c: int | None) -> None:
        self._answer = answer
        self._call = call
        self.crc32c = crc32c
        self.length = answer.length
        self.received_bytes = 0

    def readinto(self, buffer: memoryview) -> int:
        """Put what comes next at the front of `buffer` and return how many bytes came; 0 at the end of the body."""
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def chunks(self, chunk_bytes: int = 1 << 18) -> Iterator[bytes]:
        """Yield the rest of the body as it comes, in pieces of at most `chunk_bytes`.

        A body that breaks off is yielded as far as it came, before the error.
        """
        while data := self._read(chunk_bytes):
            yield data

    def close(self) -> None:
        """Let the connection go; it is kept for the next request if the body was read to its end."""
        self._answer.close()

    def _read(self, most_bytes: int) -> bytes:
        try:
            data = self._answer.read(most_bytes)
        except (OSError, HTTPError) as error:
            raise self._broken(f"{type(error).__name__}: {error}") from error
        self.received_bytes += len(data)
        return data

    def _broken(self, problem: str) -> UnavailableError:
        of_length = f" of {self.length}" if self.length is not None else ""
        return UnavailableError(
            f"The body of {self._call.resource} broke off after {self.received_bytes}{of_length} bytes ({problem}): "
            "read on from there, or read it again.",
            operation=self._call.operation.name,
            resource=self._call.resource,
            status=None,
            reason=problem,
            received_bytes=self.received_bytes,
        )


class EmptyBody:
    """The body of a read of nothing, for which no request is sent."""

    crc32c: int | None = None
    length: int | None = 0

    def readinto(self, buffer: memoryview) -> int:
        """Return 0: the end."""
        return 0

    def chunks(self, chunk_bytes: int = 1 << 18) -> Iterator[bytes]:
        """Yield nothing."""
        return iter(())
