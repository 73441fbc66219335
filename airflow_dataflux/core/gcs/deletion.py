"""Deleting many generations: in batches, each part judged and repeated on its own.

Guarantees: every version given is either deleted (or was gone already) or returned as a failure with its reason; a
deletion is pinned to its generation, so repeating it can never hit a newer object. Only a cancel is raised.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

from airflow_dataflux.core.errors import StoreError
from airflow_dataflux.core.gcs import operations
from airflow_dataflux.core.gcs.batch import MAX_CALLS, PartAnswer, decode_batch, encode_batch
from airflow_dataflux.core.gcs.operations import Call, object_path, query
from airflow_dataflux.core.gcs.refusals import read_refusal
from airflow_dataflux.core.gcs.retry import Attempts, FailureKind
from airflow_dataflux.core.gcs.store import DeleteFailure, ObjectVersion
from airflow_dataflux.core.gcs.transport import Transport


def delete_target(bucket: str, version: ObjectVersion, user_project: str | None) -> str:
    """Return path and query of the deletion of one generation."""
    return object_path(bucket, version.name) + query(
        (("generation", version.generation), ("userProject", user_project))
    )


def delete_in_batches(
    transport: Transport, bucket: str, versions: Sequence[ObjectVersion], *, user_project: str | None
) -> list[DeleteFailure]:
    """Delete `versions`, a batch after the other, and return what could not be deleted.

    A batch that fails as a whole ends it: what was not deleted until then is returned with that reason.
    """
    deleter = _BatchDeleter(transport, bucket, user_project)
    failures: list[DeleteFailure] = []
    first = 0
    while first < len(versions):
        after = first + min(MAX_CALLS, transport.most_writes_at_once() or MAX_CALLS)
        try:
            deleter.delete(list(versions[first:after]), failures)
        except StoreError as error:
            failures += [DeleteFailure(version=version, reason=error.message) for version in versions[after:]]
            break
        first = after
    return failures


class _BatchDeleter:
    def __init__(self, transport: Transport, bucket: str, user_project: str | None) -> None:
        self._transport = transport
        self._bucket = bucket
        self._user_project = user_project

    def delete(self, pending: list[ObjectVersion], failures: list[DeleteFailure]) -> None:
        """Delete one batch and add to `failures`, also when the batch as a whole fails, which is raised."""
        attempts = Attempts(self._transport.policy)
        while True:
            sent_at = time.monotonic()
            try:
                answers = self._send_batch(pending)
            except StoreError as error:
                failures += [DeleteFailure(version=version, reason=error.message) for version in pending]
                raise
            again: list[tuple[ObjectVersion, str]] = []
            for number, version in enumerate(pending):
                kind, reason, status = self._judge_part(answers.get(number))
                if kind is FailureKind.FINAL:
                    failures.append(DeleteFailure(version=version, reason=reason))
                elif kind is not None:
                    again.append((version, reason))
                    self._transport.note_refused_part(sent_at=sent_at, status=status)
            if not again:
                return
            delay_s = attempts.next_delay_s(
                FailureKind.REFUSED, repeatable=True, connection_lost=False, retry_after_s=None
            )
            if delay_s is None:
                failures += [DeleteFailure(version=version, reason=reason) for version, reason in again]
                return
            attempts.wait(delay_s, self._transport.cancel)
            pending = [version for version, _reason in again]

    def _send_batch(self, versions: Sequence[ObjectVersion]) -> dict[int, PartAnswer]:
        boundary = uuid.uuid4().hex
        targets = [delete_target(self._bucket, version, self._user_project) for version in versions]
        call = Call(
            operation=operations.DELETE_BATCH,
            method="POST",
            target="/batch/storage/v1" + query((("userProject", self._user_project),)),
            resource=f"gs://{self._bucket} ({len(versions)} objects from {versions[0].name!r})",
            repeatable=True,
            headers={"Content-Type": f'multipart/mixed; boundary="{boundary}"'},
            body=(encode_batch("DELETE", targets, boundary=boundary),),
            weight=len(versions),
        )
        return self._transport.send_for_headers(
            call, lambda body, headers: decode_batch(body, headers.get("content-type", ""))
        )

    def _judge_part(self, answer: PartAnswer | None) -> tuple[FailureKind | None, str, int]:
        """Return what a part's answer means (None: deleted, or gone already), in words, and its status."""
        if answer is None:
            return FailureKind.UNCERTAIN, "the batch's answer does not mention it", 0
        if answer.status < 300:
            return None, "", answer.status
        refusal = read_refusal(answer.status, answer.body)
        if answer.status == 404 and "bucket does not exist" not in refusal.message:
            return None, "", answer.status
        kind = self._transport.policy.kind_of_status(answer.status, refusal.reason)
        return kind, f"{answer.status} {refusal.reason}: {refusal.message}", answer.status
