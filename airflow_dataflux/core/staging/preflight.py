"""Look before anything moves: the bucket, the permissions, the file system. One line of reason for each finding.

Guarantees: a missing bucket or a missing right to read is an error here; missing rights to compose only mean direct
reads, and are said. What cannot be found out is said too, and taken for the dearer case.

Cost: two class B requests, sent together; two or three more where the bucket's settings may not be read.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec

from airflow_dataflux.core.errors import (
    DestinationError,
    InsufficientSpaceError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StoreError,
    UnavailableError,
)
from airflow_dataflux.core.gcs.store import BucketInfo, ObjectVersion, Store
from airflow_dataflux.core.report.formatting import size
from airflow_dataflux.core.runtime.threads import ThreadPool
from airflow_dataflux.core.staging.batching import COLD_CLASSES
from airflow_dataflux.core.staging.composites import CompositeNames, find_own
from airflow_dataflux.core.staging.destination import limit_of
from airflow_dataflux.core.staging.localfile import DestinationTree
from airflow_dataflux.core.staging.localpath import FileSystemTraits

T = TypeVar("T")

GET, CREATE, DELETE, LIST = (
    "storage.objects.get",
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.list",
)
_SOFT_DELETE_DEFAULT_S = 7 * 24 * 3600
"""Cloud Storage keeps deleted objects for 7 days unless told otherwise."""

_PROBE_BATCH = 10**9
"""Number in the name of the composite that a probe makes; no plan has so many batches."""


class BucketFindings(msgspec.Struct, frozen=True, kw_only=True):
    """What the bucket means for a staging.

    Attributes:
        compose: composites may be made.
        no_compose_reason: why not; "" if they may.
        settings_known: the bucket's settings and the caller's rights are known; else whether composites can be made
            and deleted is a guess.
        soft_delete_s: how long the bucket keeps what is deleted.
        lines: one for each finding, for the log and the receipt.
    """

    compose: bool
    no_compose_reason: str
    settings_known: bool
    soft_delete_s: int
    lines: tuple[str, ...]


def look_at_bucket(
    store: Store, bucket: str, *, sample: Callable[[], ObjectVersion | None], user_project: str | None
) -> BucketFindings:
    """Ask for permissions and settings.

    Args:
        store: the bucket's store.
        bucket: its bare name.
        sample: returns an object of the manifest, looked at where the permissions of the bucket do not tell.
        user_project: who is billed, for buckets where the requester pays.

    Raises BucketNotFoundError, PermissionDeniedError if objects cannot be read, AuthenticationError, UnavailableError.
    """
    with ThreadPool(2, "dataflux-preflight") as pool:
        asked_info = pool.submit(store.bucket_info, bucket)
        asked_rights = pool.submit(store.test_permissions, bucket, (GET, CREATE, DELETE, LIST))
        rights = _known(asked_rights.result, {401, 403, 404, 405, 501})
        info = _known(asked_info.result, {401, 403, 405, 501})
    lines = _lines_about_rights(store, bucket, rights, sample)
    reasons = [] if info is None else _against_composing(info)
    missing = [] if rights is None else [right for right in (CREATE, DELETE) if right not in rights]
    if missing:
        reasons.insert(0, f"{' and '.join(missing)} missing on the bucket")
    lines += _lines_about(info, user_project)
    lines.append(f"composing: {'no, ' + '; '.join(reasons) if reasons else 'possible'}")
    return BucketFindings(
        compose=not reasons,
        no_compose_reason="; ".join(reasons),
        settings_known=info is not None and rights is not None,
        soft_delete_s=_SOFT_DELETE_DEFAULT_S if info is None else info.soft_delete_s,
        lines=tuple(lines),
    )


def probe_composing(store: Store, bucket: str, names: CompositeNames, source: ObjectVersion, storage_class: str) -> str:
    """Make and delete one composite; return why composing is out, or "" if it works.

    For buckets whose settings may not be read: a retention policy or a hold shows only when a deletion is refused.
    """
    name = names.name(_PROBE_BATCH, 0)
    try:
        made = store.compose(bucket, name, [source], metadata=names.metadata, storage_class=storage_class)
    except (ObjectNotFoundError, PreconditionFailedError):
        return ""  # the object changed: it is reported where it is staged
    except StoreError as error:
        _remove_probe(store, bucket, name, names.attempt)  # an attempt whose answer was lost may have made it
        if isinstance(error, UnavailableError):
            return "a first compose was answered with errors until the retries ran out"
        return f"a first compose was refused ({error.details.get('reason') or error})"
    try:
        store.delete(bucket, ObjectVersion(name=name, generation=made.row.generation))
    except StoreError as error:
        return f"a first composite could not be deleted ({error.details.get('reason') or error}); it is left: {name}"
    return ""


def _remove_probe(store: Store, bucket: str, name: str, attempt: str) -> None:
    """Delete a probe of unknown outcome. What cannot be deleted now is found by its name and swept later."""
    with contextlib.suppress(StoreError):
        made = find_own(store, bucket, name, attempt)
        if made is not None:
            store.delete(bucket, made)


def _known(answer: Callable[[], T], refusals: set[int]) -> T | None:
    """Return what a question was answered with; None if nobody answers it: anonymous callers, perimeters, emulators.

    Unknown is not forbidden: what was asked for is found out by doing it.
    """
    try:
        return answer()
    except StoreError as error:
        if error.details.get("status") not in refusals:
            raise
        return None


def _lines_about_rights(
    store: Store, bucket: str, rights: frozenset[str] | None, sample: Callable[[], ObjectVersion | None]
) -> list[str]:
    """Say what the caller may do. Raises PermissionDeniedError, AuthenticationError if objects cannot be read."""
    if rights is None:
        _check_readable(store, bucket, sample)
        return ["permissions: the bucket does not tell them; the staging finds out by trying"]
    lines = []
    if GET not in rights:
        _check_readable(store, bucket, sample)
        lines.append(f"permissions: {GET} is missing on the bucket, but its objects grant it")
    held = ", ".join(sorted(right.rpartition(".")[2] for right in rights)) or "none"
    lines.append(f"permissions: {held}")
    if LIST not in rights:
        lines.append("permissions: without storage.objects.list, composites of a killed try cannot be found and swept")
    return lines


def _check_readable(store: Store, bucket: str, sample: Callable[[], ObjectVersion | None]) -> None:
    """Find out whether objects can be read although the bucket does not say that we may (object ACLs)."""
    one = sample()
    if one is not None:
        with contextlib.suppress(ObjectNotFoundError, PreconditionFailedError):
            store.stat(bucket, one.name, one.generation)  # raises PermissionDeniedError


def _against_composing(info: BucketInfo) -> list[str]:
    reasons = []
    if info.retention_s:
        reasons.append(f"a retention policy of {_duration(info.retention_s)} forbids deleting composites")
    if info.default_event_based_hold:
        reasons.append("a default event-based hold forbids deleting composites")
    if info.hard_delete_paused:
        reasons.append("its hard deletions are paused, so deleted composites would be kept and billed without end")
    if info.location_type == "zone" or info.storage_class == "RAPID":
        reasons.append("Rapid (zonal) buckets have no compose")
    return reasons


def _lines_about(info: BucketInfo | None, user_project: str | None) -> list[str]:
    if info is None:
        unknown = "bucket: its settings may not be read (storage.buckets.get); 7 days of soft delete are assumed"
        return [f"{unknown}, and one composite is tried before others are made"]
    lines = [f"bucket: {info.location} ({info.location_type}), default class {info.storage_class}"]
    if info.hard_delete_paused:
        lines.append("soft delete: hard deletions are paused, so whatever is deleted is kept and billed without end")
    elif info.soft_delete_s:
        lines.append(f"soft delete: deleted composites are kept and billed for {_duration(info.soft_delete_s)}")
    else:
        lines.append("soft delete: off, deleted composites cost nothing")
    if info.versioning:
        lines.append("versioning: on, composites are deleted by generation and leave no version")
    if info.storage_class in COLD_CLASSES:
        lines.append(f"storage class: objects of {info.storage_class} are read directly (early-deletion fee)")
    if info.autoclass:
        lines.append("autoclass: on, reading a cold object moves it to Standard; composites begin in Standard")
    if info.requester_pays:
        payer = f"billed to {user_project}" if user_project else "no user_project is given; requests may be refused"
        lines.append(f"requester pays: on, {payer}")
    if info.hierarchical_namespace:
        lines.append("hierarchical namespace: on, higher request rates")
    return lines


def _duration(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    return f"{days} days" if days and not rest else f"{seconds} s"


def look_at_file_system(tree: DestinationTree) -> FileSystemTraits:
    """Find out how the destination's file system treats names, by making a file or two."""
    if sys.getfilesystemencoding() != "utf-8":
        raise DestinationError(
            f"Python encodes file names as {sys.getfilesystemencoding()} on this worker, which cannot express every "
            "name. Set PYTHONUTF8=1, or a locale of UTF-8 such as LC_ALL=C.UTF-8, for the worker.",
            path=tree.destination,
        )
    directory_fd = tree.trial_fd
    stem = tree.temporary_name()
    composed = f"{stem}-a\u00e9"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        made = os.open(composed, flags, 0o600, dir_fd=directory_fd)
    except OSError as error:
        raise tree.failed(error, tree.trial_path) from error
    try:
        return FileSystemTraits(
            case_sensitive=not _exists(f"{stem}-A\u00e9", directory_fd),
            keeps_normalisation=not _exists(f"{stem}-ae\u0301", directory_fd),
            name_max_bytes=limit_of(directory_fd, "PC_NAME_MAX", 255),
            path_max_bytes=limit_of(directory_fd, "PC_PATH_MAX", 4096),
        )
    finally:
        os.close(made)
        os.unlink(composed, dir_fd=directory_fd)


def _exists(name: str, directory_fd: int) -> bool:
    try:
        os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except OSError:
        return False
    return True


class SpaceNeeded(msgspec.Struct):
    """What the objects to fetch take on disk. Not thread-safe."""

    block_bytes: int
    bytes: int = 0
    files: int = 0


def check_space(path: str, needed: SpaceNeeded, destination: str) -> str:
    """Return a line about what is needed and free below an existing path. Raises InsufficientSpaceError.

    `destination` is what the error calls the place.
    """
    found = os.statvfs(path)
    free_bytes = found.f_bavail * found.f_frsize
    pairs = [("bytes", needed.bytes, free_bytes)]
    if found.f_files:  # some file systems (btrfs) count no inodes
        pairs.append(("inodes", needed.files, found.f_favail))
    for unit, wanted, free in pairs:
        if wanted > free:
            raise InsufficientSpaceError(
                f"The staging needs {_amount(wanted, unit)} below {destination}, and {_amount(free, unit)} are free. "
                "Nothing was fetched. Make room, stage shards to several machines, or choose another destination.",
                needed=wanted,
                free=free,
                unit=unit,
                path=destination,
            )
    needs = (f"{_amount(wanted, unit)} of {_amount(free, unit)} free" for unit, wanted, free in pairs)
    return f"disk: the staging needs {' and '.join(needs)}"


def _amount(value: int, unit: str) -> str:
    return size(value) if unit == "bytes" else f"{value:,} {unit}"


def block_bytes(path: str) -> int:
    """Return the size of the blocks in which the file system of `path` hands out space."""
    return os.statvfs(path).f_frsize or 4096
