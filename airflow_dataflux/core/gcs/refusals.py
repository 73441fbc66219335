"""From an answer that says no, or no answer, to one sentence and one class of `core/errors.py`.

The table is `_KINDS`; what a person can do next is in `_advice`. Cloud Storage's own message is always quoted,
because it names the missing permission and the account. Bodies: https://cloud.google.com/storage/docs/json_api/v1/status-codes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from airflow_dataflux.core.errors import (
    AuthenticationError,
    BucketNotFoundError,
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreError,
    ThrottledError,
    UnavailableError,
)
from airflow_dataflux.core.gcs.operations import Call

_LONGEST_QUOTE = 600

_PERMISSION = re.compile(r"\bstorage\.[a-zA-Z]+\.[a-zA-Z]+\b")


class _Detail(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Error(msgspec.Struct):
    message: str = ""
    errors: list[_Detail] = []


class _Envelope(msgspec.Struct):
    error: _Error


_ENVELOPE = msgspec.json.Decoder(_Envelope)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """An answer that is not a success.

    Attributes:
        status: HTTP status.
        reason: Cloud Storage's short reason, such as `notFound`; empty where it gave none.
        message: its sentence.
    """

    status: int
    reason: str
    message: str


def read_refusal(status: int, body: bytes) -> Refusal:
    """Read an error's body: JSON, or the bare sentence that media requests are answered with."""
    try:
        error = _ENVELOPE.decode(body).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        message = body.decode("utf-8", "replace").strip()
        return Refusal(status=status, reason="", message=message[:_LONGEST_QUOTE])
    detail = error.errors[0] if error.errors else _Detail()
    return Refusal(status=status, reason=detail.reason, message=(error.message or detail.message)[:_LONGEST_QUOTE])


_KINDS: dict[int, type[StoreError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    408: UnavailableError,
    412: PreconditionFailedError,
    429: ThrottledError,
}


def error_of(call: Call, refusal: Refusal, *, attempts: int, elapsed_s: float) -> StoreError:
    """Return the error for a refusal that will not be retried any more."""
    kind = _kind(call, refusal)
    attempted = f" after {attempts} attempts in {elapsed_s:.1f} s" if attempts > 1 else ""
    said = refusal.message.rstrip(".") or "no explanation"
    reason = f" {refusal.reason}" if refusal.reason else ""
    message = (
        f"Could not {call.operation.name} {call.resource}{attempted}: Cloud Storage answered {refusal.status}{reason}: "
        f"{said}. {_advice(kind, call, refusal)}"
    )
    return kind(
        message.rstrip(),
        operation=call.operation.name,
        resource=call.resource,
        status=refusal.status,
        reason=refusal.reason or refusal.message,
        attempts=attempts,
    )


def connection_error(call: Call, problem: str, *, attempts: int, elapsed_s: float) -> UnavailableError:
    """Return the error for a call that got no whole answer."""
    certainty = "" if call.repeatable else " It may have been carried out: it is not safe to repeat, so it was not."
    return UnavailableError(
        f"Could not {call.operation.name} {call.resource} after {attempts} attempt(s) in {elapsed_s:.1f} s: {problem}."
        f"{certainty} Check the network between this machine and Cloud Storage, and run it again.",
        operation=call.operation.name,
        resource=call.resource,
        status=None,
        reason=problem,
        attempts=attempts,
    )


def unreadable_error(call: Call, problem: str, *, attempts: int) -> StoreError:
    """Return the error for an answer of success that is not what its kind looks like."""
    return StoreError(
        f"Could not {call.operation.name} {call.resource}: the answer is not what Cloud Storage documents: {problem}. "
        "Check that the endpoint is Cloud Storage (or an emulator of it) and not a proxy's own page.",
        operation=call.operation.name,
        resource=call.resource,
        status=200,
        reason=problem,
        attempts=attempts,
    )


def _kind(call: Call, refusal: Refusal) -> type[StoreError]:
    if refusal.status == 404:
        about_bucket = call.operation.about == "bucket" or "bucket does not exist" in refusal.message
        return BucketNotFoundError if about_bucket else ObjectNotFoundError
    if refusal.status == 403 and refusal.reason in ("rateLimitExceeded", "userRateLimitExceeded"):
        return ThrottledError
    if refusal.status >= 500:
        return UnavailableError
    return _KINDS.get(refusal.status, StoreError)


def _advice(kind: type[StoreError], call: Call, refusal: Refusal) -> str:
    """Say what to do next."""
    if kind is BucketNotFoundError:
        return "Check the bucket's name and the project's credentials."
    if kind is ObjectNotFoundError:
        return "The object, or this generation of it, is gone: list again."
    if kind is PreconditionFailedError:
        return "The object changed, or exists already: list again, or choose another name."
    if kind is AuthenticationError:
        return "Check the credentials of the connection: they are missing, expired or not meant for Cloud Storage."
    if kind is ThrottledError:
        return "The request rate of the bucket or project is used up: use fewer streams, or run it later."
    if kind is UnavailableError:
        return "Run it again later; https://status.cloud.google.com tells about outages."
    if kind is PermissionDeniedError:
        return _permission_advice(call, refusal)
    if refusal.status == 400 and "requester pays" in refusal.message.lower():
        return "Set user_project to the project that is billed for the requests."
    return ""


def _permission_advice(call: Call, refusal: Refusal) -> str:
    if refusal.reason == "retentionPolicyNotMet" or "retention policy" in refusal.message:
        return "The bucket's retention policy protects the object until it is old enough."
    if refusal.reason == "objectUnderActiveHold" or "active hold" in refusal.message.lower():
        return "Release the object's hold first."
    if refusal.reason == "userProjectAccessDenied" or "serviceusage.services.use" in refusal.message:
        return "The caller needs serviceusage.services.use on user_project."
    named = _PERMISSION.search(refusal.message)
    permission = named.group() if named else call.operation.permission
    return f"Grant {permission} on the bucket to the account that runs this."
