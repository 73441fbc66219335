"""Reading an object: what is asked for, whether the answer is that, and its body as it arrives.

Guarantees: bytes come as stored (never decompressed); a body that is shorter than the server announced is an error, not
an end; whatever breaks is an UnavailableError that says how many bytes had come, so that the caller can go on from
there. A body belongs to one thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from urllib3.exceptions import HTTPError

from airflow_dataflux.core.errors import StoreError, UnavailableError
from airflow_dataflux.core.gcs.http import Response
from airflow_dataflux.core.gcs.operations import Call

_LEAST_BYTES = 1 << 16
"""What comes slower than this in the time that a silent connection is waited for is given up, too."""


class HttpBody:
    """One answer's bytes; the `Body` of the Store protocol."""

    def __init__(self, answer: Response, call: Call, *, crc32c: int | None, patience_s: float) -> None:
        """Read on as long as at least `_LEAST_BYTES` come in `patience_s` seconds of waiting."""
        self._answer = answer
        self._call = call
        self._patience_s = patience_s
        self._waited_s = 0.0
        self._came_bytes = 0
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
        began_at = time.monotonic()
        try:
            data = self._answer.read(most_bytes)
        except (OSError, HTTPError) as error:
            raise self._broken(f"{type(error).__name__}: {error}") from error
        self._waited_s += time.monotonic() - began_at
        self._came_bytes += len(data)
        self.received_bytes += len(data)
        if self._waited_s > self._patience_s:
            if data and self._came_bytes < _LEAST_BYTES:
                raise self._broken(f"only {self._came_bytes} bytes came in {self._waited_s:.0f} s")
            self._waited_s, self._came_bytes = 0.0, 0
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


_AS_STORED = {"Accept-Encoding": "gzip"}
"""Without it Cloud Storage decompresses what is stored as gzip, and then neither length nor hash nor ranges fit
(https://cloud.google.com/storage/docs/transcoding)."""


def read_headers(start: int, end: int | None) -> dict[str, str]:
    """Return the headers of a read of the stored bytes `[start, end)`."""
    if start == 0 and end is None:
        return _AS_STORED
    return {**_AS_STORED, "Range": f"bytes={start}-{'' if end is None else end - 1}"}


def check_source(headers: Mapping[str, str], generation: int) -> None:
    """Make sure that the bytes are an object's, and this generation's. Raises ValueError."""
    answered = headers.get("x-goog-generation")
    if answered is None and "x-goog-hash" not in headers:
        raise ValueError("it has none of the headers that come with an object (X-Goog-Generation, X-Goog-Hash)")
    if answered is not None and answered != str(generation):
        raise ValueError(f"it is generation {answered} of the object, and {generation} was asked for")


def check_range(call: Call, status: int, content_range: str | None, start: int) -> None:
    """Make sure that the bytes are those that were asked for."""
    if "Range" not in call.headers:
        return
    if status != 206 or not (content_range or "").startswith(f"bytes {start}-"):
        raise StoreError(
            f"Asked for {call.headers['Range']} of {call.resource}, got status {status} with Content-Range "
            f"{content_range!r}: something between here and Cloud Storage ignores ranges.",
            operation=call.operation.name,
            resource=call.resource,
            status=status,
            reason="range ignored",
        )
