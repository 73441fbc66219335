"""From an answer that says no, or no answer, to whether it is asked again, one class of `core/errors.py`, one sentence.

The table is `_RULES`: the first rule that an answer meets decides all three. What may pass by itself is asked again, or
at least worth another try of the task (`UnavailableError`); what cannot pass is final, with advice that fits. Cloud
Storage's own message is always quoted, because it names the missing permission and the account; an answer that is not
Cloud Storage's (a proxy's page) is called so. docs/reference/answers.md shows the table at work.

Bodies and statuses: https://cloud.google.com/storage/docs/json_api/v1/status-codes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

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
from airflow_dataflux.core.gcs import operations
from airflow_dataflux.core.gcs.operations import Call
from airflow_dataflux.core.gcs.retry import FailureKind

_LONGEST_QUOTE = 600

_PERMISSION = re.compile(r"\b(?:storage|serviceusage)\.[a-zA-Z]+\.[a-zA-Z]+\b")
_USER_INFO = re.compile(r"(?<=://)[^/\s@]+@")


class _Detail(msgspec.Struct):
    reason: str | None = None
    message: str | None = None


class _Error(msgspec.Struct):
    message: str | None = None
    errors: list[_Detail] = []


class _Envelope(msgspec.Struct):
    error: _Error


_ENVELOPE = msgspec.json.Decoder(_Envelope)


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is not a success.

    Attributes:
        status: HTTP status.
        reason: Cloud Storage's short reason, such as `notFound`; empty where it gave none.
        message: its sentence, on one line.
        foreign: it is a page or JSON that Cloud Storage does not send.
        location: where a redirect leads.
        retry_after_s: how long it asks to wait.
    """

    status: int
    reason: str
    message: str
    foreign: bool = False
    location: str = ""
    retry_after_s: float | None = None

    def says(self, *words: str) -> bool:
        """Return whether reason or message hold one of `words`, which are lower case."""
        said = f"{self.reason} {self.message}".lower()
        return any(word in said for word in words)


def read_error(
    status: int, body: bytes, *, location: str | None = None, retry_after_s: float | None = None
) -> ErrorAnswer:
    """Read an error's body: JSON, or the bare sentence that media requests are answered with."""
    rest = {"location": location or "", "retry_after_s": retry_after_s}
    try:
        error = _ENVELOPE.decode(body).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        foreign = text.startswith("<") or (text.startswith("{") and '"error"' not in text)
        return ErrorAnswer(status=status, reason="", message=_one_line(text), foreign=foreign, **rest)  # type: ignore[arg-type]
    detail = error.errors[0] if error.errors else _Detail()
    message = _one_line(error.message or detail.message or "")
    return ErrorAnswer(status=status, reason=detail.reason or "", message=message, **rest)  # type: ignore[arg-type]


def _one_line(text: str) -> str:
    return " ".join(text[:_LONGEST_QUOTE].split())


class _Rule(msgspec.Struct, frozen=True):
    meets: Callable[[Call, ErrorAnswer], bool]
    kind: FailureKind
    error: type[StoreError]
    advice: str


_FINAL, _REFUSED, _UNCERTAIN = FailureKind.FINAL, FailureKind.REFUSED, FailureKind.UNCERTAIN

_PROXY = "Something between here and Cloud Storage answered, such as a proxy or a firewall: "


def _about_bucket(call: Call, answer: ErrorAnswer) -> bool:
    return call.operation.about == "bucket" or "bucket does not exist" in answer.message


_RULES = (
    _Rule(
        lambda _, answer: answer.status < 400,
        _FINAL,
        StoreError,
        "Redirects are not followed. If the service has a new address, set it as the endpoint. If this is a login "
        "page, log in from this machine first.",
    ),
    # Rates: also as bare text, which media requests and old front ends send.
    _Rule(
        lambda _, answer: (
            answer.status == 429
            or (answer.status in (400, 403) and answer.says("ratelimitexceeded", "rate limit exceeded", "rate limit."))
        ),
        _REFUSED,
        ThrottledError,
        "The request rate of the bucket or project is used up: use fewer streams, or run it later.",
    ),
    _Rule(
        lambda _, answer: answer.status == 403 and answer.says("quotaexceeded", "limitexceeded", "quota exceeded"),
        _FINAL,
        ThrottledError,
        "A quota of the project is used up: raise it under IAM & Admin > Quotas, or run it later.",
    ),
    _Rule(
        lambda _, answer: answer.status == 401 and answer.foreign,
        _FINAL,
        AuthenticationError,
        _PROXY + "log in there on this machine, or ask its operator for access.",
    ),
    _Rule(
        lambda _, answer: answer.status == 401,
        _FINAL,
        AuthenticationError,
        "Check the credentials of the connection: they are missing, expired or not meant for Cloud Storage.",
    ),
    _Rule(
        lambda _, answer: answer.status == 407,
        _FINAL,
        AuthenticationError,
        "The proxy wants a user and a password: give them in HTTPS_PROXY, as http://user:password@host:port.",
    ),
    _Rule(
        lambda _, answer: answer.status == 403 and answer.foreign,
        _FINAL,
        PermissionDeniedError,
        _PROXY + "ask whoever runs it to let this machine reach the endpoint.",
    ),
    _Rule(
        lambda _, answer: answer.status == 403 and answer.says("vpcservicecontrols", "prohibited by organization"),
        _FINAL,
        PermissionDeniedError,
        "A service perimeter (VPC Service Controls) protects the bucket: add the project or network of this "
        "machine to the perimeter. A role on the bucket does not help.",
    ),
    _Rule(
        lambda _, answer: answer.status == 403 and answer.says("accountdisabled", "billing"),
        _FINAL,
        PermissionDeniedError,
        "Enable billing for the project that owns the bucket, or is billed for the requests.",
    ),
    _Rule(
        lambda _, answer: answer.status == 403 and answer.says("retentionpolicynotmet", "retention policy"),
        _FINAL,
        PermissionDeniedError,
        "The bucket's retention policy protects the object until it is old enough.",
    ),
    _Rule(
        lambda _, answer: answer.status == 403 and answer.says("objectunderactivehold", "active hold"),
        _FINAL,
        PermissionDeniedError,
        "Release the object's hold first.",
    ),
    _Rule(
        lambda _, answer: answer.status == 403 and answer.says("userprojectaccessdenied", "serviceusage.services.use"),
        _FINAL,
        PermissionDeniedError,
        "The caller needs serviceusage.services.use on user_project.",
    ),
    _Rule(
        lambda _, answer: answer.status == 403 and answer.says("scope"),
        _FINAL,
        PermissionDeniedError,
        "The access token was not made for Cloud Storage: give the credentials the scope devstorage.read_write.",
    ),
    _Rule(
        lambda _, answer: answer.status == 403 and answer.says("constraints/", "organization policy", "orgpolicy"),
        _FINAL,
        PermissionDeniedError,
        "A policy of the organisation forbids it: ask whoever administers it.",
    ),
    _Rule(
        lambda _, answer: answer.status == 403,
        _FINAL,
        PermissionDeniedError,
        "Grant {permission} on the bucket to the account that runs this.",
    ),
    _Rule(
        lambda _, answer: answer.status == 404 and answer.foreign,
        _FINAL,
        StoreError,
        _PROXY + "check the endpoint; an emulator may lack this operation.",
    ),
    _Rule(
        lambda call, answer: answer.status == 404 and _about_bucket(call, answer),
        _FINAL,
        BucketNotFoundError,
        "Check the bucket's name and the project's credentials.",
    ),
    _Rule(
        lambda _, answer: answer.status == 404,
        _FINAL,
        ObjectNotFoundError,
        "The object, or this generation of it, is gone: list again.",
    ),
    _Rule(
        lambda _, answer: answer.status in (405, 501, 505),
        _FINAL,
        StoreError,
        "The endpoint does not offer this operation: check that it is Cloud Storage, or use an emulator that has it.",
    ),
    _Rule(
        lambda _, answer: answer.status == 412 and not answer.foreign,
        _FINAL,
        PreconditionFailedError,
        "The object changed, or exists already: list again, or choose another name.",
    ),
    # A listing whose cursor is not accepted any more can be begun again, with another one.
    _Rule(
        lambda call, answer: (
            call.operation is operations.LIST
            and (answer.status == 410 or (answer.status == 400 and answer.says("pagetoken", "page token")))
        ),
        _FINAL,
        UnavailableError,
        "The cursor of the listing is not valid any more: list again.",
    ),
    _Rule(
        lambda _, answer: answer.status == 409,
        _REFUSED,
        UnavailableError,
        "Another request was changing the same object or bucket: run it again.",
    ),
    _Rule(
        lambda _, answer: answer.status in (408, 499) or answer.status >= 500,
        _UNCERTAIN,
        UnavailableError,
        "Run it again later; https://status.cloud.google.com shows outages.",
    ),
    _Rule(
        lambda _, answer: answer.status == 400 and answer.says("requester pays"),
        _FINAL,
        StoreError,
        "Set user_project to the project that is billed for the requests.",
    ),
    _Rule(
        lambda call, answer: answer.status == 400 and call.operation is operations.LIST and answer.says("glob"),
        _FINAL,
        StoreError,
        "Correct match_glob: put a backslash before a [ or { that is part of a name.",
    ),
    _Rule(
        lambda _, answer: answer.status == 416,
        _FINAL,
        StoreError,
        "The object has fewer bytes than were listed: list again.",
    ),
    _Rule(
        lambda _, answer: answer.status in (411, 413, 414, 431),
        _FINAL,
        StoreError,
        "Cloud Storage accepts requests of this size: look for a proxy that limits them.",
    ),
    _Rule(
        lambda _, answer: answer.foreign,
        _FINAL,
        StoreError,
        _PROXY + "check the endpoint and the proxy.",
    ),
    _Rule(
        lambda _, answer: True,
        _FINAL,
        StoreError,
        "Doing the same again will not help: check the endpoint, and report it if it is Cloud Storage.",
    ),
)


def _rule_of(call: Call, answer: ErrorAnswer) -> _Rule:
    return next(rule for rule in _RULES if rule.meets(call, answer))


def kind_of_failure(call: Call, answer: ErrorAnswer) -> FailureKind:
    """Return whether a call that was answered so may be sent again."""
    return _rule_of(call, answer).kind


def means_gone(call: Call, answer: ErrorAnswer) -> bool:
    """Return whether the answer says that there is no such object (and not that there is no such page)."""
    return _rule_of(call, answer).error is ObjectNotFoundError


def error_of(
    call: Call, answer: ErrorAnswer, *, attempts: int, elapsed_s: float, deadline_s: float = 0.0
) -> StoreError:
    """Return the error for an answer after which the call is not sent again.

    `deadline_s` is how long a call is repeated at most: where the answer asks for a longer pause, that is said.
    """
    rule = _rule_of(call, answer)
    who = "something else than Cloud Storage" if answer.foreign else "Cloud Storage"
    reason = f" {answer.reason}" if answer.reason else ""
    said = without_passwords(answer.message).rstrip(".") or "no explanation"
    if answer.location:
        said = f"it leads to {_place(answer.location)}"
    permission = found.group() if (found := _PERMISSION.search(answer.message)) else call.operation.permission
    advice = rule.advice.replace("{permission}", permission)
    if rule.kind is not _FINAL and deadline_s and (answer.retry_after_s or 0.0) > deadline_s:
        advice = (
            f"It asks to wait {answer.retry_after_s:.0f} s (Retry-After), and a request is repeated for "
            f"{deadline_s:.0f} s at most. {advice}"
        )
    return rule.error(
        f"Could not {call.operation.name} {call.resource}{_attempted(attempts, elapsed_s)}: {who} answered "
        f"{answer.status}{reason}: {said}. {advice}",
        operation=call.operation.name,
        resource=call.resource,
        status=answer.status,
        reason=answer.reason or answer.message,
        attempts=attempts,
    )


def connection_error(call: Call, problem: str, *, attempts: int, elapsed_s: float, final: str = "") -> StoreError:
    """Return the error for a call that got no whole answer; `final` is advice for what cannot pass by itself."""
    certainty = "" if call.repeatable else " The request may have been executed, so it was not repeated."
    advice = final or f"{certainty} Check the network between this machine and Cloud Storage, and run it again.".strip()
    kind = StoreError if final else UnavailableError
    problem = without_passwords(problem)
    return kind(
        f"Could not {call.operation.name} {call.resource} after {attempts} attempt(s) in {elapsed_s:.1f} s: {problem}. "
        f"{advice}",
        operation=call.operation.name,
        resource=call.resource,
        status=None,
        reason=problem,
        attempts=attempts,
    )


def unreadable_error(call: Call, problem: str, *, attempts: int, elapsed_s: float) -> UnavailableError:
    """Return the error for answers of success that are not what their kind looks like.

    It is worth another try: a maintenance page, or half an answer, may be gone by then.
    """
    return UnavailableError(
        f"Could not {call.operation.name} {call.resource}{_attempted(attempts, elapsed_s)}: the answer is not what "
        f"Cloud Storage documents: {problem}. Check that the endpoint is Cloud Storage (or an emulator of it) and that "
        "no proxy answers in its place with a page of its own.",
        operation=call.operation.name,
        resource=call.resource,
        status=200,
        reason=problem,
        attempts=attempts,
    )


def without_passwords(text: str) -> str:
    """Return `text` without the user and password that an address in it may have."""
    return _USER_INFO.sub("", text)


def _attempted(attempts: int, elapsed_s: float) -> str:
    return f" after {attempts} attempts in {elapsed_s:.1f} s" if attempts > 1 else ""


def _place(location: str) -> str:
    """Return a redirect's target without what may be secret in it."""
    address = urlsplit(location)
    return f"{address.scheme}://{address.hostname}{address.path}" if address.hostname else address.path
