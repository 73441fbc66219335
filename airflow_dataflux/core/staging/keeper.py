"""Account of the composites of one worker: registered before they exist, deleted behind the work.

States of a composite, and what each promises:
1. *registered*: a compose is about to be sent, or its outcome is unknown. It may exist.
2. *created*: it exists and is being read.
3. *discarded*: not needed any more; a deleting thread takes it, in batches, off the critical path. At the end, when
   somebody waits for it, what is left is shared between all of them.
4. forgotten: certainly gone (deleted, or never made).

Guarantees: `close` returns only when each composite is forgotten or could not be deleted; it returns the names of
those. Thread-safe. Deletions use a store without a cancel token: tidying up must work after a cancel.
"""

from __future__ import annotations

import logging
import threading

from airflow_dataflux.core.errors import DatafluxError
from airflow_dataflux.core.gcs.store import ObjectVersion, Store
from airflow_dataflux.core.staging.composites import find_own

_LOG = logging.getLogger(__name__)

_BATCH = 50
"""Deletions sent together; a batch request takes at most 100."""
_LINGER_S = 0.5
"""How long the first discarded composite waits for company."""

DELETING_THREADS = 4
"""A batch takes some milliseconds for each of its calls: fifty in one delayed the end by 0.2 s, in four by 0.07."""


class CompositeKeeper:
    """Use it in a `with` block; every composite of the block is gone or reported after it."""

    def __init__(self, store: Store, bucket: str, attempt: str) -> None:
        self._store = store
        self._bucket = bucket
        self._attempt = attempt
        self._changed = threading.Condition()
        self._registered: set[str] = set()
        self._created: dict[str, ObjectVersion] = {}
        self._discarded: list[ObjectVersion] = []
        self._closing = False
        self._share = 0
        self._leftovers: list[str] = []
        self.deleted = 0
        self._threads = [
            threading.Thread(target=self._delete_behind, args=(number,), name=f"dataflux-delete-{number}", daemon=True)
            for number in range(DELETING_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def register(self, name: str) -> None:
        """Note that a composite of this name is about to be asked for."""
        with self._changed:
            self._registered.add(name)

    def created(self, version: ObjectVersion) -> None:
        """Note that it exists now."""
        with self._changed:
            self._registered.discard(version.name)
            self._created[version.name] = version

    def never_made(self, name: str) -> None:
        """Note that Cloud Storage certainly refused to make it."""
        with self._changed:
            self._registered.discard(name)

    def discard(self, version: ObjectVersion) -> None:
        """Give it up for deletion; returns at once."""
        with self._changed:
            if self._created.pop(version.name, None) is not None:
                self._discarded.append(version)
                if len(self._discarded) == 1 or self._batch_is_full():
                    self._changed.notify_all()

    def close(self) -> tuple[str, ...]:
        """Delete everything that is left and return the names of what could not be deleted."""
        with self._changed:
            self._discarded.extend(self._created.values())
            self._created.clear()
            self._closing = True
            self._share = -(-len(self._discarded) // DELETING_THREADS)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for name in sorted(self._registered):
            try:
                version = find_own(self._store, self._bucket, name, self._attempt)
            except DatafluxError as error:
                self._leftovers.append(name)
                _LOG.warning("Could not find out whether %s was made: %s", name, error)
            else:
                self._discarded.extend([version] if version else [])
        self._registered.clear()
        self._delete(self._discarded)
        return tuple(self._leftovers)

    def _delete_behind(self, number: int) -> None:
        while versions := self._next_versions(first=number == 0):
            self._delete(versions)

    def _next_versions(self, *, first: bool) -> list[ObjectVersion]:
        """Wait for composites to delete; return none of them when there will be no more.

        While the work goes on, one thread is enough; the others join in when there is a full batch for each.
        """
        with self._changed:
            while True:
                if first:
                    self._changed.wait_for(lambda: self._discarded or self._closing)
                    self._changed.wait_for(self._batch_is_full, _LINGER_S)
                else:
                    self._changed.wait_for(self._batch_is_full)
                if self._discarded or self._closing:
                    break  # else another thread was faster
            most = max(1, self._share) if self._closing else _BATCH
            versions, self._discarded = self._discarded[:most], self._discarded[most:]
            return versions

    def _batch_is_full(self) -> bool:
        return len(self._discarded) >= _BATCH or self._closing

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
