"""The body of one read, as it arrives.

Guarantees: bytes come as stored (never decompressed); a body that is shorter than the server announced is an error, not
an end; whatever breaks is an UnavailableError that says how many bytes had come, so that the caller can go on from
there. A body belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Iterator

import urllib3
from urllib3.exceptions import HTTPError

from airflow_dataflux.core.errors import UnavailableError
from airflow_dataflux.core.gcs.operations import Call


class HttpBody:
    """One response's bytes; the `Body` of the Store protocol."""

    def __init__(self, response: urllib3.BaseHTTPResponse, call: Call, *, crc32c: int | None) -> None:
        self._response = response
        self._call = call
        length = response.headers.get("content-length")
        self.crc32c = crc32c
        self.length = int(length) if length is not None else None
        self.received_bytes = 0

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer` from the front and return how many bytes came; 0 only at the end of the body."""
        piece = self._read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def chunks(self, chunk_bytes: int = 1 << 18) -> Iterator[bytes]:
        """Yield the rest of the body in pieces of at most `chunk_bytes`."""
        while piece := self._read(chunk_bytes):
            yield piece

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it: the rest is in its way."""
        if self.length is not None and self.received_bytes == self.length:
            self._response.release_conn()
        else:
            self._response.close()

    def _read(self, most: int) -> bytes:
        if self.received_bytes == self.length or most == 0:
            return b""
        try:
            piece = self._response.read(most, decode_content=False)
        except (HTTPError, OSError) as error:
            raise self._broken(f"{type(error).__name__}: {error}") from error
        if not piece and self.length is not None:
            raise self._broken("the connection was closed")
        self.received_bytes += len(piece)
        return piece

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
