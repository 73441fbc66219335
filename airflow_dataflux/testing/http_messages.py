"""A call that came in and the answer that goes out, free of HTTP's machinery: errors, fields, multipart, batches.

`IncomingCall` and `Answer` serve plain requests and the calls inside a batch. An `ApiError` is raised anywhere below a
request and becomes the answer, with the JSON body documented at
https://cloud.google.com/storage/docs/json_api/v1/status-codes. Media requests get the bare sentence as text, as Cloud
Storage does.

The `fields` parameter says which parts of an answer the caller wants. It covers `a,b`, `a/b`, `a(b,c)`, `*` and their
nesting (https://cloud.google.com/storage/docs/json_api#partial-response). A projection is a tree of names; None wants
all.

Multipart bodies, of uploads and of batches, are taken apart byte for byte: the standard library's parser works on text
and changes line ends; an object's bytes must arrive as they are. A batch is up to 100 calls in one multipart/mixed
request (https://cloud.google.com/storage/docs/batch).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from airflow_dataflux.testing.contents import Content


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, reason: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """Return the JSON body; empty for 304, which has none."""
        if self.status == 304:
            return b""
        error = {"message": self.message, "domain": "global", "reason": self.reason}
        return msgspec.json.encode({"error": {"code": self.status, "message": self.message, "errors": [error]}})


def invalid(message: str, *, reason: str = "invalid") -> ApiError:
    """Return a 400."""
    return ApiError(400, reason, message)


def required(message: str) -> ApiError:
    """Return a 400 for something that is missing."""
    return ApiError(400, "required", message)


def bucket_not_found() -> ApiError:
    """Return the 404 of an unknown bucket."""
    return ApiError(404, "notFound", "The specified bucket does not exist.")


def object_not_found(bucket: str, name: str) -> ApiError:
    """Return the 404 of an unknown object or generation."""
    return ApiError(404, "notFound", f"No such object: {bucket}/{name}")


def forbidden(permission: str, resource: str) -> ApiError:
    """Return the 403 of a permission that the caller does not hold."""
    return ApiError(
        403,
        "forbidden",
        f"The caller does not have {permission} access to the Google Cloud Storage {resource}. Permission "
        f"'{permission}' denied on resource (or it may not exist).",
    )


def precondition_failed() -> ApiError:
    """Return a 412."""
    return ApiError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


def not_modified() -> ApiError:
    """Return a 304, the answer to a read whose `…NotMatch` condition says that the caller has it already."""
    return ApiError(304, "notModified", "Not modified.")


Projection = dict[str, Any] | None


@cache
def parse_fields(text: str | None) -> Projection:
    """Return the tree of names that `text` asks for. Raises ApiError (400) if it is malformed.

    The same text always gives the same tree, never dropped: encoded items are remembered by its identity.
    """
    if not text or text == "*":
        return None
    tree, rest = _parse_list(text)
    if rest:
        raise _malformed_fields(text)
    return tree


def _parse_list(text: str) -> tuple[dict[str, Any], str]:
    tree: dict[str, Any] = {}
    while True:
        path, text = _take_path(text)
        inner: Projection = None
        if text.startswith("("):
            inner, text = _parse_list(text[1:])
            if not text.startswith(")"):
                raise _malformed_fields(text)
            text = text[1:]
        _add(tree, path, inner)
        if not text.startswith(","):
            return tree, text
        text = text[1:]


def _take_path(text: str) -> tuple[list[str], str]:
    end = next((index for index, character in enumerate(text) if character in "(),"), len(text))
    path = text[:end].split("/")
    if not all(path):
        raise _malformed_fields(text)
    return path, text[end:]


def _add(tree: dict[str, Any], path: list[str], inner: Projection) -> None:
    for name in path[:-1]:
        below = tree.setdefault(name, {})
        if below is None:
            return
        tree = below
    last = path[-1]
    if inner is None or tree.get(last, {}) is None:
        tree[last] = None
    else:
        tree.setdefault(last, {}).update(inner)


def _malformed_fields(text: str) -> ApiError:
    return invalid(f"Invalid field selection {text}", reason="invalidParameter")


def project(value: Any, projection: Projection) -> Any:
    """Return the parts of a JSON value that `projection` wants; a list is projected item by item."""
    if projection is None or "*" in projection:
        return value
    if isinstance(value, list):
        return [project(item, projection) for item in value]
    if isinstance(value, dict):
        return {name: project(value[name], below) for name, below in projection.items() if name in value}
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingCall:
    """One request. `headers` are looked up in any case; `query` has the last value of each parameter."""

    method: str
    path: str
    query: Mapping[str, str]
    query_pairs: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object (see parse_json)."""
        return parse_json(self.body)


def parse_json(body: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty body is an empty object. Raises ApiError (400)."""
    if not body:
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise invalid("Parse Error", reason="parseError") from None
    if not isinstance(value, dict):
        raise invalid("Parse Error: expected a JSON object", reason="parseError")
    return value


@dataclass(slots=True, kw_only=True)
class Answer:
    """One answer. The body is `body`, or bytes `[start, end)` of `content` where that is given.

    Attributes:
        hashes: values of the X-Goog-Hash headers.
        rows: rows of a page.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hashes: tuple[str, ...] = ()
    body: bytes = b""
    content: Content | None = None
    start: int = 0
    end: int = 0
    rows: int = 0

    @property
    def length(self) -> int:
        """How many bytes the body has."""
        return len(self.body) if self.content is None else self.end - self.start


def make_call(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> IncomingCall:
    """Return a call; `query` is what stands behind the question mark, `headers` know no case."""
    pairs = parse_qsl(query, keep_blank_values=True)
    if not isinstance(headers, CIMultiDictProxy):
        headers = CIMultiDict(headers)
    return IncomingCall(method=method, path=path, query=dict(pairs), query_pairs=pairs, headers=headers, body=body)


def json_answer(value: Any, *, call: IncomingCall | None = None, status: int = 200) -> Answer:
    """Return a JSON answer, reduced to the `fields` that the call asks for."""
    if call is not None and "fields" in call.query:
        value = project(value, parse_fields(call.query["fields"]))
    return Answer(status=status, body=msgspec.json.encode(value), headers={"Content-Type": JSON_TYPE})


JSON_TYPE = "application/json; charset=UTF-8"


def error_answer(error: ApiError, *, as_text: bool) -> Answer:
    """Return the answer of a error; media requests get the bare sentence."""
    if as_text and error.status != 304:
        body, kind = error.message.encode(), "text/html; charset=UTF-8"
    else:
        body, kind = error.body(), JSON_TYPE
    return Answer(status=error.status, headers={"Content-Type": kind, **error.headers}, body=body)


_BOUNDARY = re.compile(r"""boundary=(?:"([^"]+)"|'([^']+)'|([^;,\s]+))""", re.IGNORECASE)
_HEADERS_END = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True, slots=True)
class Part:
    """One part: headers by lower-case name, and its bytes."""

    headers: dict[str, str]
    body: bytes


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a Content-Type names. Raises ApiError (400)."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise invalid(f"Content-Type {content_type!r} names no multipart boundary.", reason="badContent")
    return next(group for group in match.groups() if group).encode()


def split_parts(body: bytes, boundary: bytes) -> list[Part]:
    """Return the parts of a body. Raises ApiError (400) if it does not end with the closing boundary."""
    pieces = re.split(rb"(?:^|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|$)", body)
    # re.split gives: preamble, flag, part, flag, part, …, "--", epilogue
    flags, contents = pieces[1::2], pieces[2::2]
    if b"--" not in flags:
        raise _malformed_multipart()
    parts = []
    for flag, content in zip(flags, contents, strict=True):
        if flag == b"--":
            break
        parts.append(parse_part(content[2:] if content.startswith(b"\r\n") else content[1:]))
    return parts


def parse_part(content: bytes) -> Part:
    """Return headers and body of a part."""
    if content.startswith((b"\r\n", b"\n")):
        return Part({}, content[2:] if content.startswith(b"\r\n") else content[1:])
    match = _HEADERS_END.search(content)
    head, body = (content[: match.start()], content[match.end() :]) if match else (content, b"")
    return Part(parse_headers(head), body)


def parse_headers(head: bytes) -> dict[str, str]:
    """Return header lines by lower-case name."""
    headers = {}
    for line in head.decode("utf-8", "replace").splitlines():
        name, separator, value = line.partition(":")
        if separator:
            headers[name.strip().lower()] = value.strip()
    return headers


def _malformed_multipart() -> ApiError:
    return invalid("Malformed multipart body.", reason="badContent")


MAX_CALLS = 100

_ANSWER_BOUNDARY = b"batch_dataflux_embedded"


def split_batch(call: IncomingCall) -> list[tuple[str, IncomingCall]]:
    """Return the calls of a batch, each with its Content-ID. Raises ApiError (400)."""
    parts = split_parts(call.body, boundary_of(call.headers.get("Content-Type", "")))
    if len(parts) > MAX_CALLS:
        raise invalid(f"The batch request has {len(parts)} calls, more than {MAX_CALLS}.", reason="badRequest")
    calls = []
    for part in parts:
        line, _, rest = part.body.lstrip(b"\r\n").partition(b"\n")
        words = line.decode("ascii", "replace").split()
        if len(words) < 2:
            raise invalid(f"Malformed call in a batch: {line!r}", reason="badRequest")
        url, inner = urlsplit(words[1]), parse_part(rest)
        headers = {"user-agent": call.headers.get("User-Agent", ""), **inner.headers}
        calls.append(
            (
                part.headers.get("content-id", "").strip("<>"),
                make_call(words[0], url.path, url.query, headers, inner.body),
            )
        )
    return calls


def batch_answer(call: IncomingCall, perform: Callable[[IncomingCall], Answer]) -> tuple[Answer, int]:
    """Carry out all calls of a batch; return the answer and how many they were. Raises ApiError (400)."""
    calls = split_batch(call)
    body = bytearray()
    for identity, inner in calls:
        answer = _refused_media() if inner.query.get("alt") == "media" else perform(inner)
        body += b"--" + _ANSWER_BOUNDARY + b"\r\nContent-Type: application/http\r\n"
        if identity:
            body += f"Content-ID: <response-{identity}>\r\n".encode()
        body += f"\r\nHTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n".encode()
        for name, value in answer.headers.items():
            body += f"{name}: {value}\r\n".encode()
        body += b"Content-Length: %d\r\n\r\n" % len(answer.body) + answer.body + b"\r\n"
    body += b"--" + _ANSWER_BOUNDARY + b"--\r\n"
    kind = f"multipart/mixed; boundary={_ANSWER_BOUNDARY.decode()}"
    return Answer(body=bytes(body), headers={"Content-Type": kind}), len(calls)


def _refused_media() -> Answer:
    error: ApiError = invalid("Media requests are not supported in a batch.", reason="badRequest")
    return Answer(status=400, body=error.body())
