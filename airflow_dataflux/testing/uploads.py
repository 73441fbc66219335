"""Creating objects from uploaded bytes: media, multipart and resumable uploads.

https://cloud.google.com/storage/docs/uploads-downloads. Preconditions hold or fail when the last byte is there;
a resumable upload checks them at its start, too. A checksum that the caller states is checked.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from airflow_dataflux.testing.answers import Answer, Call, json_answer, parse_json
from airflow_dataflux.testing.buckets import Bucket, now_us
from airflow_dataflux.testing.checksums import encode_crc32c
from airflow_dataflux.testing.contents import MemoryContent
from airflow_dataflux.testing.multipart import boundary_of, split_parts
from airflow_dataflux.testing.preconditions import check
from airflow_dataflux.testing.records import SETTABLE, ObjectRecord, md5_of, resource
from airflow_dataflux.testing.refusals import Refusal, invalid, required

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(slots=True)
class _Session:
    """A resumable upload that is not finished."""

    bucket: Bucket
    metadata: dict[str, Any]
    query: Mapping[str, str]
    data: bytearray


class Uploads:
    """Answers the requests below `/upload/`; owns the resumable uploads under way."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._sessions: dict[str, _Session] = {}

    def start(self, bucket: Bucket, call: Call) -> Answer:
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

    def _open(self, bucket: Bucket, call: Call) -> Answer:
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

    def resume(self, call: Call) -> Answer:
        """Answer a PUT (more bytes, or how many are there) or a DELETE (give up) of a resumable upload."""
        key = call.query.get("upload_id", "")
        session = self._sessions.get(key)
        if session is None:
            raise Refusal(404, "notFound", "No such resumable upload; it may have been finished or cancelled.")
        if call.method == "DELETE":
            del self._sessions[key]
            return Answer(status=499)
        first, total = self._parse_range(call, len(session.data))
        if first is not None and call.body:
            if first > len(session.data):
                raise Refusal(503, "backendError", f"Bytes {len(session.data)}-{first - 1} of the upload are missing.")
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
    def _parse_range(call: Call, have: int) -> tuple[int | None, int | None]:
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
        self, bucket: Bucket, metadata: dict[str, Any], call: Call, query: Mapping[str, str], data: bytes
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
    """Return the name that an upload gives its object. Raises Refusal (400) if it is none or not legal."""
    name = str(query.get("name") or metadata.get("name") or "")
    if not name:
        raise required("Required object name is missing.")
    return legal_name(name)


def legal_name(name: str) -> bytes:
    """Return a name in UTF-8 (https://cloud.google.com/storage/docs/objects#naming). Raises Refusal (400)."""
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
