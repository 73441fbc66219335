"""The batch endpoint's envelope: many calls in one request, many answers in one response.

At most 100 calls a batch, no media; each call is answered, billed and counted on its own, and the parts of the answer
may come in any order, told apart by `Content-ID` (https://cloud.google.com/storage/docs/batch).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_CALLS = 100

_CONTENT_ID = re.compile(rb"^content-id:\s*<?response-[^>\r\n]*?(\d+)>?\s*$", re.IGNORECASE | re.MULTILINE)
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class PartAnswer:
    """The answer to one call of a batch."""

    status: int
    body: bytes


def encode_batch(method: str, targets: Sequence[str], *, boundary: str) -> bytes:
    """Return the body of a batch of calls without bodies, numbered in their order."""
    lines: list[str] = []
    for number, target in enumerate(targets):
        lines += [
            f"--{boundary}",
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            f"Content-ID: <call+{number}>",
            "",
            f"{method} {target} HTTP/1.1",
            "",
            "",
        ]
    lines += [f"--{boundary}--", ""]
    return "\r\n".join(lines).encode("ascii")


def decode_batch(body: bytes, content_type: str) -> dict[int, PartAnswer]:
    """Return the answers by the number of their call. Raises ValueError if this is no answer to a batch.

    A call whose answer is missing is missing from the result: nothing is known about it.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise ValueError(f"a batch was answered with {content_type!r} instead of multipart/mixed")
    separator = b"--" + found.group(1).encode("ascii")
    answers: dict[int, PartAnswer] = {}
    for part in bytes(body).split(separator)[1:]:
        number, sections = _CONTENT_ID.search(part), _BLANK_LINE.split(part, maxsplit=2)
        if number is None or len(sections) < 2:
            continue
        status = _STATUS.search(sections[1])
        if status is not None:
            rest = sections[2].strip() if len(sections) > 2 else b""
            answers[int(number.group(1))] = PartAnswer(status=int(status.group(1)), body=rest)
    return answers
