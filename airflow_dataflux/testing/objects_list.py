"""objects.list: from a query to one page of JSON.

Pages resume at a name, not at a position, so that a bucket may change between two pages as a real one may.
A page token is that name in URL-safe base64, with a letter in front that makes forged tokens unlikely.

`matchGlob` is https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob:
`*` matches within one directory, `**` across them, `?` one character, `[abc]` and `[!abc]` sets, `{a,b}` alternatives.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import heapq
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import attrgetter

import msgspec

from airflow_dataflux.testing.buckets import Bucket
from airflow_dataflux.testing.control_messages import ListingDigest, Settings
from airflow_dataflux.testing.http_messages import Projection, invalid, parse_fields
from airflow_dataflux.testing.object_record import ObjectRecord, fragment


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """One objects.list call, parsed. `start` is inclusive and already includes prefix, startOffset and token."""

    prefix: bytes
    start: bytes
    end: bytes | None
    delimiter: bytes
    include_trailing_delimiter: bool
    glob: str | None
    rows: int
    scan_cap: int
    versions: bool
    soft_deleted: bool
    projection: Projection


@dataclass(frozen=True, slots=True)
class ListAnswer:
    """One page: its JSON and how many rows (items and prefixes) are in it."""

    body: bytes
    rows: int


def parse_query(query: Mapping[str, str], settings: Settings) -> ListQuery:
    """Parse the parameters of objects.list. Raises ApiError (400)."""
    prefix = query.get("prefix", "").encode()
    start = max(prefix, query.get("startOffset", "").encode())
    if query.get("pageToken"):
        start = max(start, _read_token(query["pageToken"]))
    ends = [end for end in (query.get("endOffset", "").encode(), successor(prefix)) if end]
    try:
        wanted = int(query.get("maxResults") or settings.page_default)
    except ValueError:
        raise invalid(f"Invalid value for maxResults: {query['maxResults']!r}", reason="invalidParameter") from None
    if wanted < 0:
        raise invalid(f"Invalid value for maxResults: {wanted}", reason="invalidParameter")
    return ListQuery(
        prefix=prefix,
        start=start,
        end=min(ends, default=None),
        delimiter=query.get("delimiter", "").encode(),
        include_trailing_delimiter=_flag(query, "includeTrailingDelimiter"),
        glob=query.get("matchGlob") or None,
        rows=min(wanted or settings.page_default, settings.page_cap),
        scan_cap=settings.scan_cap,
        versions=_flag(query, "versions"),
        soft_deleted=_flag(query, "softDeleted"),
        projection=parse_fields(query.get("fields")),
    )


def _flag(query: Mapping[str, str], parameter: str) -> bool:
    # The official client writes Python's True.
    return query.get(parameter, "").lower() == "true"


def list_page(bucket: Bucket, query: ListQuery, endpoint: str) -> ListAnswer:
    """Answer one call."""
    items_projection = _below(query.projection, "items")
    prefixes: list[bytes] = []
    if query.end is not None and query.start >= query.end:
        items: list[bytes] = []
        count, resume = 0, None
    elif query.delimiter or query.glob or query.versions or query.soft_deleted:
        records, prefixes, resume = _select(bucket, query)
        items = [fragment(record, items_projection, bucket=bucket.name, endpoint=endpoint) for record in records]
        count = len(items) + len(prefixes)
    else:
        items, count, resume = _encode_runs(bucket, query, items_projection, endpoint)
    return ListAnswer(_page(query.projection, items, prefixes, resume), count)


def _encode_runs(
    bucket: Bucket, query: ListQuery, projection: Projection, endpoint: str
) -> tuple[list[bytes], int, bytes | None]:
    """Return encoded items, how many they are, and where the next page starts."""
    items: list[bytes] = []
    count = 0
    for run in bucket.runs(query.start, query.end):
        if isinstance(run, ObjectRecord):
            if count == query.rows:
                return items, count, run.name
            items.append(fragment(run, projection, bucket=bucket.name, endpoint=endpoint))
            count += 1
            continue
        synthetic, start, end = run
        until = min(end, start + query.rows - count)
        if until > start:
            items.append(synthetic.items(start, until, projection))
            count += until - start
        if until < end:
            return items, count, synthetic.resume_name(until)
    return items, count, None


def _select(bucket: Bucket, query: ListQuery) -> tuple[list[ObjectRecord], list[bytes], bytes | None]:
    """Walk name by name: what `delimiter`, `matchGlob` and old versions need."""
    pattern = glob_pattern(query.glob) if query.glob else None
    records: list[ObjectRecord] = []
    prefixes: list[bytes] = []
    start, scanned = query.start, 0
    while True:
        for record in _records(bucket, query, start):
            full = len(records) + len(prefixes) >= query.rows and not (records and records[-1].name == record.name)
            if full or scanned >= query.scan_cap:
                return records, prefixes, record.name
            scanned += 1
            cut = record.name.find(query.delimiter, len(query.prefix)) if query.delimiter else -1
            common = record.name[: cut + len(query.delimiter)] if cut >= 0 else None
            if pattern is not None and not pattern.fullmatch(record.name.decode()):
                if common is None or query.glob is None or not pattern.fullmatch(common.decode()):
                    continue
            elif common is None or (query.include_trailing_delimiter and common == record.name):
                records.append(record)
            if common is not None:
                if not prefixes or prefixes[-1] != common:
                    prefixes.append(common)
                if common != record.name or not query.include_trailing_delimiter:
                    start = successor(common) or b""
                    break  # nothing below the common prefix is looked at
        else:
            return records, prefixes, None
        if query.end is not None and start >= query.end:
            return records, prefixes, None


def _records(bucket: Bucket, query: ListQuery, start: bytes) -> Iterator[ObjectRecord]:
    live = _live_records(bucket, start, query.end)
    old = bucket.soft_deleted if query.soft_deleted else bucket.noncurrent if query.versions else []
    if not old:
        return iter(()) if query.soft_deleted else live
    chosen = sorted(
        (each for each in old if each.name >= start and (query.end is None or each.name < query.end)),
        key=attrgetter("name", "generation"),
    )
    if query.soft_deleted:
        return iter(chosen)
    return heapq.merge(chosen, live, key=attrgetter("name", "generation"))


def _live_records(bucket: Bucket, start: bytes, end: bytes | None) -> Iterator[ObjectRecord]:
    return chain.from_iterable(
        (run,) if isinstance(run, ObjectRecord) else map(run[0].record, range(run[1], run[2]))
        for run in bucket.runs(start, end)
    )


def _page(projection: Projection, items: list[bytes], prefixes: list[bytes], resume: bytes | None) -> bytes:
    def wants(field: str) -> bool:
        return projection is None or "*" in projection or field in projection

    fields = []
    if wants("kind"):
        fields.append(b'"kind":"storage#objects"')
    if resume is not None and wants("nextPageToken"):
        fields.append(b'"nextPageToken":' + msgspec.json.encode(_make_token(resume)))
    if prefixes and wants("prefixes"):
        fields.append(b'"prefixes":' + msgspec.json.encode([prefix.decode() for prefix in prefixes]))
    if items and wants("items"):
        fields.append(b'"items":[' + b",".join(items) + b"]")
    return b"{" + b",".join(fields) + b"}"


def _below(projection: Projection, name: str) -> Projection:
    if projection is None or "*" in projection:
        return None
    below: Projection = projection.get(name)
    return below


def successor(prefix: bytes) -> bytes | None:
    """Return the least byte string that is after everything with this prefix; None for the empty prefix."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else None


def _make_token(name: bytes) -> str:
    return base64.urlsafe_b64encode(b"N" + name).decode()


def _read_token(token: str) -> bytes:
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not raw.startswith(b"N"):
        raise invalid(f"Invalid pageToken {token!r}", reason="invalidParameter")
    return raw[1:]


def digest(bucket: Bucket, prefix: str) -> ListingDigest:
    """Return what a listing of `prefix` must contain."""
    names, versions = hashlib.sha256(), hashlib.sha256()
    count = total_bytes = 0
    first: bytes | None = None
    last: bytes | None = None
    start = prefix.encode()
    for run in bucket.runs(start, successor(start)):
        if isinstance(run, ObjectRecord):
            first = run.name if first is None else first
            last = run.name
            names.update(run.name + b"\n")
            versions.update(run.name + b"\n%d\n" % run.generation)
            count += 1
            total_bytes += run.content.size
            continue
        synthetic, low, high = run
        first = synthetic.name(low) if first is None else first
        last = synthetic.name(high - 1)
        for index in range(low, high, 10_000):
            end = min(index + 10_000, high)
            names.update(synthetic.lines(index, end, generations=False))
            versions.update(synthetic.lines(index, end, generations=True))
            total_bytes += synthetic.total_bytes(index, end)
        count += high - low
    return ListingDigest(
        count=count,
        total_bytes=total_bytes,
        names_sha256=names.hexdigest(),
        versions_sha256=versions.hexdigest(),
        first=None if first is None else first.decode(),
        last=None if last is None else last.decode(),
    )


@lru_cache(maxsize=256)
def glob_pattern(glob: str) -> re.Pattern[str]:
    """Return a pattern whose fullmatch is the glob's. Raises ApiError (400) if the glob is malformed."""
    out: list[str] = []
    depth, position = 0, 0
    while position < len(glob):
        character = glob[position]
        if glob.startswith("**", position):
            # `a/**/b` also matches `a/b`.
            if glob.startswith("**/", position) and (position == 0 or glob[position - 1] == "/"):
                out.append("(?:.*/)?")
                position += 3
            else:
                out.append(".*")
                position += 2
            continue
        if character == "*":
            out.append("[^/]*")
        elif character == "?":
            out.append("[^/]")
        elif character == "[":
            end = glob.find("]", position + 2)
            if end < 0:
                raise invalid(f"Invalid glob {glob!r}: '[' without ']'.", reason="invalidParameter")
            inner = glob[position + 1 : end]
            negated = inner[0] in "!^"
            body = (inner[1:] if negated else inner).replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
            out.append(f"[^/{body}]" if negated else f"[{body}]")
            position = end
        elif character == "{":
            depth += 1
            out.append("(?:")
        elif character == "}" and depth:
            depth -= 1
            out.append(")")
        elif character == "," and depth:
            out.append("|")
        elif character == "\\" and position + 1 < len(glob):
            position += 1
            out.append(re.escape(glob[position]))
        else:
            out.append(re.escape(character))
        position += 1
    if depth:
        raise invalid(f"Invalid glob {glob!r}: '{{' without '}}'.", reason="invalidParameter")
    try:
        return re.compile("".join(out), re.DOTALL)
    except re.error as error:
        raise invalid(f"Invalid glob {glob!r}: {error}.", reason="invalidParameter") from error
