"""The error tree of the core.

Every error says what was done, to which object, what was expected and found, and what to do next. `retryable`
tells whether doing the same again can help; the operators turn that into Airflow's outcome (`failures.py`).
All errors survive pickling, because they travel from worker processes through the engine to the Airflow task.

What is simply wrong usage of Python (a wrong type, a missing argument) stays a builtin exception.
"""

from __future__ import annotations

from typing import Any, ClassVar


class DatafluxError(Exception):
    """Root of the tree: a sentence, and keyword details that callers and reports can read.

    Args:
        message: the whole sentence shown to a person.
        details: values behind the sentence, by name; each also becomes an attribute. They must pickle.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __getattr__(self, name: str) -> Any:
        details = self.__dict__.get("details", {})
        if name in details:
            return details[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.details)


def _rebuild(kind: type[DatafluxError], message: str, details: dict[str, Any]) -> DatafluxError:
    return kind(message, **details)


class InvalidRequestError(DatafluxError, ValueError):
    """A parameter cannot be right: an unknown strategy, a malformed URI, an impossible combination."""


class CancelledError(DatafluxError):
    """The work was told to stop before it was done. Nothing half-made was published."""


class EngineError(DatafluxError):
    """The engine process ended without a result (killed, out of memory, a crash in native code), or the system permits
    no more processes or threads.
    """

    retryable = True


class StoreError(DatafluxError):
    """A request to Cloud Storage failed for good, after the retries that its kind allows.

    Details: `operation`, `resource` (a `gs://` URI), `status` (HTTP status or None), `reason`.
    """


class AuthenticationError(StoreError):
    """No usable credentials, or Cloud Storage did not accept them (401)."""


class PermissionDeniedError(StoreError):
    """The caller lacks a permission on the bucket or object (403)."""


class BucketNotFoundError(StoreError):
    """The bucket does not exist, or its existence is hidden from the caller."""


class ObjectNotFoundError(StoreError):
    """The object, or this generation of it, does not exist (404)."""


class PreconditionFailedError(StoreError):
    """A generation precondition failed: the object has changed, or already exists (412)."""


class UnavailableError(StoreError):
    """Cloud Storage kept answering 408, 429 or 5xx, or the connection kept failing, until the retries ran out."""

    retryable = True


class ThrottledError(UnavailableError):
    """Cloud Storage kept answering 429: there are too many requests for the bucket or project."""


class ListingError(DatafluxError):
    """A listing could not be finished."""


class EmptyListingError(ListingError):
    """A listing is empty, and the request has `on_empty="fail"`. Nothing was published."""


class SkippedError(DatafluxError):
    """There is nothing to do, and the request has "skip" for this case. Nothing was published.

    Details of a listing's: `object_count` and `total_bytes`, what it found.
    """


class IncompleteListingError(ListingError):
    """The ledger could not prove that every name range was listed exactly once. No manifest was published."""

    retryable = True


class ManifestError(DatafluxError):
    """A manifest cannot be read or written, or is not what its reference says."""


class ManifestTooLargeError(ManifestError):
    """The listing does not fit into XCom and no `manifest_uri` was given."""


class ManifestNotFoundError(ManifestError):
    """There is no manifest at this URI."""


class ManifestChangedError(ManifestError):
    """The manifest at this URI is not the one the reference was made from."""


class ManifestConflictError(ManifestError):
    """Another task published a manifest at the same URI at the same time, and its manifest is there."""

    retryable = True


class StagingError(DatafluxError):
    """A staging could not be finished."""


class DestinationError(StagingError):
    """The destination cannot be used: not writable, not a directory, a name that is too long."""


class DestinationBusyError(DestinationError):
    """Another staging is using the destination."""

    retryable = True


class InsufficientSpaceError(StagingError):
    """The destination lacks free bytes or inodes. Details: `needed`, `free`, `unit` ("bytes" or "inodes"), `path`."""


class UnsafeNameError(StagingError):
    """Object names that cannot become safe, distinct local paths. Details: `names` (each with its reason)."""


class DeletionRefusedError(StagingError):
    """`delete_extraneous` would have removed every file of the destination. Nothing was removed. Details: `files`."""


class ObjectsChangedError(StagingError):
    """Objects were overwritten or deleted since they were listed. Details: `names`."""


class CostLimitError(DatafluxError):
    """The work is estimated to cost more than `max_usd`. Details: `estimated_usd`, `max_usd`, `costs` (by item)."""


class PackError(DatafluxError):
    """A pack could not be finished: another task wrote to its `output`, or a worker failed."""

    retryable = True


class UnreadableObjectsError(StagingError):
    """Objects cannot be read, or may not be read. Details: `names` (each with its reason)."""


class VerificationError(StagingError):
    """The received bytes differ from the listed size or crc32c."""

    retryable = True
