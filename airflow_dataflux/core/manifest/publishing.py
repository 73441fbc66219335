"""Making a manifest: of parts that were written, or of rows held in memory.

Guarantees: the index is written after every part, in one atomic write, so a manifest appears whole or not at all; what
replaces an earlier manifest deletes the parts of *that manifest's own index*, after the new index is in place, and
nothing else. Parts of a listing that died are in no index: they are never read.

Whatever fails, `ManifestDraft` deletes the parts that it wrote for nothing, and never one that a published index may
name. Which those are depends on how far it came:

1. Before the index is sent: no index names the parts, they are deleted.
2. While it is sent: the answer may be lost, or the task be interrupted before it was heard. The index in place is read
   back. If it is ours, the manifest was published and stays. If it is another than the one that ours would
   have replaced, ours can never appear any more, and the parts are deleted. If nothing has changed, a request may still
   be on its way: unless it was surely refused, the parts stay, and a warning names them.
3. Once it is in place: the parts belong to a manifest and stay, whatever happens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any

import pyarrow as pa

from airflow_dataflux.core.errors import (
    DatafluxError,
    EngineError,
    ManifestConflictError,
    ManifestError,
    PreconditionFailedError,
    StoreError,
)
from airflow_dataflux.core.manifest.bucket_files import StoredFile
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.index import INDEX_MOST_BYTES, Index, build_index, decode_index, encode_index
from airflow_dataflux.core.manifest.inlining import collect, inline_index
from airflow_dataflux.core.manifest.location import (
    INDEX_NAME,
    check_is_index,
    join_uri,
    manifest_location,
    parse_location,
)
from airflow_dataflux.core.manifest.manifest import Manifest
from airflow_dataflux.core.manifest.parts import PartInfo
from airflow_dataflux.core.manifest.reader import InlineRows, PartedRows
from airflow_dataflux.core.namerange import NameRange
from airflow_dataflux.core.runtime.threads import ThreadPool

_logger = logging.getLogger(__name__)

DELETES_IN_FLIGHT = 16
"""Files deleted at once: each takes two requests, and a large manifest has hundreds of parts."""

_PUBLISH_ATTEMPTS = 5
"""As often as somebody else may publish at the same place between our look at the index there and our own."""


class ManifestDraft:
    """A manifest that is being made at a place: its parts are written there first, then it is published, once.

    As a context manager it deletes what was written for nothing; the module's docstring says what that is.

    Args:
        files: where to write.
        manifest_uri: directory of the manifest; an earlier manifest there is replaced.
        run_id: the names of all parts of this draft begin with `part-<run_id>-`; no other draft has it.
        cleanup: where to delete; None: `files`. What deletes after a cancel must not heed it.
    """

    def __init__(
        self, files: ManifestFiles, manifest_uri: str, run_id: str, *, cleanup: ManifestFiles | None = None
    ) -> None:
        self.directory = manifest_location(manifest_uri).uri
        self._files = files
        self._cleanup = cleanup or files
        self._run_id = run_id
        self._sent: bytes | None = None
        self._replaces: StoredFile | None = None
        self._needed: frozenset[str] = frozenset()
        self._published = False

    def __enter__(self) -> ManifestDraft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._published and self._may_delete(error):
            self.delete_parts()

    def publish(
        self,
        *,
        bucket: str,
        prefixes: Sequence[str],
        parts: Sequence[PartInfo],
        listed_at: datetime,
        stats: Mapping[str, Any],
        request: object,
        name_range: NameRange | None = None,
        before_writing: Callable[[Index], None] | None = None,
    ) -> Manifest:
        """Write the index over `parts` and return the manifest. Arguments and errors are those of `publish` below."""
        index = build_index(
            bucket=bucket,
            prefixes=prefixes,
            parts=parts,
            listed_at=listed_at,
            stats=stats,
            request=request,
            name_range=name_range,
        )
        if before_writing is not None:
            before_writing(index)
        replaced = self._put(index)
        self._cleanup.remove_left(self.directory)
        kept = {part.path for part in index.parts}
        _delete_all(
            self._cleanup,
            self.directory,
            [path for path in replaced if path not in kept],
            "which belonged to the manifest that was replaced",
        )
        return Manifest(
            index=index, source=PartedRows(self._files, self.directory, index), uri=self.directory, shard=None
        )

    def delete_parts(self) -> None:
        """Delete the parts of this draft that the index it has published does not name. Never raises."""
        start = f"part-{self._run_id}-"
        try:
            own = [name for name in self._cleanup.names(self.directory) if name.startswith(start)]
        except (DatafluxError, OSError) as error:
            _logger.warning(
                "Could not look in %s for the parts %s* of a manifest that was not published. They may still be there, "
                "and no manifest reads them: %s",
                self.directory,
                start,
                error,
            )
            return
        unneeded = [name for name in own if name not in self._needed]
        _delete_all(self._cleanup, self.directory, unneeded, "a part that no manifest needs")

    def _put(self, index: Index) -> list[str]:
        """Put the index in place; return the paths of what belonged to the manifest that it replaced."""
        uri = join_uri(self.directory, INDEX_NAME)
        data = encode_index(index)
        for attempt in range(1, _PUBLISH_ATTEMPTS + 1):
            found = self._files.find(uri, most_bytes=INDEX_MOST_BYTES)
            if found is not None:
                check_is_index(found.data, uri)
            self._replaces, self._sent = found, data
            try:
                self._files.replace(uri, data, found)
                self._published, self._needed = True, frozenset(part.path for part in index.parts)
                return _earlier_files(found, uri)
            except PreconditionFailedError as error:
                # Somebody else published since we looked. If an earlier attempt of ours may have been carried out, and
                # its index been replaced with its parts deleted, then publishing it again would name missing parts.
                if error.details.get("attempts", 1) > 1 or attempt == _PUBLISH_ATTEMPTS:
                    raise ManifestConflictError(
                        f"Another task published a manifest at {self.directory} at the same time: that one "
                        "is there. Give each listing a manifest_uri of its own, or let one run after the other.",
                        uri=self.directory,
                    ) from error
        raise AssertionError("the last attempt returns or raises")

    def _may_delete(self, error: BaseException | None) -> bool:
        """Return whether no index names the parts, now and for ever."""
        if self._sent is None:
            return True
        uri = join_uri(self.directory, INDEX_NAME)
        try:
            found = self._cleanup.find(uri, most_bytes=INDEX_MOST_BYTES)
        except (DatafluxError, OSError) as problem:
            _logger.warning("Could not read back %s: %s", uri, problem)
            self._warn_of_parts()
            return False
        if found is not None and found.data == self._sent:
            _logger.warning(
                "The manifest at %s was published, complete, although its task fails: %s", self.directory, error
            )
            return False
        scheme = parse_location(uri).scheme
        another = scheme == "gs" and _generation(found) != _generation(self._replaces)
        if scheme == "file" or another or _surely_refused(error):
            return True
        self._warn_of_parts()
        return False

    def _warn_of_parts(self) -> None:
        _logger.warning(
            "The manifest at %s may have been published, so its parts part-%s-* are kept. Delete them if its "
            "manifest.json does not name them.",
            self.directory, self._run_id,
        )  # fmt: skip


def publish(
    files: ManifestFiles,
    *,
    manifest_uri: str,
    bucket: str,
    prefixes: Sequence[str],
    parts: Sequence[PartInfo],
    listed_at: datetime,
    stats: Mapping[str, Any],
    request: object,
    name_range: NameRange | None = None,
    before_writing: Callable[[Index], None] | None = None,
) -> Manifest:
    """Write the index over `parts` and return the manifest.

    Args:
        files: where to write.
        manifest_uri: directory of the manifest; an earlier manifest there is replaced.
        bucket: bare name of the bucket that was listed.
        prefixes: prefixes that were listed.
        parts: all parts, in any order; none for an empty listing. They stay whatever happens.
        listed_at: start of the listing, aware.
        stats: JSON-safe; travels in every whole reference, so keep it below about 1 KB.
        request: what was asked for: a JSON-safe mapping or a dataclass; kept in the index only.
        name_range: the only names that were listed; None: all.
        before_writing: sees the index before it is written. What it raises ends the publication: there is no new
            manifest then, and an earlier one is untouched.

    Raises ManifestError if parts overlap, ManifestConflictError if somebody else publishes there at the same time, and
    what writing raises. What cannot be deleted of the earlier manifest is logged as a warning by its URI.
    """
    return ManifestDraft(files, manifest_uri, "").publish(
        bucket=bucket,
        prefixes=prefixes,
        parts=parts,
        listed_at=listed_at,
        stats=stats,
        request=request,
        name_range=name_range,
        before_writing=before_writing,
    )


def inline(
    bucket: str,
    prefixes: Sequence[str],
    batches: Iterable[pa.RecordBatch],
    *,
    listed_at: datetime,
    stats: Mapping[str, Any],
    request: object = None,
    name_range: NameRange | None = None,
) -> Manifest:
    """Return a manifest that holds its rows itself, for listings small enough for XCom.

    Args:
        bucket: bare name of the bucket that was listed.
        prefixes: prefixes that were listed.
        batches: rows in `ROW_SCHEMA`; each batch sorted, and no two overlapping, in any order.
        listed_at: start of the listing, aware.
        stats: JSON-safe; travels in every reference.
        request: as for `publish`; not kept by references.
        name_range: as for `publish`.

    Raises ManifestTooLargeError as soon as the rows exceed `INLINE_MAX_BYTES`, ManifestError if they overlap.
    """
    rows = collect(batches)
    index = inline_index(
        rows,
        bucket=bucket,
        prefixes=prefixes,
        listed_at=listed_at,
        stats=stats,
        request=request or {},
        name_range=name_range,
    )
    return Manifest(index=index, source=InlineRows(rows), uri=None, shard=None)


def _earlier_files(found: StoredFile | None, uri: str) -> list[str]:
    """Return the paths of what belongs to the manifest of an index, but for the index itself: none if there is none."""
    if found is None:
        return []
    try:
        earlier = decode_index(found.data, uri)
    except ManifestError:
        # Damaged, or of a newer version: then nothing says which files are its own, and nothing is deleted.
        return []
    # Only files directly in the directory: what a join took over from elsewhere belongs to another manifest.
    return [part.path for part in earlier.parts if "/" not in part.path]


def _generation(found: StoredFile | None) -> int | None:
    return None if found is None else found.generation


def _surely_refused(error: BaseException | None) -> bool:
    """Return whether an upload was answered, once, with a status that says that nothing was done."""
    if not isinstance(error, StoreError) or error.details.get("attempts") != 1:
        return False
    status = error.details.get("status")
    return status is not None and 400 <= status < 500 and status != 408


def _delete_all(files: ManifestFiles, directory: str, paths: Sequence[str], which: str) -> None:
    """Delete files of a directory, several at once. What cannot be deleted is named in a warning, never an error."""

    def delete(path: str) -> None:
        uri = join_uri(directory, path)
        try:
            files.delete(uri)
        except (DatafluxError, OSError) as error:
            _logger.warning("Could not delete %s, %s: %s", uri, which, error)

    if not paths:
        return
    with ThreadPool(min(DELETES_IN_FLIGHT, len(paths)), "dataflux-delete") as deleters:
        try:
            list(deleters.map(delete, paths))
        except EngineError:  # no more threads: what another one deletes meanwhile is gone, which is success
            for path in paths:
                delete(path)
