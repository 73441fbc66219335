"""Deleting many generations: by batch requests, each part judged and repeated on its own.

Guarantees: every version given is either deleted (or was gone already) or returned as a failure with its reason; a
deletion is pinned to its generation, so repeating it can never hit a newer object. Only a cancel is raised.

A batch request has many calls in it, and its answer many answers. It has at most 100 calls and no media; each call is
answered, billed and counted on its own, and the parts of the answer may come in any order, told apart by `Content-ID`
(https://cloud.google.com/storage/docs/batch).
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Sequence

import msgspec

from airflow_dataflux.core.errors import AuthenticationError, BucketNotFoundError, StoreError, UnavailableError
from airflow_dataflux.core.gcs import operations
from airflow_dataflux.core.gcs.http_errors import kind_of_failure, means_gone, read_error
from airflow_dataflux.core.gcs.objects import check_deleted
from airflow_dataflux.core.gcs.operations import Call, delete_target, query
from airflow_dataflux.core.gcs.retry import Attempts, FailureKind
from airflow_dataflux.core.gcs.store import DeleteFailure, ObjectVersion
from airflow_dataflux.core.gcs.transport import Transport

_MAX_CALLS = 100

_CONTENT_ID = re.compile(rb"^content-id:\s*<?response-[^>\r\n]*?(\d+)>?\s*$", re.IGNORECASE | re.MULTILINE)
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)


class BatchRequests:
    """Deletes many generations by few requests, for one store. Thread-safe."""

    def __init__(
        self, transport: Transport, delete_one: Callable[[str, ObjectVersion], None], user_project: str | None
    ) -> None:
        """`delete_one` deletes one generation of a bucket by a request of its own."""
        self._transport = transport
        self._delete_one = delete_one
        self._user_project = user_project
        self._refused = False

    def delete(self, bucket: str, versions: Sequence[ObjectVersion]) -> list[DeleteFailure]:
        """Delete `versions` and return what could not be deleted.

        Where a batch request is refused as a whole (an emulator without them, a proxy), the rest is deleted one by one.
        """
        failures: list[DeleteFailure] = []
        first = 0
        while first < len(versions) and not self._refused:
            after = first + min(_MAX_CALLS, self._transport.most_writes_at_once() or _MAX_CALLS)
            left = list(versions[first:after])
            try:
                self._delete_together(bucket, left, failures)
            except StoreError as error:
                # What could pass has been waited for already; what could not is refused again the next time, too.
                self._refused = not error.retryable
                return failures + self._delete_each(bucket, [*left, *versions[after:]])
            first = after
        return failures + self._delete_each(bucket, versions[first:])

    def _delete_each(self, bucket: str, versions: Sequence[ObjectVersion]) -> list[DeleteFailure]:
        failures: list[DeleteFailure] = []
        for number, version in enumerate(versions):
            try:
                self._delete_one(bucket, version)
            except (UnavailableError, AuthenticationError, BucketNotFoundError) as error:
                # Not about this object: the next one would have to wait as long for the same answer.
                return failures + [DeleteFailure(version=each, reason=error.message) for each in versions[number:]]
            except StoreError as error:
                failures.append(DeleteFailure(version=version, reason=error.message))
        return failures

    def _delete_together(self, bucket: str, left: list[ObjectVersion], failures: list[DeleteFailure]) -> None:
        """Delete the versions in `left`, which has what is still to be deleted if the request fails as a whole."""
        attempts = Attempts(self._transport.policy)
        while True:
            sent_at = time.monotonic()
            answers = self._send_together(bucket, left)
            again: list[tuple[ObjectVersion, str]] = []
            for number, version in enumerate(left):
                kind, reason, status = _judge_part(answers.get(number))
                if kind is FailureKind.FINAL:
                    failures.append(DeleteFailure(version=version, reason=reason))
                elif kind is not None:
                    again.append((version, reason))
                    self._transport.note_refused_part(sent_at=sent_at, status=status)
            left[:] = [version for version, _reason in again]
            if not again:
                return
            delay_s = attempts.next_delay_s(
                FailureKind.REFUSED, repeatable=True, connection_lost=False, retry_after_s=None
            )
            if delay_s is None:
                failures += [DeleteFailure(version=version, reason=reason) for version, reason in again]
                return
            attempts.wait(delay_s, self._transport.cancel)

    def _send_together(self, bucket: str, versions: Sequence[ObjectVersion]) -> dict[int, PartAnswer]:
        boundary = uuid.uuid4().hex
        targets = [delete_target(bucket, version, self._user_project) for version in versions]
        call = Call(
            operation=operations.DELETE_MANY,
            method="POST",
            target="/batch/storage/v1" + query((("userProject", self._user_project),)),
            resource=f"gs://{bucket} ({len(versions)} objects from {versions[0].name!r})",
            repeatable=True,
            headers={"Content-Type": f'multipart/mixed; boundary="{boundary}"'},
            body=(encode_batch_request("DELETE", targets, boundary=boundary),),
            weight=len(versions),
        )
        return self._transport.send_for_headers(
            call, lambda body, headers: decode_batch_answer(body, headers.get("content-type", ""))
        )


_PART = Call(operation=operations.DELETE, method="DELETE", target="", resource="", repeatable=True)


def _judge_part(answer: PartAnswer | None) -> tuple[FailureKind | None, str, int]:
    """Return what a part's answer means (None: deleted, or gone already), in words, and its status."""
    if answer is None:
        return FailureKind.UNCERTAIN, "the answer to the batch request does not mention it", 0
    if answer.status < 300:
        try:
            check_deleted(answer.body)
        except ValueError as error:
            return FailureKind.UNCERTAIN, str(error), answer.status
        return None, "", answer.status
    refused = read_error(answer.status, answer.body)
    if means_gone(_PART, refused):
        return None, "", answer.status
    return kind_of_failure(_PART, refused), f"{answer.status} {refused.reason}: {refused.message}", answer.status


class PartAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one call of a batch request."""

    status: int
    body: bytes


def encode_batch_request(method: str, targets: Sequence[str], *, boundary: str) -> bytes:
    """Return the body of a batch request of calls without bodies, numbered in their order."""
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


def decode_batch_answer(body: bytes, content_type: str) -> dict[int, PartAnswer]:
    """Return the answers by the number of their call. Raises ValueError if it answers no batch request.

    A call whose answer is missing is missing from the result: nothing is known about it.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise ValueError(f"a batch request was answered with {content_type!r} instead of multipart/mixed")
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
