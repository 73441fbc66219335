"""Which partitions of a bucket changed between two manifests.

A partition is what the names of its objects say: the text that a regular expression finds, such as the day in
`events/day=2026-01-31/`. Its *prefix* is the name up to the end of what was found. Two manifests agree on a partition
if it has the same fingerprint in both: the same names and generations.

Guarantees: a partition of either manifest is reported exactly if its fingerprints differ; partitions come sorted by
their prefix. Cost: one pass over each manifest, and none if their own fingerprints are the same. Memory: a few
hundred bytes for each partition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from airflow_dataflux.core.arrow import total
from airflow_dataflux.core.config import DEFAULT_PARTITION
from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.manifest.fingerprint import Digest

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_dataflux.core.manifest.manifest import Manifest

_GROUP = "partition"


class PartitionChange(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that is not what it was.

    Attributes:
        partition: the text that the expression found.
        prefix: of the names of its objects.
        change: "added", "changed" or "removed".
        object_count, total_bytes, fingerprint: of it now; of what it was, for one that was removed.
    """

    partition: str
    prefix: str
    change: Literal["added", "changed", "removed"]
    object_count: int
    total_bytes: int
    fingerprint: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return msgspec.structs.asdict(self)


class _Partition(msgspec.Struct):
    """What a manifest has of a partition."""

    name: str
    digest: Digest = msgspec.field(default_factory=Digest)
    total_bytes: int = 0

    def add(self, rows: pa.RecordBatch) -> None:
        self.digest = self.digest.extend(rows)
        self.total_bytes += total(rows.column("size"))


class PartitionChanges(msgspec.Struct, frozen=True, kw_only=True):
    """All changes, and how many objects of the later manifest are in no partition."""

    changes: tuple[PartitionChange, ...]
    without_partition: int = 0


def changed_partitions(
    manifest: Manifest, previous: Manifest | None, expression: str = DEFAULT_PARTITION
) -> PartitionChanges:
    """Return the partitions of `manifest` that differ from those of `previous`; None: all of them were added.

    Args:
        manifest: what there is now.
        previous: what there was.
        expression: searched in each name; its group `partition`, or its only group, is the partition.

    Raises InvalidRequestError for an expression that is none or has no such group, and what reading a manifest raises.
    """
    pattern, group = _compiled(expression)
    if previous is not None and previous.fingerprint == manifest.fingerprint:
        return PartitionChanges(changes=())
    now, without = _partitions(manifest, pattern, group)
    before = {} if previous is None else _partitions(previous, pattern, group)[0]
    changes = []
    for prefix in sorted(now.keys() | before.keys()):
        found, was = now.get(prefix), before.get(prefix)
        if found is not None and was is not None and found.digest == was.digest:
            continue
        told = found or was
        if told is not None:
            changes.append(
                PartitionChange(
                    partition=told.name,
                    prefix=prefix,
                    change="removed" if found is None else "added" if was is None else "changed",
                    object_count=told.digest.row_count,
                    total_bytes=told.total_bytes,
                    fingerprint=told.digest.fingerprint(),
                )
            )
    return PartitionChanges(changes=tuple(changes), without_partition=without)


def _compiled(expression: str) -> tuple[re.Pattern[str], int | str]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise InvalidRequestError(f"partition is no regular expression: {error} in {expression!r}.") from error
    if _GROUP in pattern.groupindex:
        return pattern, _GROUP
    if pattern.groups == 1:
        return pattern, 1
    raise InvalidRequestError(
        f"partition must be a regular expression with a group named {_GROUP!r}, or with one group, such as "
        f"{DEFAULT_PARTITION!r}; {expression!r} has {pattern.groups} groups."
    )


def _partitions(manifest: Manifest, pattern: re.Pattern[str], group: int | str) -> tuple[dict[str, _Partition], int]:
    """Return the partitions of a manifest by their prefix, and how many objects are in none."""
    found: dict[str, _Partition] = {}
    without = 0
    for rows in manifest.batches():
        for (prefix, name), start, stop in _runs(rows.column("name").to_pylist(), pattern, group):
            if prefix is None:
                without += stop - start
            else:
                found.setdefault(prefix, _Partition(name)).add(rows.slice(start, stop - start))
    return found, without


def _runs(
    names: list[str], pattern: re.Pattern[str], group: int | str
) -> Iterator[tuple[tuple[str | None, str], int, int]]:
    """Yield prefix and text of each run of neighbours in one partition, with where it begins and ends."""

    def of(name: str) -> tuple[str | None, str]:
        match = pattern.search(name)
        text = match[group] if match else None
        return (None, "") if match is None or not text else (name[: match.end()], text)

    start = 0
    for key, run in groupby(names, key=of):
        stop = start + sum(1 for _ in run)
        yield key, start, stop
        start = stop
