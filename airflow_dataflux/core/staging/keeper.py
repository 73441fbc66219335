"""Account of the composites of one worker: registered before they exist, deleted behind the work.

States of a composite, and what each promises:
1. *registered*: a compose is about to be sent, or its outcome is unknown. It may exist.
2. *created*: it exists and is being read.
3. *discarded*: not needed any more; the deleting thread takes it, in batches, off the critical path.
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
        self._leftovers: list[str] = []
        self.deleted = 0
        self._thread = threading.Thread(target=self._delete_behind, name="dataflux-delete", daemon=True)
        self._thread.start()

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
                self._changed.notify()

    def close(self) -> tuple[str, ...]:
        """Delete everything that is left and return the names of what could not be deleted."""
        with self._changed:
            self._discarded.extend(self._created.values())
            self._created.clear()
            self._closing = True
            self._changed.notify()
        self._thread.join()
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

    def _delete_behind(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._discarded or self._closing)
                if len(self._discarded) < _BATCH and not self._closing:
                    self._changed.wait_for(lambda: len(self._discarded) >= _BATCH or self._closing, _LINGER_S)
                versions, self._discarded = self._discarded, []
                closing = self._closing
            self._delete(versions)
            if closing:
                return

    def _delete(self, versions: list[ObjectVersion]) -> None:
        if not versions:
            return
        try:
            failures = self._store.delete_many(self._bucket, versions)
        except DatafluxError as error:
            _LOG.warning("Could not delete %d composites: %s", len(versions), error)
            self._leftovers.extend(version.name for version in versions)
            return
        for failure in failures:
            _LOG.warning("Could not delete the composite %s: %s", failure.version.name, failure.reason)
        self._leftovers.extend(failure.version.name for failure in failures)
        self.deleted += len(versions) - len(failures)
