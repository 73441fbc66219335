"""The batch endpoint: up to 100 calls in one multipart/mixed request (https://cloud.google.com/storage/docs/batch)."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from airflow_dataflux.testing.answers import Answer, Call, make_call
from airflow_dataflux.testing.multipart import boundary_of, parse_part, split_parts
from airflow_dataflux.testing.refusals import Refusal, invalid

MAX_CALLS = 100

_BOUNDARY = b"batch_dataflux_embedded"


def split_batch(call: Call) -> list[tuple[str, Call]]:
    """Return the calls of a batch, each with its Content-ID. Raises Refusal (400)."""
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


def batch_answer(call: Call, perform: Callable[[Call], Answer]) -> tuple[Answer, int]:
    """Carry out all calls of a batch; return the answer and how many they were. Raises Refusal (400)."""
    calls = split_batch(call)
    body = bytearray()
    for identity, inner in calls:
        answer = _refused_media() if inner.query.get("alt") == "media" else perform(inner)
        body += b"--" + _BOUNDARY + b"\r\nContent-Type: application/http\r\n"
        if identity:
            body += f"Content-ID: <response-{identity}>\r\n".encode()
        body += f"\r\nHTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n".encode()
        for name, value in answer.headers.items():
            body += f"{name}: {value}\r\n".encode()
        body += b"Content-Length: %d\r\n\r\n" % len(answer.body) + answer.body + b"\r\n"
    body += b"--" + _BOUNDARY + b"--\r\n"
    kind = f"multipart/mixed; boundary={_BOUNDARY.decode()}"
    return Answer(body=bytes(body), headers={"Content-Type": kind}), len(calls)


def _refused_media() -> Answer:
    refusal: Refusal = invalid("Media requests are not supported in a batch.", reason="badRequest")
    return Answer(status=400, body=refusal.body())
