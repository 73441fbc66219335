"""What the service answers to a request. No sockets and no clocks here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, unquote_to_bytes
from xml.sax.saxutils import escape

from airflow_dataflux.testing.contents import encode_crc32c
from dataflux_bench.server.bucket import Bucket, ListQuery, Served, name_of_token
from dataflux_bench.server.latency import Model
from dataflux_bench.server.rendering import FULL, XML, form_of, names_kind

JSON_TYPE = b"application/json; charset=UTF-8"
PERMISSIONS_KIND = "storage#testIamPermissionsResponse"
_BATCH_CALL = re.compile(rb"\r?\n\r?\n([A-Z]+) (?:https?://[^/ ]+)?(\S+) HTTP/1\.1")
_CONTENT_ID = re.compile(rb"Content-ID:\s*<?([^>\r\n]*)>?", re.I)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request: its head taken apart, its body whole."""

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    body: bytes


@dataclass(slots=True)
class Answer:
    """One HTTP answer.

    Attributes:
        operation: what the request was, for the counts.
        latency_s: mean time to the first byte.
        pieces: the body.
        paced: whether the body comes at the bandwidth of the model.
        rows: listed objects.
    """

    operation: str
    latency_s: float
    status: int = 200
    pieces: Iterable[bytes | memoryview] = ()
    content_type: bytes = JSON_TYPE
    headers: bytes = b""
    paced: bool = False
    rows: int = 0


class Service:
    """Buckets by name, and what is asked of them."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.buckets: dict[str, Bucket] = {}
        self.forms: set[str] = set()

    def answer(self, request: Request, admits: Callable[[str], bool]) -> Answer:
        """Return the answer; unknown things get the status that says so, and what is not admitted is not done."""
        if request.target.startswith(b"/batch/"):
            return self._batch(request, admits)  # each of its calls is admitted or not
        change = _change_of(request)
        if change is not None and not admits(change):
            return _throttled(change)
        answer = self._answer(request)
        return answer if change is not None or admits(answer.operation) else _throttled(answer.operation)

    def _answer(self, request: Request) -> Answer:
        path, _, query_text = request.target.partition(b"?")
        parameters = dict(parse_qsl(query_text.decode(), keep_blank_values=True))
        for prefix in (b"/storage/v1/b/", b"/download/storage/v1/b/"):
            if path.startswith(prefix):
                return self._json_api(request, path[len(prefix) :], parameters)
        return self._xml_api(request, path, parameters)

    def _json_api(self, request: Request, path: bytes, parameters: dict[str, str]) -> Answer:
        bucket_name, _, rest = path.partition(b"/")
        bucket = self.buckets.get(unquote(bucket_name.decode()))
        model = self.model
        if bucket is None:
            return _refusal("bucket", model.other_s, 404, "The specified bucket does not exist.")
        if not rest:
            return _json_answer("bucket", model.other_s, _bucket_resource(bucket))
        if rest == b"iam/testPermissions":
            asked = [value for key, value in _pairs(request) if key == "permissions"]
            return _json_answer("permissions", model.other_s, {"kind": PERMISSIONS_KIND, "permissions": asked})
        if rest == b"o":
            return self._list(bucket, parameters)
        if rest.endswith(b"/compose") and request.method == b"POST":
            return self._compose(bucket, unquote_to_bytes(rest[2 : -len(b"/compose")]), request, parameters)
        name = unquote_to_bytes(rest[2:])
        if request.method == b"DELETE":
            return self._delete(bucket, name)
        served = bucket.find(name)
        if request.method not in (b"GET", b"HEAD") or not rest.startswith(b"o/"):
            return _refusal("unsupported", 0, 501, "This server does not do that.")
        media = parameters.get("alt") == "media"
        if served is None or not _right_generation(served, parameters):
            return _refusal("read" if media else "stat", model.read_s, 404, "No such object.")
        if media:
            return self._media(served, request)
        body = bucket.item(FULL, served)
        return Answer("stat", model.other_s, pieces=(body,))

    def _list(self, bucket: Bucket, parameters: dict[str, str]) -> Answer:
        form = form_of(parameters.get("fields"))
        end, token = parameters.get("endOffset"), parameters.get("pageToken")
        asked = ListQuery(
            form=form,
            prefix=parameters.get("prefix", "").encode(),
            start=parameters.get("startOffset", "").encode(),
            end=end.encode() if end else None,
            after=name_of_token(token) if token else None,
            limit=min(int(parameters.get("maxResults") or 1000), self.model.page_cap),
        )
        if form == "none" and parameters.get("delimiter"):
            return self._directories(bucket, asked, parameters["delimiter"].encode())
        self.forms.add(form)
        page = bucket.page(asked)
        head = b'{"kind":"storage#objects",' if names_kind(parameters.get("fields")) else b"{"
        if page.next_token:
            head += f'"nextPageToken":"{page.next_token}"'.encode() + (b"," if page.rows else b"")
        elif not page.rows:
            head = head.rstrip(b",")
        pieces = (head, b'"items":[', page.items, b"]}") if page.rows else (head + b"}",)
        return Answer("list", self.model.page_s(page.rows), pieces=pieces, rows=page.rows)

    def _directories(self, bucket: Bucket, asked: ListQuery, delimiter: bytes) -> Answer:
        """Answer a request that names directories only. Nobody here follows its token."""
        found, more = bucket.directories(asked, delimiter)
        body: dict[str, object] = {"kind": "storage#objects", "prefixes": [name.decode() for name in found]}
        if more:
            body["nextPageToken"] = "more"
        return Answer("list", self.model.page_s(len(found)), pieces=(json.dumps(body).encode(),), rows=len(found))

    def _compose(self, bucket: Bucket, name: bytes, request: Request, parameters: dict[str, str]) -> Answer:
        asked = json.loads(request.body)
        listed = asked["sourceObjects"]
        latency_s = self.model.compose_s + self.model.compose_per_source_s * len(listed)
        if not 1 <= len(listed) <= 32:
            return _refusal("compose", latency_s, 400, f"{len(listed)} source objects; 1 to 32 are allowed.")
        if parameters.get("ifGenerationMatch") == "0" and bucket.find(name) is not None:
            return _refusal("compose", latency_s, 412, "The object exists.")
        sources: list[Served] = []
        for source in listed:
            served = bucket.find(source["name"].encode())
            wanted = source.get("generation") or source.get("objectPreconditions", {}).get("ifGenerationMatch")
            if served is None or (wanted is not None and int(wanted) != served.generation):
                return _refusal("compose", latency_s, 404, f"No such object: {source['name']}")
            sources.append(served)
        made = bucket.compose(name, sources, asked.get("destination", {}).get("metadata") or {})
        return Answer("compose", latency_s, pieces=(bucket.item(FULL, made),))

    def _delete(self, bucket: Bucket, name: bytes) -> Answer:
        if bucket.delete(name):
            return Answer("delete", self.model.delete_s, 204)
        if bucket.find(name) is not None:
            return _refusal("delete", self.model.delete_s, 403, "The benchmark's own objects cannot be deleted.")
        return _refusal("delete", self.model.delete_s, 404, "No such object.")

    def _batch(self, request: Request, admits: Callable[[str], bool]) -> Answer:
        boundary = b"batch_answer"
        parts: list[bytes] = []
        separator = b"--" + request.headers[b"content-type"].rpartition(b"boundary=")[2].strip(b'"')
        for part in request.body.split(separator):
            call = _BATCH_CALL.search(part)
            if call is None:
                continue
            identified = _CONTENT_ID.search(part)
            identity = identified.group(1) if identified else b"%d" % len(parts)
            inner = self.answer(Request(call.group(1), call.group(2), {}, b""), admits)
            body = b"".join(inner.pieces)
            reason = b"No Content" if inner.status == 204 else b"OK" if inner.status == 200 else b"Error"
            parts.append(
                b"--%b\r\nContent-Type: application/http\r\nContent-ID: <response-%b>\r\n\r\n"
                b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b\r\n"
                % (boundary, identity, inner.status, reason, JSON_TYPE, len(body), body)
            )
        latency_s = self.model.delete_s + self.model.batch_per_call_s * len(parts)
        content_type = b"multipart/mixed; boundary=" + boundary
        body = b"".join(parts) + b"--" + boundary + b"--\r\n"
        return Answer("batch", latency_s, pieces=(body,), content_type=content_type)

    def _media(self, served: Served, request: Request) -> Answer:
        start, end, status = 0, served.size, 200
        asked = request.headers.get(b"range", b"")
        extra = b""
        if asked.startswith(b"bytes=") and served.size:
            low, _, high = asked[6:].partition(b"-")
            if low:
                start, end = int(low), min(served.size, int(high) + 1) if high else served.size
            else:
                start = max(0, served.size - int(high))
            if start >= served.size or start >= end:
                return _refusal("read", self.model.read_s, 416, "Requested range not satisfiable")
            if (start, end) != (0, served.size) or high or not low:
                status = 206
                extra = b"Content-Range: bytes %d-%d/%d\r\n" % (start, end - 1, served.size)
            else:
                status, extra = 206, b"Content-Range: bytes 0-%d/%d\r\n" % (end - 1, served.size)
        headers = (
            b"X-Goog-Hash: crc32c=%b\r\nX-Goog-Generation: %d\r\nX-Goog-Metageneration: 1\r\n"
            b"X-Goog-Storage-Class: STANDARD\r\nX-Goog-Stored-Content-Encoding: identity\r\n"
            b"X-Goog-Stored-Content-Length: %d\r\nAccept-Ranges: bytes\r\n"
            b'ETag: "%x"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n%b'
            % (encode_crc32c(served.crc32c).encode(), served.generation, served.size, served.generation, extra)
        )
        pieces = served.between(start, end) if request.method == b"GET" else ()
        return Answer("read", self.model.read_s, status, pieces, b"application/octet-stream", headers, paced=True)

    def _xml_api(self, request: Request, path: bytes, parameters: dict[str, str]) -> Answer:
        """`/bucket` and `/bucket/name`, for clients that speak the XML API."""
        bucket_name, _, name = path[1:].partition(b"/")
        bucket = self.buckets.get(unquote(bucket_name.decode()))
        if bucket is None or request.method not in (b"GET", b"HEAD"):
            return _refusal("unsupported", 0, 404 if bucket is None else 501, "This server does not do that.")
        if name:
            served = bucket.find(unquote_to_bytes(name))
            if served is None or not _right_generation(served, parameters):
                return _refusal("read", self.model.read_s, 404, "No such object.")
            return self._media(served, request)
        self.forms.add(XML)
        token, after = parameters.get("continuation-token"), parameters.get("start-after")
        page = bucket.page(
            ListQuery(
                form=XML,
                prefix=parameters.get("prefix", "").encode(),
                after=name_of_token(token) if token else after.encode() if after else None,
                limit=min(int(parameters.get("max-keys") or 1000), self.model.page_cap),
            )
        )
        more = page.next_token is not None
        tail = f"<NextContinuationToken>{escape(page.next_token or '')}</NextContinuationToken>" if more else ""
        pieces = (
            b'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://doc.s3.amazonaws.com/2006-03-01">',
            f"<Name>{bucket.name}</Name><IsTruncated>{str(more).lower()}</IsTruncated>{tail}".encode(),
            page.items,
            b"</ListBucketResult>",
        )
        return Answer(
            "list", self.model.page_s(page.rows), pieces=pieces, content_type=b"application/xml", rows=page.rows
        )


def _pairs(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(request.target.partition(b"?")[2].decode(), keep_blank_values=True)


def _right_generation(served: Served, parameters: dict[str, str]) -> bool:
    wanted = parameters.get("generation") or parameters.get("ifGenerationMatch")
    return wanted is None or int(wanted) == served.generation


def _bucket_resource(bucket: Bucket) -> dict[str, object]:
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "name": bucket.name,
        "location": "US",
        "locationType": "multi-region",
        "storageClass": "STANDARD",
        "projectNumber": "1",
        "metageneration": "1",
        "timeCreated": "2024-01-01T00:00:00.000Z",
        "updated": "2024-01-01T00:00:00.000Z",
        "softDeletePolicy": {"retentionDurationSeconds": "0"},
    }


def _json_answer(operation: str, latency_s: float, resource: dict[str, object]) -> Answer:
    return Answer(operation, latency_s, pieces=(json.dumps(resource).encode(),))


def _refusal(operation: str, latency_s: float, status: int, message: str) -> Answer:
    error = {"code": status, "message": message, "errors": [{"message": message, "domain": "global", "reason": "x"}]}
    return Answer(operation, latency_s, status, (json.dumps({"error": error}).encode(),))


def _change_of(request: Request) -> str | None:
    """Return the operation of a request that changes objects; None for one that reads."""
    if request.method == b"DELETE":
        return "delete"
    path = request.target.partition(b"?")[0]
    return "compose" if request.method == b"POST" and path.endswith(b"/compose") else None


def _throttled(operation: str) -> Answer:
    """Return the answer to a request above a budget."""
    return _refusal(operation, 0.010, 429, "The rate of requests exceeds the budget.")
