"""Reading an object's bytes: ranges, checksums, and gzip transcoding.

* `X-Goog-Hash` is that of the whole stored object, also on a ranged read.
* An object stored with `Content-Encoding: gzip` is served decompressed to a caller that does not accept gzip,
  unless `Cache-Control: no-transform` forbids it; then there is no length and a range is ignored
  (https://cloud.google.com/storage/docs/transcoding).
"""

from __future__ import annotations

import re
import zlib
from email.utils import formatdate

from airflow_dataflux.testing.answers import Answer, Call
from airflow_dataflux.testing.checksums import encode_crc32c
from airflow_dataflux.testing.contents import MemoryContent, whole
from airflow_dataflux.testing.records import ObjectRecord, etag
from airflow_dataflux.testing.refusals import Refusal

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def media_answer(record: ObjectRecord, call: Call) -> Answer:
    """Return the answer to an `alt=media` request."""
    content = record.content
    headers = _headers(record)
    hashes = [f"crc32c={encode_crc32c(content.crc32c)}"]
    if record.md5 is not None:
        hashes.append(f"md5={record.md5}")
    if record.encoded_gzip:
        accepted = "gzip" in call.headers.get("Accept-Encoding", "")
        if not accepted and "no-transform" not in headers.get("Cache-Control", ""):
            return _decompressed(record, headers, tuple(hashes))
        headers["Content-Encoding"] = "gzip"
        headers["Vary"] = "Accept-Encoding"
    answer = Answer(headers=headers, hashes=tuple(hashes), content=content, end=content.size)
    span = _parse_range(call.headers.get("Range"), content.size)
    if span is not None:
        answer.status = 206
        answer.start, answer.end = span
        headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{content.size}"
    return answer


def _headers(record: ObjectRecord) -> dict[str, str]:
    headers = {
        "Content-Type": record.headers.get("contentType", "application/octet-stream"),
        "X-Goog-Generation": str(record.generation),
        "X-Goog-Metageneration": str(record.metageneration),
        "X-Goog-Storage-Class": record.storage_class,
        "X-Goog-Stored-Content-Encoding": record.headers.get("contentEncoding", "identity"),
        "X-Goog-Stored-Content-Length": str(record.content.size),
        "ETag": etag(record),
        "Last-Modified": formatdate(record.updated_us / 1_000_000, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    for key, header in (
        ("cacheControl", "Cache-Control"),
        ("contentDisposition", "Content-Disposition"),
        ("contentLanguage", "Content-Language"),
    ):
        if key in record.headers:
            headers[header] = record.headers[key]
    return headers


def _decompressed(record: ObjectRecord, headers: dict[str, str], hashes: tuple[str, ...]) -> Answer:
    try:
        data = zlib.decompress(whole(record.content), wbits=31)
    except zlib.error:
        raise Refusal(503, "backendError", "The object says that it is gzip, but it cannot be decompressed.") from None
    headers["Warning"] = "214 UploadServer gunzipped"
    headers["Transfer-Encoding"] = "chunked"
    del headers["Accept-Ranges"]
    return Answer(headers=headers, hashes=hashes, content=MemoryContent(data), end=len(data))


def _parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return `[start, end)`, or None for all. Raises Refusal (416); a header that is no byte range is ignored."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.group(1) == match.group(2) == "":
        return None
    if match.group(1) == "":
        count = int(match.group(2))
        start, end = max(0, size - count), size
    else:
        start = int(match.group(1))
        end = min(int(match.group(2)) + 1 if match.group(2) else size, size)
        if match.group(2) and int(match.group(2)) < start:
            return None
    if start >= size or start >= end:
        raise Refusal(
            416,
            "requestedRangeNotSatisfiable",
            "The requested range cannot be satisfied.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end
