"""From a method and a path to the operation they mean.

The paths are those that the official client uses with `STORAGE_EMULATOR_HOST`: `/storage/v1/…`, `/upload/…`,
`/resumable/upload/…`, `/download/…`; the batch endpoint and the control API are taken apart elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from airflow_dataflux.testing.http_messages import ApiError

OPERATIONS = (
    "list", "read", "stat", "upload", "compose", "copy", "delete", "patch", "batch", "bucket", "permissions", "token",
)  # fmt: skip
"""What requests are counted, delayed and failed by. `upload` includes every request of a resumable upload."""

WRITES = frozenset({"upload", "compose", "copy", "delete", "patch"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a request asks for.

    Attributes:
        operation: one of OPERATIONS.
        action: the method of Service that carries it out.
        bucket, name: what it concerns, empty where it concerns none.
        other_bucket, other_name: destination of a copy.
    """

    operation: str
    action: str
    bucket: str = ""
    name: str = ""
    other_bucket: str = ""
    other_name: str = ""


def find_route(method: str, path: str, *, media: bool) -> Route:
    """Return the route of a request; `path` as it came, percent-encoded. Raises ApiError (404, 405)."""
    parts = [unquote(part, errors="surrogateescape") for part in path.strip("/").split("/")]
    if parts[0] in ("upload", "resumable"):
        del parts[: parts.index("upload") + 1 if "upload" in parts[:2] else 1]
        if parts[:3] == ["storage", "v1", "b"] and len(parts) == 5 and parts[4] == "o":
            action = "start_upload" if method == "POST" else "resume_upload"
            return Route(operation="upload", action=action, bucket=parts[3])
        raise _unknown(method, path)
    if parts[0] == "download":
        del parts[0]
        media = True
    if parts[:3] != ["storage", "v1", "b"]:
        raise _unknown(method, path)
    rest = parts[3:]
    if len(rest) < 2:
        return _bucket_route(method, path, rest[0] if rest else "")
    if rest[1] == "iam":
        return Route(operation="permissions", action="permissions", bucket=rest[0])
    if rest[1] == "o" and len(rest) == 2 and method == "GET":
        return Route(operation="list", action="list", bucket=rest[0])
    if rest[1] == "o" and len(rest) > 2:
        return _object_route(method, path, rest, media)
    raise _unknown(method, path)


def _bucket_route(method: str, path: str, bucket: str) -> Route:
    actions = (
        {"GET": "get_bucket", "PATCH": "patch_bucket", "DELETE": "delete_bucket"}
        if bucket
        else {"GET": "list_buckets", "POST": "insert_bucket"}
    )
    if method not in actions:
        raise _unknown(method, path)
    return Route(operation="bucket", action=actions[method], bucket=bucket)


def _object_route(method: str, path: str, rest: list[str], media: bool) -> Route:
    bucket, name = rest[0], rest[2]
    if len(rest) == 3:
        if method == "GET":
            operation = "read" if media else "stat"
            return Route(operation=operation, action=operation, bucket=bucket, name=name)
        if method in ("PATCH", "PUT"):
            return Route(operation="patch", action="patch", bucket=bucket, name=name)
        if method == "DELETE":
            return Route(operation="delete", action="delete", bucket=bucket, name=name)
    elif method == "POST" and rest[3:] == ["compose"]:
        return Route(operation="compose", action="compose", bucket=bucket, name=name)
    elif method == "POST" and len(rest) == 8 and rest[3] in ("copyTo", "rewriteTo") and rest[4:8:2] == ["b", "o"]:
        action = "copy" if rest[3] == "copyTo" else "rewrite"
        return Route(
            operation="copy", action=action, bucket=bucket, name=name, other_bucket=rest[5], other_name=rest[7]
        )
    raise _unknown(method, path)


def _unknown(method: str, path: str) -> ApiError:
    return ApiError(404, "notFound", f"This server does not know {method} {path}.")
