"""The requests that this project sends, as data: where each goes, what it costs, which rate it counts against.

Billing classes: https://cloud.google.com/storage/pricing#operations-by-class. Permissions:
https://cloud.google.com/storage/docs/access-control/iam-json. Lists count against the read rate, compose, upload
and delete against the write rate (https://cloud.google.com/storage/docs/request-rate).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Literal
from urllib.parse import quote

import msgspec

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.gcs.objects import OBJECT_FIELDS
from airflow_dataflux.core.gcs.store import ObjectVersion, PageRequest

BillingClass = Literal["class_a", "class_b", "free"]
BudgetName = Literal["read", "write"]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request.

    Attributes:
        name: how errors and logs call it.
        bills: what Cloud Storage bills for it.
        budget: the request rate that it counts against.
        permission: the permission it needs, named in the error when it is refused.
        about: whether a 404 is about the bucket or about an object in it.
    """

    name: str
    bills: BillingClass
    budget: BudgetName
    permission: str
    about: Literal["bucket", "object"]


LIST = Operation(
    name="list objects",
    bills="class_a",
    budget="read",
    permission="storage.objects.list",
    about="bucket",
)
READ = Operation(
    name="read",
    bills="class_b",
    budget="read",
    permission="storage.objects.get",
    about="object",
)
STAT = Operation(
    name="read metadata",
    bills="class_b",
    budget="read",
    permission="storage.objects.get",
    about="object",
)
BUCKET_INFO = Operation(
    name="read bucket settings", bills="class_b", budget="read", permission="storage.buckets.get", about="bucket"
)
TEST_PERMISSIONS = Operation(
    name="test permissions", bills="class_b", budget="read", permission="storage.buckets.get", about="bucket"
)
COMPOSE = Operation(
    name="compose", bills="class_a", budget="write", permission="storage.objects.create", about="object"
)
UPLOAD = Operation(name="upload", bills="class_a", budget="write", permission="storage.objects.create", about="bucket")
UPLOAD_CHUNK = Operation(
    name="upload a chunk", bills="free", budget="write", permission="storage.objects.create", about="object"
)
"""Billed with the opening of its session, as one insert."""

DELETE = Operation(name="delete", bills="free", budget="write", permission="storage.objects.delete", about="object")
DELETE_MANY = Operation(
    name="delete by a batch request", bills="free", budget="write", permission="storage.objects.delete", about="bucket"
)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, ready to be sent, and sent again.

    Attributes:
        operation: its kind.
        method: HTTP method.
        target: path and query, percent-encoded.
        resource: the `gs://` URI that errors name.
        repeatable: whether sending it twice has the effect of sending it once. A call that is not is only sent again
            when it surely was not carried out.
        headers: beyond those that every request carries.
        body: pieces of the request's body; sent from the front on every attempt.
        weight: how many requests Cloud Storage counts it as.
        accepts: statuses from 300 on that are no failure here.
        on_cancel: what a cancel does to it. "cut off": the request under way is given up. "finish": its answer is
            waited for, which names what was made; it is not begun after a cancel. "send": it is sent after a cancel,
            too, as it tidies up.
        still_wanted: asked before it waits for another turn, or is sent again after a refusal: if not, it is given up.
            Once it may have been carried out, it is not asked, because only an answer tells.
        answer_lost: called after an attempt without an answer, which may still be carried out.
    """

    operation: Operation
    method: str
    target: str
    resource: str
    repeatable: bool
    headers: Mapping[str, str] = {}
    body: tuple[bytes | memoryview, ...] = ()
    weight: int = 1
    accepts: frozenset[int] = frozenset()
    on_cancel: Literal["cut off", "finish", "send"] = "cut off"
    still_wanted: Callable[[], bool] | None = None
    answer_lost: Callable[[], None] | None = None


def path_segment(text: str) -> str:
    """Return an object or bucket name as one segment of a path: everything but unreserved characters is encoded.

    `/` too, or Cloud Storage would read it as part of the path
    (https://cloud.google.com/storage/docs/request-endpoints#encoding).
    """
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"{text!r} cannot be an object name: it holds half of a surrogate pair, which UTF-8 cannot express."
        ) from error


def bucket_path(bucket: str) -> str:
    """Return a bucket's path."""
    return f"/storage/v1/b/{path_segment(bucket)}"


def object_path(bucket: str, name: str) -> str:
    """Return an object's path."""
    return f"/storage/v1/b/{path_segment(bucket)}/o/{path_segment(name)}"


def query(parameters: Iterable[tuple[str, str | int | None]]) -> str:
    """Return `?name=value&…` of those parameters that have a value; empty if none has."""
    parts = [f"{name}={path_segment(str(value))}" for name, value in parameters if value is not None]
    return "?" + "&".join(parts) if parts else ""


_PAGE_FIELDS = f"kind,items({OBJECT_FIELDS}),nextPageToken"
"""A projected item is about 200 bytes, a full one 700-900. `kind` tells a page from any other JSON; like nextPageToken,
it must be named or it is left out."""

_DIRECTORY_FIELDS = "kind,prefixes,nextPageToken"


@functools.cache
def _same_for_each_page(fields: str, user_project: str | None) -> str:
    """Return what all pages are asked for with; quoting it anew for each took longer than the rest of the query."""
    asked = (("projection", "noAcl"), ("fields", fields), ("prettyPrint", "false"), ("userProject", user_project))
    return query(asked).removeprefix("?")


def page_target(bucket: str, request: PageRequest, user_project: str | None) -> str:
    """Return path and query of one objects.list call."""
    own = query(
        (
            ("prefix", request.prefix or None),
            ("startOffset", request.start or None),
            ("endOffset", request.end),
            ("matchGlob", request.match_glob),
            ("delimiter", request.delimiter),
            ("maxResults", request.max_results),
            ("pageToken", request.page_token),
        )
    )
    fields = _PAGE_FIELDS if request.delimiter is None else _DIRECTORY_FIELDS
    return f"{bucket_path(bucket)}/o{own}{'&' if own else '?'}{_same_for_each_page(fields, user_project)}"


def delete_target(bucket: str, version: ObjectVersion, user_project: str | None) -> str:
    """Return path and query of the deletion of one generation."""
    return object_path(bucket, version.name) + query(
        (("generation", version.generation), ("userProject", user_project))
    )
