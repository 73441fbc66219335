"""What the owner of a server tells it and asks of it: plain data that both processes share.

All of it travels as MessagePack through the private control API (`Control` in `server.py`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

NameStyle = Literal["flat", "classes", "deep", "uuid", "unicode", "timestamps"]

FaultKind = Literal[
    "status", "answer", "reset", "lose_answer", "reset_body", "truncate", "flip", "stall", "stall_body", "trickle"
]


class BucketSettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What kind of bucket to make.

    Attributes:
        storage_class: class of new objects that name none.
        location, location_type: as reported.
        versioning: keep noncurrent versions.
        soft_delete_s: how long deleted objects are kept, reported and counted; 0 is off.
        hard_delete_paused: what is soft-deleted stays until the pause ends.
        retention_s: objects cannot be deleted or replaced before this age; 0 is off.
        default_event_based_hold: new objects are held.
        autoclass, hierarchical_namespace: reported only.
        requester_pays: requests need `userProject`.
        permissions: what the caller may do; None is everything, an empty list nothing.
    """

    storage_class: str = "STANDARD"
    location: str = "US"
    location_type: str = "multi-region"
    versioning: bool = False
    soft_delete_s: int = 0
    hard_delete_paused: bool = False
    retention_s: int = 0
    default_event_based_hold: bool = False
    autoclass: bool = False
    hierarchical_namespace: bool = False
    requester_pays: bool = False
    permissions: list[str] | None = None


class SyntheticObjects(msgspec.Struct, kw_only=True):
    """Objects whose names and contents follow from arithmetic; they take no memory.

    Attributes:
        bucket: where they appear.
        count: how many.
        style: how they are named (`synthetic_names.py`).
        prefix: put before every name.
        sizes: sizes in bytes; each object has one of them, chosen by a hash of its index.
        seed: makes another run of names (uuid) and contents.
        storage_class, content_type: of all of them.
    """

    bucket: str
    count: int
    style: NameStyle = "flat"
    prefix: str = ""
    sizes: list[int] = msgspec.field(default_factory=lambda: [1024])
    seed: int = 0
    storage_class: str = "STANDARD"
    content_type: str = "application/octet-stream"


class Settings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the server behaves as a service. Every duration is in seconds.

    Attributes:
        page_cap: most rows of a listing page, whatever `maxResults` says.
        page_default: rows of a page without `maxResults`.
        scan_cap: names looked at for one page of a `matchGlob` or `delimiter` listing; a page may be short or empty.
        first_byte_s: latency of every operation without an entry in `latency_s`.
        latency_s: latency to the first byte, by operation.
        list_per_1000_rows_s, compose_per_source_s, batch_per_call_s: added for each 1,000 rows answered, source, call.
        jitter: latencies vary by this fraction to either side, 0-1.
        bytes_per_s: bandwidth of one connection, each way of a body; None is unlimited.
        reads_per_s, writes_per_s, lists_per_s: budgets of each bucket, above which it answers 429; None is unlimited.
            Lists count as reads, too. Deletes and composes are writes.
        budget_burst_s: a bucket that was idle can serve this many seconds' worth of its budget at once.
        retry_after_s: sent with a 429 of a budget; None sends none.
        seed: of the jitter, and of faults that have none of their own.
        tokens: accepted bearer tokens with their remaining life (None: no end).
        token_life_s: life of the tokens that `POST /token` hands out, as an OAuth 2.0 token endpoint does; they are
            accepted besides `tokens`. With neither setting, any caller is accepted.
    """

    page_cap: int = 1000
    page_default: int = 1000
    scan_cap: int = 20_000
    first_byte_s: float = 0.0
    latency_s: dict[str, float] = msgspec.field(default_factory=dict)
    list_per_1000_rows_s: float = 0.0
    compose_per_source_s: float = 0.0
    batch_per_call_s: float = 0.0
    jitter: float = 0.0
    bytes_per_s: float | None = None
    reads_per_s: float | None = None
    writes_per_s: float | None = None
    lists_per_s: float | None = None
    budget_burst_s: float = 0.25
    retry_after_s: float | None = None
    seed: int = 0
    tokens: dict[str, float | None] | None = None
    token_life_s: float | None = None


class FaultRule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which requests fail, and how.

    A request meets a rule if every given target fits. Of those it meets, the rule hits by `nth` (the n-th request
    that meets it, counted from 1, and no other) or else by `probability`; at most `times` times.

    Attributes:
        kind: what happens.
            status: the answer is `status`, nothing is done. reset: the connection is reset, nothing is done.
            answer: the answer is `status` with `body` and `headers`, as if somebody else had answered.
            lose_answer: the request is carried out, then the connection is reset before the answer.
            reset_body, truncate: the connection is reset, or closed as if in order, after `after_bytes` of the body.
            flip: one bit of the body is wrong; headers, checksum included, are right.
            trickle: the body comes byte by byte, `stall_s` apart.
            stall, stall_body: nothing comes for `stall_s`, before the headers or after `after_bytes` of the body.
        operation: list, read, stat, upload, compose, copy, delete, patch, batch, bucket, permissions, token;
            None is any.
        bucket: None is any.
        prefix: of the object's name (for a listing: of the prefix listed).
        probability: of a hit, by the rule's own seeded generator.
        nth: see above.
        times: most hits; None is unlimited.
        status: of `status` and `answer` faults.
        body, headers: of `answer` faults.
        after_work: whether an `answer` fault comes after the request was carried out, or in its place.
        retry_after_s: sent as Retry-After with it.
        after_bytes: how much of the body still comes; None is half of it.
        stall_s: length of a stall.
        seed: of the rule's generator; None takes the server's.
    """

    kind: FaultKind
    operation: str | None = None
    bucket: str | None = None
    prefix: str = ""
    probability: float = 1.0
    nth: int | None = None
    times: int | None = None
    status: int = 503
    body: bytes = b""
    headers: dict[str, str] = {}
    after_work: bool = False
    retry_after_s: float | None = None
    after_bytes: int | None = None
    stall_s: float = 0.0
    seed: int | None = None


class FaultCount(msgspec.Struct, kw_only=True):
    """What became of one rule: requests that met it, and requests it really hit."""

    rule: FaultRule
    met: int = 0
    hits: int = 0


class ChangeRule(msgspec.Struct, kw_only=True):
    """Change an object just before a certain request is carried out, as another writer would.

    Attributes:
        bucket, name: the object.
        data: its new content; None deletes it.
        operation: which requests count; None counts all that concern `bucket`.
        after: how many of them pass before the change.
    """

    bucket: str
    name: str
    data: bytes | None = None
    operation: str | None = None
    after: int = 0


class RequestRecord(msgspec.Struct, kw_only=True):
    """One request that was answered, or that a fault ended (`status` 0)."""

    operation: str
    method: str
    bucket: str
    name: str
    status: int
    query: dict[str, str]
    user_agent: str
    bytes_sent: int = 0
    fault: int | None = None


class RequestCounters(msgspec.Struct, kw_only=True):
    """Requests since the start, the last reset, or the last `forget_requests`.

    Attributes:
        operations: how many of each operation; calls inside a batch count as their own operation.
        statuses: how many of each answer, as text ("200"); "0" is a connection that a fault ended.
        in_flight, in_flight_peak: HTTP requests being served now, and the most at once.
        bytes_sent: of answers' bodies.
        rows: listed items sent.
    """

    operations: dict[str, int] = msgspec.field(default_factory=dict)
    statuses: dict[str, int] = msgspec.field(default_factory=dict)
    in_flight: int = 0
    in_flight_peak: int = 0
    bytes_sent: int = 0
    rows: int = 0


class ListingDigest(msgspec.Struct, kw_only=True, frozen=True):
    """What a listing must contain, computed by the server from its own state, in UTF-8 byte order of the names.

    Attributes:
        count, total_bytes: objects, and the sum of their sizes.
        names_sha256: over the name and a line feed of each object.
        versions_sha256: over the name, a line feed, the generation and a line feed of each object.
        first, last: names; None if there are no objects.
    """

    count: int
    total_bytes: int
    names_sha256: str
    versions_sha256: str
    first: str | None
    last: str | None


class StoredVersion(msgspec.Struct, kw_only=True, frozen=True):
    """What the owner learns about an object that it put."""

    name: str
    generation: int
    metageneration: int
    size: int
    crc32c: int
    storage_class: str
    metadata: dict[str, str]
