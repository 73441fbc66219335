"""Temporary objects in the user's bucket: how they are named, kept account of, deleted and swept.

Guarantees:
- A composite is registered before it is asked for, and deleted on every way out of the staging; what could not be
  deleted is reported by name.
- Nothing is ever swept unless its name has our pattern *and* its custom metadata carries the same attempt id as its
  name. A user's object is never deleted, wherever it lies.

Names: `<composite_prefix><dag>/<run>/<task>/<map index>/<try>/<attempt>-<batch>-<round>`. The attempt id is random, so
two stagings never share a name; the rest lets a later try find what an earlier one left.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from airflow_dataflux.core.config import RunIdentity, check_bucket_name
from airflow_dataflux.core.errors import InvalidRequestError, ObjectNotFoundError, StoreError
from airflow_dataflux.core.gcs.store import DeleteFailure, ObjectVersion, PageRequest, Store
from airflow_dataflux.core.ownobjects import (
    COMPOSITE_ATTEMPT,
    COMPOSITE_MARK,
    COMPOSITE_MARK_VERSION,
    CompositeName,
    is_marked_composite,
    parse_composite_name,
)
from airflow_dataflux.core.runtime.threads import ThreadPool

_SEGMENT_CHARACTERS = 160
"""Five segments of this length and a prefix of a user's choice stay below the 1,024 bytes of an object name."""

_SAFE = re.compile(r"[^A-Za-z0-9._+:-]")

_LOOKS_IN_FLIGHT = 16
"""Metadata requests of a sweep in flight; a sweep is rare and must not crowd out the staging."""


def encode_segment(text: str) -> str:
    """Return free text as one segment of an object name: different texts give different segments."""
    encoded = _SAFE.sub(
        lambda match: "".join(f"={byte:02X}" for byte in match.group().encode("utf-8", "replace")), text
    )
    if encoded in ("", ".", ".."):
        encoded = "=" + encoded.replace(".", "=2E")
    if len(encoded) > _SEGMENT_CHARACTERS:
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
        encoded = f"{encoded[: _SEGMENT_CHARACTERS - 18]}=={digest}"
    return encoded


class CompositeNames(msgspec.Struct, frozen=True, kw_only=True):
    """The names that one attempt gives to its composites, and the metadata that marks them."""

    composite_prefix: str
    identity: RunIdentity
    attempt: str = msgspec.field(default_factory=lambda: secrets.token_hex(8))

    @property
    def task_prefix(self) -> str:
        """Prefix of all tries of this task."""
        who = self.identity
        return (
            f"{self.composite_prefix}{encode_segment(who.dag)}/{encode_segment(who.run)}/{encode_segment(who.task)}/"
            f"{who.map_index}/"
        )

    @property
    def attempt_prefix(self) -> str:
        """Prefix of the composites of this attempt alone."""
        return f"{self.task_prefix}{self.identity.try_number}/{self.attempt}-"

    @property
    def metadata(self) -> Mapping[str, str]:
        """Custom metadata of every composite of this attempt."""
        return {COMPOSITE_MARK: COMPOSITE_MARK_VERSION, COMPOSITE_ATTEMPT: self.attempt}

    def name(self, batch: int, round_: int) -> str:
        """Return the name of a batch's composite; `round_` counts how often the batch was handed out before."""
        return f"{self.attempt_prefix}{batch}-{round_}"


class SweepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep found.

    Attributes:
        found: names of the composites that match, oldest name first.
        deleted: how many of them were deleted; 0 in a dry run.
        failures: those that could not be deleted, with the reason.
    """

    found: tuple[str, ...] = ()
    deleted: int = 0
    failures: tuple[DeleteFailure, ...] = ()


def sweep_composites(
    bucket: str, *, composite_prefix: str, older_than: timedelta, dry_run: bool, store: Store
) -> SweepResult:
    """Delete composites that runs left behind, whoever made them.

    Costs one list request for each page below the prefix, and one metadata request for each object whose name
    matches. Choose `older_than` longer than the longest staging, or the composites of a living one are taken from it
    (it then reads directly).

    Args:
        bucket: the bucket's bare name.
        composite_prefix: where the stagings were told to name their composites.
        older_than: least age, by the object's last change.
        dry_run: find, delete nothing.
        store: the bucket's store.
    """
    check_bucket_name(bucket)
    if not composite_prefix.endswith("/"):
        raise InvalidRequestError(f"composite_prefix must end in '/', got {composite_prefix!r}.")
    if older_than < timedelta(0):
        raise InvalidRequestError(f"older_than must not be negative, got {older_than}.")
    before = datetime.now(UTC) - older_than
    sweep = _Sweep(store, bucket, composite_prefix)
    return sweep.run(composite_prefix, lambda parsed, updated: updated <= before, dry_run=dry_run)


def sweep_earlier_tries(store: Store, bucket: str, names: CompositeNames) -> SweepResult:
    """Delete what earlier tries of the same task left: one list request, and one for each composite found."""
    sweep = _Sweep(store, bucket, names.composite_prefix)
    current = names.identity.try_number
    return sweep.run(names.task_prefix, lambda parsed, _: parsed.try_number < current)


def sweep_attempt(store: Store, bucket: str, composite_prefix: str, attempt_prefix: str) -> SweepResult:
    """Delete every composite of one attempt that is certainly over."""
    return _Sweep(store, bucket, composite_prefix).run(attempt_prefix, lambda parsed, _: True)


class _Sweep(msgspec.Struct, frozen=True):
    store: Store
    bucket: str
    composite_prefix: str

    def run(
        self, under: str, wanted: Callable[[CompositeName, datetime], bool], *, dry_run: bool = False
    ) -> SweepResult:
        candidates = [
            (ObjectVersion(name=name, generation=generation), parsed.attempt)
            for name, generation, updated in self._listed(under)
            if (parsed := parse_composite_name(name, self.composite_prefix)) is not None and wanted(parsed, updated)
        ]
        if not candidates:
            return SweepResult()
        with ThreadPool(_LOOKS_IN_FLIGHT, "dataflux-sweep") as pool:
            marked = list(pool.map(lambda candidate: self._is_marked(*candidate), candidates))
        ours = [version for (version, _), is_ours in zip(candidates, marked, strict=True) if is_ours]
        found = tuple(version.name for version in ours)
        if dry_run:
            return SweepResult(found=found)
        failures = self.store.delete_many(self.bucket, ours)
        return SweepResult(found=found, deleted=len(ours) - len(failures), failures=tuple(failures))

    def _listed(self, under: str) -> Iterator[tuple[str, int, datetime]]:
        token: str | None = None
        while True:
            page = self.store.list_page(self.bucket, PageRequest(prefix=under, page_token=token))
            rows = page.rows
            yield from zip(
                rows["name"].to_pylist(), rows["generation"].to_pylist(), rows["updated"].to_pylist(), strict=True
            )
            token = page.next_page_token
            if token is None:
                return

    def _is_marked(self, version: ObjectVersion, attempt: str) -> bool:
        """Return whether the custom metadata says that the object is the composite that its name says it is."""
        try:
            stored = self.store.stat(self.bucket, version.name, version.generation)
        except ObjectNotFoundError:
            return False  # somebody else was faster
        return is_marked_composite(stored.metadata, attempt)


def find_own(store: Store, bucket: str, name: str, attempt: str) -> ObjectVersion | None:
    """Return the version of our composite of this name, None if there is none: for a compose of unknown outcome."""
    try:
        stored = store.stat(bucket, name)
    except ObjectNotFoundError:
        return None
    if stored.metadata.get(COMPOSITE_ATTEMPT) != attempt:
        raise StoreError(
            f"gs://{bucket}/{name} is not the composite that this staging asked for; it was left alone.",
            operation="stat",
            resource=f"gs://{bucket}/{name}",
            status=None,
            reason="foreign object",
        )
    return ObjectVersion(name=name, generation=stored.row.generation)


def lifecycle_rule(composite_prefix: str, older_than: timedelta) -> dict[str, Any]:
    """Return the rule that deletes what is older than `older_than`, rounded up to days, at least one.

    It is one entry of the `rule` list in a bucket's lifecycle configuration, beside those that are there already.
    """
    if not composite_prefix.endswith("/"):
        raise InvalidRequestError(f"composite_prefix must end in '/', got {composite_prefix!r}.")
    if older_than < timedelta(0):
        raise InvalidRequestError(f"older_than must not be negative, got {older_than}.")
    days = max(1, -(-older_than // timedelta(days=1)))
    return {"action": {"type": "Delete"}, "condition": {"age": days, "matchesPrefix": [composite_prefix]}}
