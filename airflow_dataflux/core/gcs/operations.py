"""The requests that this project sends, as data: what each costs, which rate it counts against, what it needs.

Billing classes: https://cloud.google.com/storage/pricing#operations-by-class. Permissions:
https://cloud.google.com/storage/docs/access-control/iam-json. Lists count against the read rate, compose, upload
and delete against the write rate (https://cloud.google.com/storage/docs/request-rate).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import quote

import msgspec

from airflow_dataflux.core.errors import InvalidRequestError

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
        paced_by_latency: its answers come in one short burst, so that a silent connection can be told from a slow one.
    """

    name: str
    bills: BillingClass
    budget: BudgetName
    permission: str
    about: Literal["bucket", "object"]
    paced_by_latency: bool = False


LIST = Operation(
    name="list objects",
    bills="class_a",
    budget="read",
    permission="storage.objects.list",
    about="bucket",
    paced_by_latency=True,
)
READ = Operation(
    name="read",
    bills="class_b",
    budget="read",
    permission="storage.objects.get",
    about="object",
    paced_by_latency=True,
)
STAT = Operation(
    name="read metadata",
    bills="class_b",
    budget="read",
    permission="storage.objects.get",
    about="object",
    paced_by_latency=True,
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
DELETE = Operation(name="delete", bills="free", budget="write", permission="storage.objects.delete", about="object")
DELETE_BATCH = Operation(
    name="delete a batch", bills="free", budget="write", permission="storage.objects.delete", about="bucket"
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
    """

    operation: Operation
    method: str
    target: str
    resource: str
    repeatable: bool
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: tuple[bytes, ...] = ()
    weight: int = 1


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
