"""Reading, uploading and composing the bytes of objects.

Reads have ranges, checksums, and gzip transcoding:

* `X-Goog-Hash` is that of the whole stored object, also on a ranged read.
* An object stored with `Content-Encoding: gzip` is served decompressed to a caller that does not accept gzip,
  unless `Cache-Control: no-transform` forbids it; then there is no length and a range is ignored
  (https://cloud.google.com/storage/docs/transcoding).

Uploads are media, multipart or resumable (https://cloud.google.com/storage/docs/uploads-downloads). Preconditions hold
or fail when the last byte is there; a resumable upload checks them at its start, too. A checksum that the caller states
is checked.

objects.compose (https://cloud.google.com/storage/docs/json_api/v1/objects/compose) takes 1-32 sources of one storage
class, each optionally pinned by generation and by precondition. The composite refers to its sources' contents; its
checksum is combined from theirs, and it has no MD5.
"""

from __future__ import annotations

import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

from airflow_dataflux.testing.buckets import Bucket, now_us
from airflow_dataflux.testing.contents import CompositeContent, MemoryContent, encode_crc32c, whole
from airflow_dataflux.testing.http_messages import (
    Answer,
    ApiError,
    IncomingCall,
    boundary_of,
    invalid,
    json_answer,
    object_not_found,
    parse_json,
    precondition_failed,
    required,
    split_parts,
)
from airflow_dataflux.testing.object_record import SETTABLE, ObjectRecord, check, etag, md5_of, resource

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def media_answer(record: ObjectRecord, call: IncomingCall) -> Answer:
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
        raise ApiError(503, "backendError", "The object says that it is gzip, but it cannot be decompressed.") from None
    headers["Warning"] = "214 UploadServer gunzipped"
    headers["Transfer-Encoding"] = "chunked"
    del headers["Accept-Ranges"]
    return Answer(headers=headers, hashes=hashes, content=MemoryContent(data), end=len(data))


def _parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return `[start, end)`, or None for all. Raises ApiError (416); a header that is no byte range is ignored."""
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
        raise ApiError(
            416,
            "requestedRangeNotSatisfiable",
            "The requested range cannot be satisfied.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end


_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(slots=True)
class _Session:
    """A resumable upload that is not finished."""

    bucket: Bucket
    metadata: dict[str, Any]
    query: Mapping[str, str]
    data: bytearray


def uploaded_name(call: IncomingCall) -> str:
    """Return the name of the object that a POST makes; empty if it names none. Raises Refusal (400)."""
    if call.query.get("uploadType") != "multipart":
        return call.query.get("name", "")
    parts = split_parts(call.body, boundary_of(call.headers.get("Content-Type", "")))
    name = parse_json(parts[0].body).get("name", "") if parts else ""
    return str(name or call.query.get("name", ""))


class Uploads:
    """Answers the requests below `/upload/`; owns the resumable uploads under way."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._sessions: dict[str, _Session] = {}

    def unfinished(self, bucket: Bucket) -> list[str]:
        """Return the names of the objects whose resumable uploads were neither finished nor given up, in order."""
        names = (
            object_name(session.metadata, session.query)
            for session in self._sessions.values()
            if session.bucket is bucket
        )
        return sorted(name.decode() for name in names)

    def start(self, bucket: Bucket, call: IncomingCall) -> Answer:
        """Answer a POST: a whole upload, the start of a resumable one, or (as gcsfs sends them) more bytes of one."""
        if "upload_id" in call.query:
            return self.resume(call)
        kind = call.query.get("uploadType", "media")
        if kind == "media":
            metadata: dict[str, Any] = {"contentType": call.headers.get("Content-Type")}
            return self._finish(bucket, metadata, call, call.query, call.body)
        if kind == "multipart":
            parts = split_parts(call.body, boundary_of(call.headers.get("Content-Type", "")))
            if len(parts) != 2:
                raise invalid(f"A multipart upload has 2 parts, this one {len(parts)}.", reason="badContent")
            metadata = parse_json(parts[0].body)
            metadata.setdefault("contentType", parts[1].headers.get("content-type"))
            return self._finish(bucket, metadata, call, call.query, parts[1].body)
        if kind == "resumable":
            return self._open(bucket, call)
        raise invalid(f"Invalid uploadType {kind!r}", reason="invalidParameter")

    def _open(self, bucket: Bucket, call: IncomingCall) -> Answer:
        metadata = call.json()
        metadata.setdefault("contentType", call.headers.get("X-Upload-Content-Type"))
        name = object_name(metadata, call.query)
        check(call.query, bucket.get(name))
        session = secrets.token_hex(16)
        self._sessions[session] = _Session(bucket, metadata, call.query, bytearray())
        location = (
            f"{self._endpoint}/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable"
            f"&name={quote(name, safe='')}&upload_id={session}"
        )
        return Answer(headers={"Location": location, "X-GUploader-UploadID": session})

    def resume(self, call: IncomingCall) -> Answer:
        """Answer a PUT (more bytes, or how many are there) or a DELETE (give up) of a resumable upload."""
        key = call.query.get("upload_id", "")
        session = self._sessions.get(key)
        if session is None:
            raise ApiError(404, "notFound", "No such resumable upload; it may have been finished or cancelled.")
        if call.method == "DELETE":
            del self._sessions[key]
            return Answer(status=499)
        first, total = self._parse_range(call, len(session.data))
        if first is not None and call.body:
            if first > len(session.data):
                raise ApiError(503, "backendError", f"Bytes {len(session.data)}-{first - 1} of the upload are missing.")
            session.data[first:] = call.body
        if total is None or len(session.data) < total:
            headers = {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
            return Answer(status=308, headers=headers)
        if len(session.data) > total:
            raise invalid(f"The upload has {len(session.data)} bytes, more than the {total} that were announced.")
        answer = self._finish(session.bucket, session.metadata, call, session.query, bytes(session.data))
        del self._sessions[key]
        return answer

    @staticmethod
    def _parse_range(call: IncomingCall, have: int) -> tuple[int | None, int | None]:
        """Return the position of the body in the upload (None: it has none) and the total, if it is known."""
        header = call.headers.get("Content-Range")
        if header is None:
            return 0, len(call.body)
        match = _CONTENT_RANGE.fullmatch(header.strip())
        if match is None:
            raise invalid(f"Failed to parse Content-Range header {header!r}.", reason="badRequest")
        total = None if match.group(3) == "*" else int(match.group(3))
        if match.group(1) is None:
            return None, total
        if int(match.group(2)) - int(match.group(1)) + 1 != len(call.body):
            raise invalid(f"Content-Range {header!r} does not fit a body of {len(call.body)} bytes.")
        return int(match.group(1)), total

    def _finish(
        self, bucket: Bucket, metadata: dict[str, Any], call: IncomingCall, query: Mapping[str, str], data: bytes
    ) -> Answer:
        name = object_name(metadata, query)
        live = bucket.get(name)
        check(query, live)
        bucket.require("storage.objects.create")
        if live is not None:
            bucket.require("storage.objects.delete")
        record = new_object(bucket, name, data, metadata, query)
        _check_hashes(record, metadata, call.headers)
        bucket.put(record)
        return json_answer(resource(record, bucket=bucket.name, endpoint=self._endpoint), call=call)


def object_name(metadata: Mapping[str, Any], query: Mapping[str, str]) -> bytes:
    """Return the name that an upload gives its object. Raises ApiError (400) if it is none or not legal."""
    name = str(query.get("name") or metadata.get("name") or "")
    if not name:
        raise required("Required object name is missing.")
    return legal_name(name)


def legal_name(name: str) -> bytes:
    """Return a name in UTF-8 (https://cloud.google.com/storage/docs/objects#naming). Raises ApiError (400)."""
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        raise invalid("The object name is not valid UTF-8.") from None
    if not 1 <= len(raw) <= 1024 or name in (".", "..") or "\n" in name or "\r" in name:
        raise invalid(f"The specified object name is not valid: {name!r}")
    return raw


def new_object(
    bucket: Bucket, name: bytes, data: bytes, metadata: Mapping[str, Any], query: Mapping[str, str]
) -> ObjectRecord:
    """Return the record of an uploaded object; it is not in the bucket yet."""
    moment = now_us()
    headers = {key: str(metadata[key]) for key in SETTABLE if metadata.get(key) is not None}
    if query.get("contentEncoding"):
        headers["contentEncoding"] = query["contentEncoding"]
    return ObjectRecord(
        name=name,
        content=MemoryContent(data),
        generation=bucket.next_generation(),
        storage_class=metadata.get("storageClass") or bucket.settings.storage_class,
        created_us=moment,
        updated_us=moment,
        headers=headers,
        metadata=metadata.get("metadata"),
        md5=md5_of(data),
        event_based_hold=bool(metadata.get("eventBasedHold", bucket.settings.default_event_based_hold)),
        temporary_hold=bool(metadata.get("temporaryHold")),
    )


def _check_hashes(record: ObjectRecord, metadata: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    stated: dict[str, Any] = {
        "crc32c": metadata.get("crc32c"),
        "md5": metadata.get("md5Hash") or headers.get("Content-MD5"),
    }
    for each in headers.get("X-Goog-Hash", "").split(","):
        kind, _, value = each.strip().partition("=")
        if kind in stated and value:
            stated[kind] = value
    actual = {"crc32c": encode_crc32c(record.content.crc32c), "md5": record.md5}
    for kind, value in stated.items():
        if value and value != actual[kind]:
            title = {"crc32c": "CRC32C", "md5": "MD5 hash"}[kind]
            raise invalid(f'Provided {title} "{value}" doesn\'t match calculated {title} "{actual[kind]}".')


MAX_SOURCES = 32


def compose(bucket: Bucket, name: bytes, body: dict[str, Any], query: Mapping[str, str]) -> ObjectRecord:
    """Carry out one call and return the new composite. Raises ApiError; nothing is changed then."""
    wanted = body.get("sourceObjects") or []
    if not wanted:
        raise required("You must provide at least one source component.")
    if len(wanted) > MAX_SOURCES:
        raise invalid(f"The number of source components provided ({len(wanted)}) exceeds the maximum ({MAX_SOURCES}).")
    live = bucket.get(name)
    check(query, live)
    bucket.require("storage.objects.create", "storage.objects.get")
    if live is not None:
        bucket.require("storage.objects.delete")
    sources = [_source(bucket, each) for each in wanted]
    destination = body.get("destination") or {}
    classes = {source.storage_class for source in sources}
    storage_class = destination.get("storageClass") or sources[0].storage_class
    if len(classes) > 1 or storage_class not in classes:
        raise invalid("Objects with different storage classes cannot be composed.")
    moment = now_us()
    record = ObjectRecord(
        name=name,
        content=CompositeContent([source.content for source in sources]),
        generation=bucket.next_generation(),
        storage_class=storage_class,
        created_us=moment,
        updated_us=moment,
        headers={key: destination[key] for key in SETTABLE if key in destination},
        metadata=destination.get("metadata"),
        component_count=sum(source.component_count or 1 for source in sources),
        event_based_hold=bucket.settings.default_event_based_hold,
    )
    bucket.put(record)
    if body.get("deleteSourceObjects"):
        _delete_sources(bucket, sources)
    return record


def _source(bucket: Bucket, wanted: dict[str, Any]) -> ObjectRecord:
    if not wanted.get("name"):
        raise required("Source object name is required.")
    name = str(wanted["name"]).encode()
    try:
        generation = int(wanted["generation"]) if wanted.get("generation") is not None else None
        condition = (wanted.get("objectPreconditions") or {}).get("ifGenerationMatch")
        match = int(condition) if condition is not None else None
    except ValueError as error:
        raise invalid(f"Invalid generation of a source component: {error}") from None
    record = bucket.get_version(name, generation)
    if record is None:
        raise object_not_found(bucket.name, name.decode())
    if match is not None and record.generation != match:
        raise precondition_failed()
    return record


def _delete_sources(bucket: Bucket, sources: list[ObjectRecord]) -> None:
    bucket.require("storage.objects.delete")
    for source in {source.name: source for source in sources}.values():
        live = bucket.get(source.name)
        if live is not None and live.generation == source.generation:
            bucket.remove(live, pinned=True)
