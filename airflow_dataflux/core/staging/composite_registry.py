"""The composites of one worker: registered before they exist, deleted behind the work; and what the owner cleans up.

States of a composite, and what each promises:
1. *registered*: a compose is about to be sent, or its outcome is unknown. It may exist.
2. *created*: it exists and is being read.
3. *discarded*: not needed any more; a deleting thread takes it, with others, off the critical path. At the end, when
   somebody waits for it, what is left is shared between all of them.
4. forgotten: certainly gone (deleted, or never made).

Guarantees: `close` returns only when each composite is forgotten or could not be deleted; it returns the names of
those. A composite whose compose had no answer, also one that was repeated with success, is looked for until
`LATE_COMPOSE_S` after that was given up: a request that the service reads late makes it once more, after its deletion.
Thread-safe. Deletions use a store without a cancel token: tidying up must work after a cancel.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from airflow_dataflux.core.errors import DatafluxError
from airflow_dataflux.core.gcs.store import ObjectVersion, Store
from airflow_dataflux.core.runtime.threads import join_started, start_threads
from airflow_dataflux.core.staging.composites import (
    CompositeNames,
    SweepResult,
    find_own,
    sweep_attempt,
    sweep_earlier_tries,
)
from airflow_dataflux.core.staging.destination import AttemptRecord
from airflow_dataflux.core.staging.strategy import DELETED_WITHIN_S

_LOG = logging.getLogger(__name__)

_DELETIONS_AT_ONCE = 25
"""Of one batch request, which takes at most 100, and some milliseconds for each of its calls."""

LATE_COMPOSE_S = 1.0
"""A compose whose answer nobody waits for any more may still become an object this long after: its connection broke, or
its worker was killed. What comes later still is found by the next try or a sweep."""

DELETING_THREADS = 12
"""From the last of 11,098 files of 10 KiB to the end of their staging it took 0.18 s with 4 threads and 50 deletions at
once, 0.15 s with 12 threads, and 0.12 s with 12 threads and 25 at once."""


class CompositeRegistry:
    """Use it in a `with` block; every composite of the block is gone or reported after it."""

    def __init__(self, store: Store, bucket: str, attempt: str) -> None:
        self._store = store
        self._bucket = bucket
        self._attempt = attempt
        self._changed = threading.Condition()
        self._registered: dict[str, float] = {}
        """When the outcome of each compose became unknown; until then, when it was about to be sent."""
        self._lost: dict[str, float] = {}
        """When an attempt of a compose had no answer. It may be carried out later, even after the deletion."""
        self._created: dict[str, ObjectVersion] = {}
        self._discarded: list[ObjectVersion] = []
        self._deleting = 0
        self._closing = False
        self._share = 0
        self._leftovers: list[str] = []
        self.deleted = 0
        self._threads = [
            threading.Thread(target=self._delete_behind, args=(number,), name=f"dataflux-delete-{number}", daemon=True)
            for number in range(DELETING_THREADS)
        ]
        try:
            start_threads(self._threads)
        except BaseException:
            self.close()
            raise

    @property
    def undeleted(self) -> int:
        """How many composites there are, or may be: each is still to be deleted."""
        return len(self._registered) + len(self._created) + len(self._discarded) + self._deleting

    def register(self, name: str) -> None:
        """Note that a composite of this name is about to be asked for."""
        with self._changed:
            self._registered[name] = time.monotonic()

    def given_up(self, name: str) -> None:
        """Note that no answer is waited for any more: if none came, the composite may still appear."""
        with self._changed:
            if name in self._registered:
                self._registered[name] = time.monotonic()

    def answer_lost(self, name: str) -> None:
        """Note that an attempt of a compose had no answer."""
        with self._changed:
            self._lost[name] = time.monotonic()

    def created(self, version: ObjectVersion) -> None:
        """Note that it exists now."""
        with self._changed:
            self._registered.pop(version.name, None)
            self._created[version.name] = version

    def never_made(self, name: str) -> None:
        """Note that Cloud Storage certainly refused to make it."""
        with self._changed:
            self._registered.pop(name, None)

    def discard(self, version: ObjectVersion) -> None:
        """Give it up for deletion; returns at once."""
        with self._changed:
            if self._created.pop(version.name, None) is not None:
                self._discarded.append(version)
                if len(self._discarded) == 1 or self._are_enough():
                    self._changed.notify_all()

    def close(self) -> tuple[str, ...]:
        """Delete everything that is left and return the names of what could not be deleted."""
        with self._changed:
            self._discarded.extend(self._created.values())
            self._created.clear()
            self._closing = True
            self._share = -(-len(self._discarded) // DELETING_THREADS)
            self._changed.notify_all()
        join_started(self._threads)
        unsure = self._lost | self._registered
        late_until = {name: given_up_at + LATE_COMPOSE_S for name, given_up_at in unsure.items()}
        self._registered.clear()
        self._lost.clear()
        looked_at = time.monotonic()
        found, not_there = self._look_for(late_until)
        self._delete([*self._discarded, *found])
        late = [name for name in not_there if late_until[name] > looked_at]
        if late:
            time.sleep(max(0.0, max(late_until[name] for name in late) - time.monotonic()))
            found, _ = self._look_for(late)
            self._delete(found)
        return tuple(self._leftovers)

    def _look_for(self, names: Iterable[str]) -> tuple[list[ObjectVersion], list[str]]:
        """Return which composites of these names were made, and the names of those that were not, so far."""
        made, not_there = [], []
        for name in sorted(names):
            try:
                version = find_own(self._store, self._bucket, name, self._attempt)
            except DatafluxError as error:
                self._leftovers.append(name)
                _LOG.warning("Could not find out whether %s was made: %s", name, error)
                continue
            if version is None:
                not_there.append(name)
            else:
                made.append(version)
        return made, not_there

    def _delete_behind(self, number: int) -> None:
        while versions := self._next_versions(first=number == 0):
            self._delete(versions)
            with self._changed:
                self._deleting -= len(versions)

    def _next_versions(self, *, first: bool) -> list[ObjectVersion]:
        """Wait for composites to delete; return none of them when there will be no more.

        While the work goes on, one thread is enough; the others join in when there are enough for each.
        """
        with self._changed:
            while True:
                if first:
                    self._changed.wait_for(lambda: self._discarded or self._closing)
                    self._changed.wait_for(self._are_enough, DELETED_WITHIN_S)
                else:
                    self._changed.wait_for(self._are_enough)
                if self._discarded or self._closing:
                    break  # else another thread was faster
            most = max(1, self._share) if self._closing else _DELETIONS_AT_ONCE
            versions, self._discarded = self._discarded[:most], self._discarded[most:]
            self._deleting += len(versions)
            return versions

    def _are_enough(self) -> bool:
        return len(self._discarded) >= _DELETIONS_AT_ONCE or self._closing

    def _delete(self, versions: list[ObjectVersion]) -> None:
        if not versions:
            return
        try:
            failures = self._store.delete_many(self._bucket, versions)
        except DatafluxError as error:
            _LOG.warning("Could not delete %d composites: %s", len(versions), error)
            with self._changed:
                self._leftovers.extend(version.name for version in versions)
            return
        for failure in failures:
            _LOG.warning("Could not delete the composite %s: %s", failure.version.name, failure.reason)
        with self._changed:
            self._leftovers.extend(failure.version.name for failure in failures)
            self.deleted += len(versions) - len(failures)


class CompositeCleanup:
    """The owner's part: what earlier tries left, and what workers that died have left. One thread.

    A sweep that fails is told and stops nothing. `leftovers` are the names that stay.
    """

    def __init__(self, store: Store, bucket: str, names: CompositeNames) -> None:
        """`store` must go on after a cancel."""
        self._store = store
        self._bucket = bucket
        self._names = names
        self.leftovers: tuple[str, ...] = ()

    def before(self) -> None:
        """Delete what earlier tries of this task left."""
        if self._names.identity.try_number > 1:
            self.leftovers += self._sweep(lambda: sweep_earlier_tries(self._store, self._bucket, self._names)) or ()

    def record(self) -> AttemptRecord:
        """Return what a later try needs to find the composites of this attempt."""
        names = self._names
        return AttemptRecord(
            bucket=self._bucket, composite_prefix=names.composite_prefix, attempt_prefix=names.attempt_prefix
        )

    def sweep_record(self, record: AttemptRecord) -> bool:
        """Delete what a killed attempt left; return whether nothing of it is left."""
        leftovers = self._sweep(
            lambda: sweep_attempt(self._store, record.bucket, record.composite_prefix, record.attempt_prefix)
        )
        self.leftovers += leftovers or ()
        return leftovers == ()

    def after(self, reported: tuple[str, ...], lost_at: float | None) -> bool:
        """Delete composites of this attempt that no worker answers for; return whether none is left. Raises nothing.

        `reported` are those that workers could not delete; `lost_at` is when a worker was lost, on the monotonic clock.
        """
        if not reported and lost_at is None:
            return True
        if lost_at is not None:
            time.sleep(max(0.0, lost_at + LATE_COMPOSE_S - time.monotonic()))
        prefix = self._names.attempt_prefix
        swept = self._sweep(lambda: sweep_attempt(self._store, self._bucket, self._names.composite_prefix, prefix))
        left = swept if swept is not None else reported or (prefix,)
        if left:
            _LOG.warning(
                "These composites stay in gs://%s until the next try or a sweep deletes them: %s",
                self._bucket,
                ", ".join(left),
            )
        self.leftovers += left
        return not left

    def _sweep(self, sweep: Callable[[], SweepResult]) -> tuple[str, ...] | None:
        """Sweep; return what could not be deleted, None if that is unknown."""
        try:
            result = sweep()
        except DatafluxError as error:
            _LOG.warning("Could not look for leftover composites in gs://%s: %s", self._bucket, error)
            return None
        if result.found:
            _LOG.info("Deleted %d leftover composites.", result.deleted)
        return tuple(failure.version.name for failure in result.failures)
