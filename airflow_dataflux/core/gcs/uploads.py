"""A resumable upload: one object from a stream whose bytes nobody holds all at once.

The session is opened with the object's metadata and precondition; chunks follow one after the other; the object
appears, whole, when the last one was accepted. Guarantees: a chunk whose answer was lost is sent again from the first
byte that Cloud Storage lacks; a last answer that was lost is found out by looking at the object, which the metadata
tells from somebody else's. Memory: one chunk.

An upload that is not finished is given up, after a cancel, too. One whose process was killed leaves a session, which
ends by itself after a week and is never billed.
Source: https://cloud.google.com/storage/docs/performing-resumable-uploads.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec

from airflow_dataflux.core.errors import ObjectNotFoundError, StoreError, UnavailableError
from airflow_dataflux.core.gcs import objects, operations
from airflow_dataflux.core.gcs.hashes import crc32c_to_text
from airflow_dataflux.core.gcs.operations import Call, bucket_path
from airflow_dataflux.core.gcs.store import StoredObject
from airflow_dataflux.core.gcs.transport import Transport
from airflow_dataflux.core.model import object_uri

CHUNK_BYTES = 8 << 20
"""A multiple of 256 KiB, as Cloud Storage demands; at 100 MB/s the round trip is then a third of the time."""

_MARK = "dataflux-upload"
_RANGE = re.compile(r"bytes=0-(\d+)")
_GONE = 410
_STANDSTILLS = 5


class ResumableUpload:
    """The `ObjectUpload` of `store.py` over HTTP. One thread uses it."""

    def __init__(
        self,
        transport: Transport,
        bucket: str,
        name: str,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        query: str,
        stat: Callable[[str, str], StoredObject],
    ) -> None:
        """Open the session; `query` is that of its first request, `stat` looks at an object."""
        self._transport = transport
        self._bucket = bucket
        self._name = name
        self._stat = stat
        self._mark = secrets.token_hex(16)
        self._resource = object_uri(bucket, name)
        self._buffer = memoryview(bytearray(CHUNK_BYTES))
        self._filled = 0
        self._sent = 0
        described = {"name": name, "contentType": content_type, "metadata": {**metadata, _MARK: self._mark}}
        call = Call(
            operation=operations.UPLOAD,
            method="POST",
            target=f"/upload{bucket_path(bucket)}/o{query}",
            resource=self._resource,
            repeatable=True,  # a second session is one that nobody uses
            headers={"Content-Type": "application/json; charset=UTF-8", "X-Upload-Content-Type": content_type},
            body=(msgspec.json.encode(described),),
            on_cancel="finish",  # or nobody would know the address, and the session could not be given up
        )
        self._target = transport.send_for_headers(call, _session_target)

    def append(self, data: bytes) -> None:
        """Take the next bytes; they are sent when they make up a chunk."""
        rest = memoryview(data)
        while rest:
            if self._filled == len(self._buffer):
                self._send(self._buffer, last=False, crc32c=None)
                self._filled = 0
            taken = rest[: len(self._buffer) - self._filled]
            self._buffer[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            rest = rest[len(taken) :]

    def finish(self, crc32c: int) -> StoredObject:
        """Send the rest and return the object; Cloud Storage refuses it if its CRC32C is another."""
        made = self._send(self._buffer[: self._filled], last=True, crc32c=crc32c)
        if made is None:
            raise self._lost("Cloud Storage does not say that it is finished")
        return made

    def abandon(self) -> None:
        """Give the session up. Raises nothing: without it the session ends by itself."""
        call = Call(
            operation=operations.UPLOAD_CHUNK,
            method="DELETE",
            target=self._target,
            resource=self._resource,
            repeatable=False,
            accepts=frozenset({499}),
            on_cancel="send",
        )
        with contextlib.suppress(StoreError):
            self._transport.send(call, lambda _body: None)

    def _send(self, data: memoryview, *, last: bool, crc32c: int | None) -> StoredObject | None:
        end = self._sent + len(data)
        standstills = 0
        while True:
            try:
                answer = self._transport.send_for_headers(self._chunk(data, last=last, crc32c=crc32c), self._decode)
            except StoreError as error:
                if not isinstance(error, ObjectNotFoundError) and error.details.get("status") != _GONE:
                    raise
                return self._made_before(error, last=last)
            if isinstance(answer, StoredObject):
                self._sent = end
                return answer
            if not self._sent <= answer <= end:
                raise self._lost(f"{answer} bytes have arrived, where {self._sent} to {end} must have")
            standstills = standstills + 1 if answer == self._sent else 0
            data, self._sent = data[answer - self._sent :], answer
            if not data and not last:
                return None
            if standstills == _STANDSTILLS:
                raise self._lost(f"no byte behind the first {answer} is accepted")

    def _chunk(self, data: memoryview, *, last: bool, crc32c: int | None) -> Call:
        end = self._sent + len(data)
        total = str(end) if last else "*"
        headers = {"Content-Range": f"bytes {self._sent}-{end - 1}/{total}" if data else f"bytes */{total}"}
        if crc32c is not None:
            headers["X-Goog-Hash"] = f"crc32c={crc32c_to_text(crc32c)}"
        return Call(
            operation=operations.UPLOAD_CHUNK,
            method="PUT",
            target=self._target,
            resource=self._resource,
            repeatable=True,  # bytes that are there already are passed over
            headers=headers,
            body=(data,) if data else (),
            accepts=frozenset({308}),
        )

    def _decode(self, body: bytes, headers: Mapping[str, str]) -> StoredObject | int:
        """Read an answer: the object, or how many bytes have arrived."""
        if body.strip():
            made = objects.object_decoder(self._name)(body)
            if made.metadata.get(_MARK) != self._mark:
                raise ValueError("it is about another upload's object")
            return made
        arrived = headers.get("range")
        if arrived is None:
            return 0
        match = _RANGE.fullmatch(arrived.strip())
        if match is None:
            raise ValueError(f"its Range is {arrived!r}")
        return int(match[1]) + 1

    def _made_before(self, error: StoreError, *, last: bool) -> StoredObject:
        """Return the object of a session that is gone, if that is because it was finished: the answer was lost."""
        if last:
            with contextlib.suppress(ObjectNotFoundError):
                made = self._stat(self._bucket, self._name)
                if made.metadata.get(_MARK) == self._mark:
                    return made
        raise self._lost("Cloud Storage does not know it any more") from error

    def _lost(self, problem: str) -> UnavailableError:
        return UnavailableError(
            f"The upload of {self._resource} cannot be continued: {problem}. Nothing was published; run it again.",
            operation="upload",
            resource=self._resource,
            status=None,
            reason="upload session lost",
        )


def _session_target(body: bytes, headers: Mapping[str, str]) -> str:
    """Return the path and query of the session; our own endpoint is kept, whatever host the answer names."""
    del body
    address = urlsplit(headers.get("location", ""))
    if not address.path.startswith("/") or not address.query:
        raise ValueError("a session has an address, and none is named")
    return f"{address.path}?{address.query}"
