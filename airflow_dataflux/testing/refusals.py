"""Answers that say no, in Cloud Storage's own shape.

A refusal is raised anywhere below a request and becomes the answer, with the JSON body documented at
https://cloud.google.com/storage/docs/json_api/v1/status-codes. Media requests get the bare sentence as text, as
Cloud Storage does.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Refusal(Exception):  # noqa: N818 - an answer, not an error of this program
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


def invalid(message: str, *, reason: str = "invalid") -> Refusal:
    """Return a 400."""
    return Refusal(400, reason, message)


def required(message: str) -> Refusal:
    """Return a 400 for something that is missing."""
    return Refusal(400, "required", message)


def bucket_not_found() -> Refusal:
    """Return the 404 of an unknown bucket."""
    return Refusal(404, "notFound", "The specified bucket does not exist.")


def object_not_found(bucket: str, name: str) -> Refusal:
    """Return the 404 of an unknown object or generation."""
    return Refusal(404, "notFound", f"No such object: {bucket}/{name}")


def forbidden(permission: str, resource: str) -> Refusal:
    """Return the 403 of a permission that the caller does not hold."""
    return Refusal(
        403,
        "forbidden",
        f"The caller does not have {permission} access to the Google Cloud Storage {resource}. Permission "
        f"'{permission}' denied on resource (or it may not exist).",
    )


def precondition_failed() -> Refusal:
    """Return a 412."""
    return Refusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


def not_modified() -> Refusal:
    """Return a 304, the answer to a read whose `…NotMatch` condition says that the caller has it already."""
    return Refusal(304, "notModified", "Not modified.")
