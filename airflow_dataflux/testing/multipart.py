"""MIME multipart bodies, taken apart byte for byte: what multipart uploads and batches are made of.

The standard library's parser works on text and changes line ends; an object's bytes must arrive as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_dataflux.testing.refusals import Refusal, invalid

_BOUNDARY = re.compile(r"""boundary=(?:"([^"]+)"|'([^']+)'|([^;,\s]+))""", re.IGNORECASE)
_HEADERS_END = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True, slots=True)
class Part:
    """One part: headers by lower-case name, and its bytes."""

    headers: dict[str, str]
    body: bytes


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a Content-Type names. Raises Refusal (400)."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise invalid(f"Content-Type {content_type!r} names no multipart boundary.", reason="badContent")
    return next(group for group in match.groups() if group).encode()


def split_parts(body: bytes, boundary: bytes) -> list[Part]:
    """Return the parts of a body. Raises Refusal (400) if it does not end with the closing boundary."""
    pieces = re.split(rb"(?:^|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|$)", body)
    # re.split gives: preamble, flag, part, flag, part, …, "--", epilogue
    flags, contents = pieces[1::2], pieces[2::2]
    if b"--" not in flags:
        raise _malformed()
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


def _malformed() -> Refusal:
    return invalid("Malformed multipart body.", reason="badContent")
