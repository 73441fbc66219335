"""What each job is asked to do: one request a job, validated once, which declares every parameter there is.

Requests are plain, frozen, picklable data: they travel to the engine and to its workers as they are. A field with
`Declared` is a parameter of operators, hook, `Client` and command line. The help of operators and the options of the
command line are made of it (`parameters.py`). The signatures of operators and `Client` are written by hand, and a test
compares them with it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, get_args

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.namerange import NameRange

Strategy = Literal["auto", "compose", "direct"]
OnChangedObject = Literal["fail", "skip"]
OnUnchanged = Literal["continue", "skip"]
OnEmpty = Literal["continue", "skip", "fail"]
OnUnreadableObject = Literal["fail", "skip"]
OnUnsafeName = Literal["fail", "skip"]
DeleteExtraneous = bool | Literal["even_if_empty"]

DEFAULT_STREAMS = 64
"""List requests in flight in all; docs/performance/ has the measurement."""

DEFAULT_MAX_COMPOSITE_BYTES = 100_000_000
DEFAULT_COMPOSITE_PREFIX = "dataflux-composed-objects/"
DEFAULT_OLDER_THAN = timedelta(days=1)
"""Composites that old have outlived every staging."""

DEFAULT_RANGES = 8

DEFAULT_PACK_SHARD_BYTES = 256 << 20
"""Large enough that opening a shard costs nothing beside reading it, small enough to shuffle and share out."""

DEFAULT_NAME_TEMPLATE = "{index:06d}.tar"

DEFAULT_PARTITION = r"day=(?P<partition>[^/]+)/"


@dataclass(frozen=True, slots=True)
class Declared:
    """What a field of a request is to those who set it.

    Attributes:
        help: one line for docstrings, reference pages and the command line.
        name: of the parameter, where it is not the field's.
        default: of the parameter, where it is not the field's: a tuple of one value, empty for none of its own.
        is_made: the field is made from the parameter by whoever makes the request, such as a fingerprint from a seed.
    """

    help: str
    name: str = ""
    default: tuple[Any, ...] = ()
    is_made: bool = False


_Prefixes = Annotated[
    tuple[str, ...],
    Declared(
        "prefix of the object names, or a list of prefixes; overlapping prefixes are listed once. "
        '`""`, `None`, and a template that renders to empty text mean the whole bucket',
        "prefix",
        ("",),
    ),
]
_Workers = Annotated[int, Declared("number of worker processes; `None`: one for each usable core", default=(None,))]
_MaxUsd = Annotated[
    float | None,
    Declared("limit in dollars: with a higher estimate, the task fails before it writes anything; `None`: no limit"),
]
_Bucket = Annotated[str, Declared("name of the bucket, without `gs://`")]

_StorageClasses = Annotated[
    frozenset[str] | None, Declared("storage classes to keep: a list, or one text with commas; `None` keeps all")
]
_UpdatedAfter = Annotated[
    datetime | None,
    Declared(
        "only objects that changed at this time or later: a datetime, or ISO 8601 with a time zone. A"
        " date means the beginning of this day in UTC"
    ),
]
_UpdatedBefore = Annotated[datetime | None, Declared("only objects that changed before this time")]
_MinBytes = Annotated[int | None, Declared("smallest size to keep, inclusive")]
_MaxBytes = Annotated[int | None, Declared("largest size to keep, inclusive")]

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


def _check_identity(identity: object) -> None:
    if not isinstance(identity, RunIdentity):
        raise InvalidRequestError(
            f"identity must be a RunIdentity, such as RunIdentity(task='stage'), got {identity!r}."
        )


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
class Filters:
    """Which listed objects become rows. `None` is no bound; sizes are inclusive, times half-open `[after, before)`."""

    match_glob: Annotated[str | None, Declared("Cloud Storage glob, evaluated by the server")] = None
    exclude_glob: Annotated[
        tuple[str, ...],
        Declared(
            "Cloud Storage globs, one or a list; objects that match any of them are left out and counted",
            default=(None,),
        ),
    ] = ()
    storage_classes: _StorageClasses = None
    updated_after: _UpdatedAfter = None
    updated_before: _UpdatedBefore = None
    min_bytes: _MinBytes = None
    max_bytes: _MaxBytes = None
    include_placeholders: Annotated[bool, Declared("keep zero-byte objects whose names end in `/`")] = False

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
class RunIdentity:
    """Who lists or stages. Manifests and temporary objects name it, so that a later run can tell which run made them.

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
class ListRequest:
    """One listing, by `identity`, None outside Airflow. The prefixes `("",)` are the whole bucket."""

    bucket: _Bucket
    prefixes: _Prefixes = ("",)
    filters: Filters = field(default_factory=Filters)
    manifest_uri: Annotated[
        str | None,
        Declared(
            "directory of the manifest: `gs://`, `file://`, an absolute path, or any fsspec URI. A "
            "manifest that is already there is replaced. `None` keeps the rows in XCom, for a few "
            "thousand objects at most"
        ),
    ] = None
    seed_manifest_uri: Annotated[
        str | None,
        Declared(
            "reference or URI of an earlier manifest of the same data, which makes the listing faster. It"
            " need not exist yet",
            "seed_manifest",
            is_made=True,
        ),
    ] = None
    unchanged_fingerprint: Annotated[
        str | None,
        Declared(
            '`"skip"` skips the task and publishes nothing if the listing equals `seed_manifest` and all '
            "downstream tasks have finished with that manifest. Otherwise the task continues",
            "on_unchanged",
            ("continue",),
            is_made=True,
        ),
    ] = None
    on_empty: Annotated[
        OnEmpty,
        Declared(
            'if the listing is empty, `"continue"` publishes the empty manifest, `"skip"` skips the task,'
            ' and `"fail"` fails it without a retry. `"skip"` and `"fail"` do not change an earlier '
            "manifest at `manifest_uri`"
        ),
    ] = "continue"
    name_range: Annotated[
        NameRange | None,
        Declared(
            "list only the names from `start` (included) to `end` (not included): one of the ranges that "
            "`NameRangesOperator` returns"
        ),
    ] = None
    workers: _Workers = field(default_factory=usable_cores)
    streams: Annotated[
        int | None,
        Declared(
            "list requests in flight at the same time, over all workers. `None`: 24 to 256, by the measured latency of "
            "a page",
        ),
    ] = None
    report: Annotated[
        bool,
        Declared("write a [report](#run-report) beside the manifest; needs `manifest_uri`", default=(True,)),
    ] = False
    identity: RunIdentity | None = None

    def __post_init__(self) -> None:
        check_bucket_name(self.bucket)
        if self.identity is not None:
            _check_identity(self.identity)
        _check_choice("on_empty", self.on_empty, get_args(OnEmpty))
        if not self.prefixes:
            raise InvalidRequestError('No prefix to list: give at least one; prefix="" is the whole bucket.')
        for prefix in self.prefixes:
            if len(prefix.encode()) > 1024 or "\n" in prefix or "\r" in prefix:
                raise InvalidRequestError(f"{prefix!r} cannot be a prefix of an object name.")
        if self.name_range is not None and self.name_range.is_empty:
            raise InvalidRequestError(
                f"name_range is empty: its start, {self.name_range.start!r}, is not before its end, "
                f"{self.name_range.end!r}."
            )
        if self.workers < 1 or (self.streams is not None and self.streams < 1):
            raise InvalidRequestError(f"workers and streams must be 1 or more, got {self.workers} and {self.streams}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectRequest:
    """One selection from a manifest. Filters look at objects, everything else at samples."""

    manifest_uri: Annotated[
        str | None,
        Declared(
            "directory of the new manifest; must differ from that of its source. Manifests of splits are "
            "written below it. `None` keeps the rows in XCom, for a few thousand objects at most"
        ),
    ] = None
    include_glob: Annotated[
        tuple[str, ...],
        Declared(
            "Cloud Storage globs, one or a list; a name must match at least one of them. `None`: any name",
            default=(None,),
        ),
    ] = ()
    exclude_glob: Annotated[
        tuple[str, ...], Declared("Cloud Storage globs, one or a list; a name must match none of them", default=(None,))
    ] = ()
    match_regex: Annotated[str | None, Declared("regular expression (RE2) that must match a part of the name")] = None
    min_bytes: _MinBytes = None
    max_bytes: _MaxBytes = None
    updated_after: _UpdatedAfter = None
    updated_before: _UpdatedBefore = None
    storage_classes: _StorageClasses = None
    group_by: Annotated[
        str | None,
        Declared(
            "regular expression with one group: objects with the same text in the group are one sample "
            "and stay together. An object without a match is a sample of its own"
        ),
    ] = None
    sample: Annotated[
        float | int | None,
        Declared("samples to take: a fraction of them, such as `0.1`, or a number, such as `1000`"),
    ] = None
    per_group: Annotated[int | None, Declared("largest number of samples of each class; needs `class_by`")] = None
    seed: Annotated[int, Declared("a different seed selects and divides the samples differently")] = 0
    class_by: Annotated[
        str | None,
        Declared("regular expression with one group, which is the sample's class, for `per_group` and the counts"),
    ] = None
    splits: Annotated[
        Mapping[str, float] | None,
        Declared(
            'divide the selected samples: names with fractions that add up to 1, such as `{"train": 0.9, '
            '"val": 0.1}`. When the bucket grows, no sample moves to another split'
        ),
    ] = None
    on_empty: Annotated[
        OnEmpty,
        Declared(
            'if the selection is empty, `"continue"` publishes it, `"skip"` skips the task, and `"fail"` '
            'fails it without a retry. `"skip"` and `"fail"` do not change an earlier manifest'
        ),
    ] = "continue"

    def __post_init__(self) -> None:
        _ = self.filters  # which checks itself
        if isinstance(self.sample, float) and not 0 < self.sample <= 1:
            raise InvalidRequestError(f"sample as a fraction must be above 0 and at most 1.0, got {self.sample}.")
        if isinstance(self.sample, int) and self.sample < 1:
            raise InvalidRequestError(f"sample as a number must be 1 or more, got {self.sample}.")
        if self.per_group is not None and self.per_group < 1:
            raise InvalidRequestError(f"per_group must be 1 or more, got {self.per_group}.")
        if self.per_group is not None and self.class_by is None:
            raise InvalidRequestError("per_group limits the samples of each class: set class_by to find the class.")
        if self.splits is not None:
            _check_splits(self.splits)

    @property
    def filters(self) -> Filters:
        """The bounds of size, time and class. Placeholders stay: the listing has decided about them."""
        return Filters(
            min_bytes=self.min_bytes,
            max_bytes=self.max_bytes,
            updated_after=self.updated_after,
            updated_before=self.updated_before,
            storage_classes=self.storage_classes,
            include_placeholders=True,
        )

    def as_plain_data(self) -> dict[str, Any]:
        """Return what was asked for as JSON-safe data, without what was not."""
        plain = asdict(self)
        del plain["manifest_uri"], plain["on_empty"]
        plain["storage_classes"] = self.storage_classes and sorted(self.storage_classes)
        for name in ("updated_after", "updated_before"):
            plain[name] = plain[name] and plain[name].isoformat()
        return {name: value for name, value in plain.items() if value is not None and value != ()}


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRequest:
    """One staging of a manifest (or of one of its shards) to a local directory; `identity` says who stages."""

    destination: Annotated[str, Declared("absolute local directory")]
    strategy: Annotated[
        Strategy,
        Declared(
            '`"auto"` chooses for each group of objects; `"compose"` and `"direct"` always use one way if'
            " it is possible"
        ),
    ] = "auto"
    max_composite_bytes: Annotated[int, Declared("largest size of a temporary object")] = DEFAULT_MAX_COMPOSITE_BYTES
    composite_prefix: Annotated[
        str, Declared("prefix of the names of temporary objects, in the bucket of the data; ends in `/`")
    ] = DEFAULT_COMPOSITE_PREFIX
    strip_prefix: Annotated[str, Declared("removed from the beginning of each object's name to make its path")] = ""
    delete_extraneous: Annotated[
        DeleteExtraneous,
        Declared(
            "remove files of earlier stagings that this manifest lacks. If no file would remain (an empty"
            " manifest, or every object left out), the staging fails and removes nothing; "
            '`"even_if_empty"` removes the files'
        ),
    ] = False
    on_changed_object: Annotated[
        OnChangedObject,
        Declared(
            'if an object was overwritten or deleted since the listing, `"fail"` fails and names it, '
            '`"skip"` leaves it out and counts it'
        ),
    ] = "fail"
    on_unreadable_object: Annotated[
        OnUnreadableObject,
        Declared(
            'if objects cannot be read, `"fail"` fails and names those found, `"skip"` leaves them out '
            "and counts them. If no object can be read, the task fails"
        ),
    ] = "fail"
    on_unsafe_name: Annotated[
        OnUnsafeName,
        Declared(
            'if names cannot become paths, `"fail"` fails before anything is fetched and names all of '
            'them, `"skip"` leaves them out, counts and names them'
        ),
    ] = "fail"
    decompress: Annotated[
        bool,
        Declared("decompress objects with the content encoding gzip; otherwise they are staged as they are stored"),
    ] = False
    reuse_from: Annotated[
        tuple[str, ...],
        Declared(
            "other destinations, or globs of them: files that their receipts confirm are "
            "[linked](../concepts/staging.md#trees-that-build-on-one-another) instead of fetched",
            default=(None,),
        ),
    ] = ()
    receipt_directory: Annotated[
        str | None,
        Declared(
            "absolute local directory for the receipt, the report and the lock; only for this "
            "destination. `None`: `.dataflux` below the destination"
        ),
    ] = None
    max_in_flight: Annotated[
        int | None, Declared("requests in flight at the same time, over all workers; `None`: chosen automatically")
    ] = None
    workers: _Workers = field(default_factory=usable_cores)
    max_usd: _MaxUsd = None
    dry_run: Annotated[bool, Declared("plan and estimate only; fetch nothing")] = False
    report: Annotated[bool, Declared("write a [report](#run-report) beside the receipt", default=(True,))] = False
    identity: RunIdentity = field(default_factory=RunIdentity)

    def __post_init__(self) -> None:
        _check_local_path("destination", self.destination)
        _check_identity(self.identity)
        if os.path.normpath(self.destination) in ("/", "//"):
            raise InvalidRequestError("destination must be a directory below /, not / itself.", destination="/")
        for path in (*self.reuse_from, *([self.receipt_directory] if self.receipt_directory is not None else [])):
            _check_local_path("receipt_directory" if path == self.receipt_directory else "reuse_from", path)
        if self.receipt_directory is not None and os.path.normpath(self.receipt_directory) == os.path.normpath(
            self.destination
        ):
            raise InvalidRequestError(
                f"receipt_directory is the destination itself, {self.destination}: objects could replace the receipts. "
                "Give another directory, or leave receipt_directory out.",
                destination=self.destination,
            )
        _check_choice("on_unsafe_name", self.on_unsafe_name, get_args(OnUnsafeName))
        _check_choice("on_unreadable_object", self.on_unreadable_object, get_args(OnUnreadableObject))
        _check_choice("strategy", self.strategy, get_args(Strategy))
        _check_choice("on_changed_object", self.on_changed_object, get_args(OnChangedObject))
        if self.delete_extraneous not in (True, False, "even_if_empty"):
            raise InvalidRequestError(
                f'delete_extraneous must be True, False or "even_if_empty", got {self.delete_extraneous!r}.'
            )
        if self.max_composite_bytes < 1:
            raise InvalidRequestError(f"max_composite_bytes must be 1 or more, got {self.max_composite_bytes}.")
        if not self.composite_prefix.endswith("/") or self.composite_prefix.startswith("/"):
            raise InvalidRequestError(
                f"composite_prefix must be a name prefix that ends in '/', such as {DEFAULT_COMPOSITE_PREFIX!r}, "
                f"got {self.composite_prefix!r}."
            )
        if self.max_usd is not None and not self.max_usd >= 0:
            raise InvalidRequestError(f"max_usd must be 0 or more, got {self.max_usd}.")
        if self.workers < 1 or (self.max_in_flight is not None and self.max_in_flight < 1):
            raise InvalidRequestError(
                f"workers and max_in_flight must be 1 or more, got {self.workers} and {self.max_in_flight}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PackRequest:
    """One pack of a manifest. The pack of a shard is a part of the pack of the whole manifest."""

    output: Annotated[
        str, Declared("absolute local directory, or `gs://bucket/prefix/`; must be different for each pack")
    ]
    shard_bytes: Annotated[int, Declared("largest size of a shard; only a single larger sample may exceed it")] = (
        DEFAULT_PACK_SHARD_BYTES
    )
    shard_count: Annotated[int | None, Declared("number of shards of about equal size, instead of `shard_bytes`")] = (
        None
    )
    sample_by: Annotated[
        str,
        Declared(
            'rule for samples: `"webdataset"` (the same name up to the first dot after the last `/`), or '
            "a regular expression with one group, the sample's key"
        ),
    ] = "webdataset"
    shuffle_seed: Annotated[
        int | None, Declared("shuffle the samples over all shards; `None` keeps the manifest's order")
    ] = None
    name_template: Annotated[str, Declared("name of a shard below the output; contains `{index}`")] = (
        DEFAULT_NAME_TEMPLATE
    )
    on_changed_object: Annotated[
        OnChangedObject,
        Declared(
            'if an object was overwritten or deleted since the listing, `"fail"` fails and names it, '
            '`"skip"` leaves its sample out and counts it'
        ),
    ] = "fail"
    strategy: Annotated[
        Strategy,
        Declared(
            '`"auto"` chooses for each group of objects; `"compose"` and `"direct"` always use one way if'
            " it is possible"
        ),
    ] = "auto"
    max_composite_bytes: Annotated[int, Declared("largest size of a temporary object")] = DEFAULT_MAX_COMPOSITE_BYTES
    composite_prefix: Annotated[
        str, Declared("prefix of the names of temporary objects, in the bucket of the data; ends in `/`")
    ] = DEFAULT_COMPOSITE_PREFIX
    max_in_flight: Annotated[
        int | None, Declared("requests in flight at the same time, over all workers; `None`: chosen automatically")
    ] = None
    workers: _Workers = field(default_factory=usable_cores)
    max_usd: _MaxUsd = None
    dry_run: Annotated[bool, Declared("plan and estimate only; write nothing")] = False
    report: Annotated[bool, Declared("write a [report](#run-report) beside the index", default=(True,))] = False
    identity: RunIdentity = field(default_factory=RunIdentity)

    def __post_init__(self) -> None:
        if not self.output.startswith(("/", "file:///", "gs://")):
            raise InvalidRequestError(
                f"output must be an absolute local directory or gs://bucket/prefix/, got {self.output!r}.",
                output=self.output,
            )
        _check_identity(self.identity)
        _check_choice("strategy", self.strategy, get_args(Strategy))
        _check_choice("on_changed_object", self.on_changed_object, get_args(OnChangedObject))
        for name in ("shard_bytes", "shard_count", "max_composite_bytes", "max_in_flight", "workers"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InvalidRequestError(f"{name} must be 1 or more, got {number}.")
        if self.max_usd is not None and not self.max_usd >= 0:
            raise InvalidRequestError(f"max_usd must be 0 or more, got {self.max_usd}.")
        if not self.composite_prefix.endswith("/") or self.composite_prefix.startswith("/"):
            raise InvalidRequestError(
                f"composite_prefix must be a name prefix that ends in '/', such as {DEFAULT_COMPOSITE_PREFIX!r}, "
                f"got {self.composite_prefix!r}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinPacksRequest:
    """A join of the parts of a pack."""

    report: Annotated[
        bool, Declared("write a [report](#run-report) of the whole pack beside the index", default=(True,))
    ] = False
    identity: RunIdentity = field(default_factory=RunIdentity)

    def __post_init__(self) -> None:
        _check_identity(self.identity)


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneRequest:
    """Which staged trees are removed.

    Each of the three rules protects trees. A tree is removed only if it is not among the newest `keep_last`, and is
    older than `older_than`. With `max_total_bytes`, the oldest of these trees are removed, until all trees that remain
    take at most this many bytes.
    """

    root: Annotated[str, Declared("absolute directory that contains the staged trees")]
    pattern: Annotated[str, Declared("glob of the trees' paths relative to `root`; `**` matches any depth")] = "*"
    keep_last: Annotated[int | None, Declared("number of newest trees to keep")] = None
    older_than: Annotated[
        timedelta | None, Declared("keep trees that a staging changed within this time: a timedelta, or seconds")
    ] = None
    max_total_bytes: Annotated[
        int | None, Declared("stop when all trees together take at most this many bytes of disk")
    ] = None
    dry_run: Annotated[bool, Declared("find and count only; remove nothing")] = False

    def __post_init__(self) -> None:
        if not os.path.isabs(self.root):
            raise InvalidRequestError(f"root must be an absolute directory, got {self.root!r}.")
        if not self.pattern or os.path.isabs(self.pattern) or ".." in self.pattern.split("/"):
            raise InvalidRequestError(f"pattern must be a glob relative to root, got {self.pattern!r}.")
        if self.keep_last is None and self.older_than is None and self.max_total_bytes is None:
            raise InvalidRequestError("Say what to keep: give keep_last, older_than or max_total_bytes.")
        for name in ("keep_last", "max_total_bytes"):
            number = getattr(self, name)
            if number is not None and number < 0:
                raise InvalidRequestError(f"{name} must be 0 or more, got {number}.")
        if self.older_than is not None and self.older_than < timedelta(0):
            raise InvalidRequestError(f"older_than must not be negative, got {self.older_than}.")


def _check_local_path(parameter: str, path: str) -> None:
    given = {parameter: path}
    if not os.path.isabs(path):
        raise InvalidRequestError(f"{parameter} must be an absolute local directory, got {path!r}.", **given)
    if "\0" in path:
        raise InvalidRequestError(f"{parameter} must not contain a NUL character, got {path!r}.", **given)


def _check_choice(parameter: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidRequestError(f"{parameter} must be one of {', '.join(map(repr, choices))}, got {value!r}.")


_MOST_SPLITS = 100
# `manifest.json` below a manifest's URI is its index: the split would take the place of the manifest that is there.
_SPLIT_NAME = re.compile(r"(?!manifest\.json$)[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


def _check_splits(splits: Mapping[str, float]) -> None:
    """Raise InvalidRequestError unless the splits have usable names and fractions that are all of it together."""
    if not isinstance(splits, Mapping) or not 0 < len(splits) <= _MOST_SPLITS:
        raise InvalidRequestError(
            f'splits must be 1 to {_MOST_SPLITS} names with their fractions, such as {{"train": 0.9, "val": 0.1}}, '
            f"got {splits!r:.200}."
        )
    for name, fraction in splits.items():
        if not isinstance(name, str) or not _SPLIT_NAME.fullmatch(name):
            raise InvalidRequestError(
                f"{name!r} cannot be the name of a split, because it becomes part of a manifest's URI: give at most 64 "
                "letters, digits, '_', '-' and '.', but not manifest.json, the name of the index."
            )
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
            raise InvalidRequestError(
                f"The fraction of split {name!r} must be above 0 and at most 1, got {fraction!r}."
            )
    if abs(sum(splits.values()) - 1) > 1e-6:
        raise InvalidRequestError(
            f"The fractions of the splits must add up to 1: {dict(splits)} add up to {sum(splits.values()):g}."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RangesRequest:
    """A division of a bucket's names into ranges, for listings that share the work."""

    bucket: _Bucket
    prefixes: _Prefixes = ("",)
    ranges: Annotated[int, Declared("number of ranges; there are fewer if the names cannot be divided further")] = (
        DEFAULT_RANGES
    )
    seed_manifest_uri: Annotated[
        str | None,
        Declared(
            "reference or URI of an earlier manifest of the same data, whose names divide best. Without "
            "it, or if it does not exist yet, about eight pages for each range are listed as a sample",
            "seed_manifest",
            is_made=True,
        ),
    ] = None

    def __post_init__(self) -> None:
        check_bucket_name(self.bucket)
        if self.ranges < 1:
            raise InvalidRequestError(f"ranges must be 1 or more, got {self.ranges}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinRequest:
    """A join of the listings of all name ranges."""

    manifest_uri: Annotated[str, Declared("directory of the joined manifest; must differ from those of the ranges")]
    on_empty: Annotated[OnEmpty, Declared("if no range has an object: the same choices as for `FastListOperator`")] = (
        "continue"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRequest:
    """A deletion of composites that outlived their run."""

    bucket: _Bucket
    composite_prefix: Annotated[str, Declared("prefix of the names of temporary objects")] = DEFAULT_COMPOSITE_PREFIX
    older_than: Annotated[
        timedelta,
        Declared("keep younger temporary objects, because their run may still be active: a timedelta, or seconds"),
    ] = DEFAULT_OLDER_THAN
    dry_run: Annotated[bool, Declared("count only; delete nothing")] = False

    def __post_init__(self) -> None:
        check_bucket_name(self.bucket)
