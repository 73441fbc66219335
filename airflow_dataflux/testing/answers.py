"""What a request becomes: the call that came in, and the answer that goes out, both free of HTTP's machinery.

The same two types serve plain requests and the calls inside a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from airflow_dataflux.testing.contents import Content
from airflow_dataflux.testing.projection import parse_fields, project
from airflow_dataflux.testing.refusals import Refusal, invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
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
    """Return a JSON object; an empty body is an empty object. Raises Refusal (400)."""
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


def make_call(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Call:
    """Return a call; `query` is what stands behind the question mark, `headers` know no case."""
    pairs = parse_qsl(query, keep_blank_values=True)
    if not isinstance(headers, CIMultiDictProxy):
        headers = CIMultiDict(headers)
    return Call(method=method, path=path, query=dict(pairs), query_pairs=pairs, headers=headers, body=body)


def json_answer(value: Any, *, call: Call | None = None, status: int = 200) -> Answer:
    """Return a JSON answer, reduced to the `fields` that the call asks for."""
    if call is not None and "fields" in call.query:
        value = project(value, parse_fields(call.query["fields"]))
    return Answer(status=status, body=msgspec.json.encode(value), headers={"Content-Type": JSON_TYPE})


JSON_TYPE = "application/json; charset=UTF-8"


def refusal_answer(refusal: Refusal, *, as_text: bool) -> Answer:
    """Return the answer of a refusal; media requests get the bare sentence."""
    if as_text and refusal.status != 304:
        body, kind = refusal.message.encode(), "text/html; charset=UTF-8"
    else:
        body, kind = refusal.body(), JSON_TYPE
    return Answer(status=refusal.status, headers={"Content-Type": kind, **refusal.headers}, body=body)
