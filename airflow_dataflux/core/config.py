"""What a listing and a staging are asked to do, validated once.

Both requests are plain, frozen, picklable data: they travel to the engine and to its workers as they are.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.namerange import NameRange

Strategy = Literal["auto", "compose", "direct"]
OnChangedObject = Literal["fail", "skip"]

DEFAULT_STREAMS = 64
"""List requests in flight in all; docs/performance/ has the measurement."""

DEFAULT_MAX_COMPOSITE_BYTES = 100_000_000
DEFAULT_COMPOSITE_PREFIX = "dataflux-composed-objects/"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
"""Bucket names: 3-222 characters with dots (https://cloud.google.com/storage/docs/buckets#naming)."""


def usable_cores() -> int:
    """Return how many processors this process may use: its affinity, and the limit of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, _container_cores(_CPU_LIMIT) or allowed)


_CPU_LIMIT = "/sys/fs/cgroup/cpu.max"
"""Control group v2, as a container sees its own (https://docs.kernel.org/admin-guide/cgroup-v2.html)."""


def _container_cores(path: str) -> int | None:
    """Return a control group's limit in whole processors, rounded up; None where there is none or none is told."""
    try:
        with open(path, encoding="ascii") as file:
            quota, period = file.read().split()
        return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):  # no such control group; "max", which means no limit
        return None


def check_bucket_name(bucket: str) -> str:
    """Return `bucket` if it can be a bucket's name. Raises InvalidRequestError."""
    if not isinstance(bucket, str) or not _BUCKET.fullmatch(bucket):
        raise InvalidRequestError(
            f"{bucket!r} is not a bucket name: give the bare name (3-222 lower-case letters, digits, '-', '_', '.'), "
            "without gs:// and without a path.",
            bucket=bucket,
        )
    return bucket


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """How to reach Cloud Storage. Holds no credentials.

    Attributes:
        endpoint: scheme and host, such as `https://storage.googleapis.com` or an emulator's `http://127.0.0.1:9000`.
        user_project: project billed on requester-pays buckets, sent as `userProject` with every request.
        user_agent: first part of the User-Agent header.
    """

    endpoint: str = "https://storage.googleapis.com"
    user_project: str | None = None
    user_agent: str = "airflow-dataflux"


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """Which listed objects become rows. `None` means no bound.

    Attributes:
        match_glob: Cloud Storage glob, evaluated by the server.
        storage_classes: classes to keep; None keeps all.
        updated_after, updated_before: aware times, half-open `[after, before)`.
        min_bytes, max_bytes: both inclusive.
        include_placeholders: keep zero-byte objects whose name ends in `/`.
    """

    match_glob: str | None = None
    storage_classes: frozenset[str] | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None
    include_placeholders: bool = False

    def __post_init__(self) -> None:
        for name in ("updated_after", "updated_before"):
            moment = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise InvalidRequestError(f"{name} needs a time zone, got {moment.isoformat()}: add +00:00 for UTC.")
        if self.updated_after and self.updated_before and self.updated_after >= self.updated_before:
            raise InvalidRequestError(
                f"[updated_after, updated_before) is empty: {self.updated_after.isoformat()} is not before "
                f"{self.updated_before.isoformat()}."
            )
        for name in ("min_bytes", "max_bytes"):
            size = getattr(self, name)
            if size is not None and size < 0:
                raise InvalidRequestError(f"{name} must be 0 or more, got {size}.")
        if self.min_bytes is not None and self.max_bytes is not None and self.min_bytes > self.max_bytes:
            raise InvalidRequestError(f"min_bytes {self.min_bytes} is more than max_bytes {self.max_bytes}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ListRequest:
    """One listing.

    Attributes:
        bucket: the bucket's bare name.
        prefixes: name prefixes; overlapping ones are listed once; `("",)` is the whole bucket.
        filters: which objects become rows.
        manifest_uri: where the manifest goes; None keeps it inline, for small listings only.
        seed_manifest_uri: an earlier manifest whose boundary names seed the ranges.
        workers: worker processes.
        streams: list requests in flight, over all workers.
        report: record how it goes and write `report.html` beside the manifest.
        name_range: list only the names in this range, one of those that several listings share; None: all names.
    """

    bucket: str
    prefixes: tuple[str, ...] = ("",)
    filters: Filters = field(default_factory=Filters)
    manifest_uri: str | None = None
    seed_manifest_uri: str | None = None
    workers: int = field(default_factory=usable_cores)
    streams: int = DEFAULT_STREAMS
    report: bool = False
    name_range: NameRange | None = None

    def __post_init__(self) -> None:
        check_bucket_name(self.bucket)
        if not self.prefixes:
            raise InvalidRequestError('No prefix to list: give at least one; prefix="" is the whole bucket.')
        for prefix in self.prefixes:
            if len(prefix.encode()) > 1024 or "\n" in prefix or "\r" in prefix:
                raise InvalidRequestError(f"{prefix!r} cannot be a prefix of an object name.")
        if self.name_range is not None and self.name_range.is_empty:
            raise InvalidRequestError(f"name_range is empty: {self.name_range.start!r} is not before its end.")
        if self.workers < 1 or self.streams < 1:
            raise InvalidRequestError(f"workers and streams must be 1 or more, got {self.workers} and {self.streams}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunIdentity:
    """Who stages: names the temporary objects so that a later try, or a sweep, knows whose they are.

    Attributes:
        dag, run, task: Airflow's identifiers, or free text outside Airflow.
        map_index: index of a mapped task, -1 if it is not mapped.
        try_number: 1 for the first try.
    """

    dag: str = "script"
    run: str = "manual"
    task: str = "stage"
    map_index: int = -1
    try_number: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRequest:
    """One staging of a manifest (or of one of its shards) to a local directory.

    Attributes:
        destination: absolute local directory.
        strategy: "auto" chooses per group of objects; "compose" and "direct" force it where it is possible.
        max_composite_bytes: no composite is larger.
        composite_prefix: where temporary composites are named, in the bucket of the data.
        strip_prefix: removed from the front of each object name to make its path.
        delete_extraneous: remove files below `destination` that an earlier receipt placed and this manifest lacks.
        on_changed_object: "fail" names the changed objects; "skip" leaves them out and counts them.
        max_in_flight: requests in flight over all workers; None chooses.
        workers: worker processes.
        dry_run: plan and estimate, move nothing.
        report: record how it goes and write a report beside the receipt.
        identity: who stages.
    """

    destination: str
    strategy: Strategy = "auto"
    max_composite_bytes: int = DEFAULT_MAX_COMPOSITE_BYTES
    composite_prefix: str = DEFAULT_COMPOSITE_PREFIX
    strip_prefix: str = ""
    delete_extraneous: bool = False
    on_changed_object: OnChangedObject = "fail"
    max_in_flight: int | None = None
    workers: int = field(default_factory=usable_cores)
    dry_run: bool = False
    report: bool = False
    identity: RunIdentity = field(default_factory=RunIdentity)

    def __post_init__(self) -> None:
        if not os.path.isabs(self.destination):
            raise InvalidRequestError(
                f"destination must be an absolute local directory, got {self.destination!r}.",
                destination=self.destination,
            )
        _check_choice("strategy", self.strategy, get_args(Strategy))
        _check_choice("on_changed_object", self.on_changed_object, get_args(OnChangedObject))
        if self.max_composite_bytes < 1:
            raise InvalidRequestError(f"max_composite_bytes must be 1 or more, got {self.max_composite_bytes}.")
        if not self.composite_prefix.endswith("/") or self.composite_prefix.startswith("/"):
            raise InvalidRequestError(
                f"composite_prefix must be a name prefix that ends in '/', such as {DEFAULT_COMPOSITE_PREFIX!r}, "
                f"got {self.composite_prefix!r}."
            )
        if self.workers < 1 or (self.max_in_flight is not None and self.max_in_flight < 1):
            raise InvalidRequestError(
                f"workers and max_in_flight must be 1 or more, got {self.workers} and {self.max_in_flight}."
            )


def _check_choice(parameter: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidRequestError(f"{parameter} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
