"""Manifests that are made of other manifests' rows: selections, splits, unions.

Guarantees: rows keep their generations, and a derived manifest stands for itself: its rows are copied, so it lives on
when its source is replaced. It says in its `request` what it was made of, and how. Each manifest appears whole or not
at all; of several splits the parts of all are written before the first index is. Everything streams.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pyarrow as pa

from airflow_dataflux.core.arrow import ROW_SCHEMA, compute, from_buffers
from airflow_dataflux.core.config import SelectRequest
from airflow_dataflux.core.errors import EmptyListingError, InvalidRequestError, ManifestError, SkippedError
from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.manifest.diff import SortedStream
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.inlining import InlineCollector
from airflow_dataflux.core.manifest.location import INDEX_NAME, join_uri, manifest_location
from airflow_dataflux.core.manifest.manifest import Manifest
from airflow_dataflux.core.manifest.parts import PartWriter
from airflow_dataflux.core.manifest.publishing import ManifestDraft, inline
from airflow_dataflux.core.manifest.selecting import Selection, SelectionCounts

_MOST_CLASSES_IN_STATS = 20
"""Classes whose counts travel in a reference; the index has them all."""


def select(manifest: Manifest, request: SelectRequest, *, store: Store | None = None) -> dict[str, Manifest]:
    """Return the manifests that `request` makes of the rows of `manifest`, by the splits' names; "" without splits.

    With a `manifest_uri` they are written there, those of splits below it; else they carry their rows themselves.

    Raises EmptyListingError or SkippedError, before anything is published, where nothing was selected and `on_empty`
    says so; InvalidRequestError for parameters that cannot be meant, ManifestTooLargeError where rows do not fit into a
    reference and there is no `manifest_uri`, and what reading and writing raises.
    """
    selection = Selection(manifest, request)
    source = {
        "selected_from": {"uri": manifest.uri, "fingerprint": manifest.fingerprint},
        "selection": request.as_plain_data(),
    }
    if request.manifest_uri is None:
        collectors = {name: InlineCollector() for name in selection.outputs}
        for name, batch in selection.batches():
            collectors[name].append(batch)
        _check_empty(selection.counts, request, manifest)
        return {
            name: inline(
                manifest.bucket,
                manifest.prefixes,
                [collector.rows()],
                listed_at=manifest.listed_at,
                stats=_stats(manifest, selection.counts, name),
                request={**source, "class_counts": _class_counts(selection.counts, name)},
            )
            for name, collector in collectors.items()
        }
    whole = manifest_location(request.manifest_uri).uri
    places = {name: join_uri(whole, name) if name else whole for name in selection.outputs}
    if manifest.uri in places.values():
        raise InvalidRequestError(
            f"The selection would replace {manifest.uri}, which it is made of. Choose another manifest_uri."
        )
    files = ManifestFiles(store)
    with ExitStack() as drafts:
        writers: dict[str, _Writer] = {name: _Writer(files, uri, drafts) for name, uri in places.items()}
        for name, batch in selection.batches():
            writers[name].parts.append(batch)
        _check_empty(selection.counts, request, manifest)
        finished = {name: writer.parts.finish() for name, writer in writers.items()}
        return {
            name: writer.draft.publish(
                bucket=manifest.bucket,
                prefixes=manifest.prefixes,
                parts=finished[name],
                listed_at=manifest.listed_at,
                stats=_stats(manifest, selection.counts, name),
                request={**source, "class_counts": _class_counts(selection.counts, name)},
            )
            for name, writer in writers.items()
        }


def unite(manifests: Sequence[Manifest], *, manifest_uri: str | None = None, store: Store | None = None) -> Manifest:
    """Return one manifest of all objects of `manifests`, which are of one bucket; what several have is in it once.

    Raises InvalidRequestError for different buckets or a taken `manifest_uri`, ManifestError if two manifests have the
    same name with different generations, ManifestTooLargeError as `select` does, and what reading and writing raises.
    """
    buckets = sorted({manifest.bucket for manifest in manifests})
    if len(buckets) > 1:
        raise InvalidRequestError(f"Manifests of different buckets cannot be united: {', '.join(buckets)}.")
    described: dict[str, Any] = {
        "prefixes": list(dict.fromkeys(prefix for manifest in manifests for prefix in manifest.prefixes)),
        "listed_at": min(manifest.listed_at for manifest in manifests),
        "stats": {"united": len(manifests)},
        "request": {"united": [{"uri": each.uri, "fingerprint": each.fingerprint} for each in manifests]},
    }
    rows = _merged(manifests)
    if manifest_uri is None:
        prefixes = described.pop("prefixes")
        return inline(buckets[0], prefixes, rows, **described)
    directory = manifest_location(manifest_uri).uri
    if directory in [manifest.uri for manifest in manifests]:
        raise InvalidRequestError(
            f"The union would replace {directory}, which is one of those to unite. Choose another manifest_uri."
        )
    files = ManifestFiles(store)
    with ExitStack() as drafts:
        writer = _Writer(files, directory, drafts)
        for batch in rows:
            writer.parts.append(batch)
        return writer.draft.publish(bucket=buckets[0], parts=writer.parts.finish(), **described)


class _Writer:
    """The parts of one manifest to be, and its draft, which lasts as long as `drafts`."""

    def __init__(self, files: ManifestFiles, uri: str, drafts: ExitStack) -> None:
        files.check_replaceable(join_uri(uri, INDEX_NAME))
        run = secrets.token_hex(6)
        self.draft = drafts.enter_context(ManifestDraft(files, uri, run))
        self.parts = PartWriter(files, uri, f"{run}-0")


def _merged(manifests: Sequence[Manifest]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all manifests in order, each name once. Memory: a row group of each."""
    streams = [SortedStream(manifest.batches()) for manifest in manifests]
    while ends := [stream.last_name for stream in streams if stream.last_name is not None]:
        bound = min(ends)
        taken = [rows for stream in streams if (rows := stream.take(bound)).num_rows]
        if len(taken) == 1:
            yield taken[0]
            continue
        table = pa.Table.from_batches(taken, ROW_SCHEMA).combine_chunks()
        rows = table.to_batches()[0]
        rows = compute("take", rows, compute("array_sort_indices", rows.column("name")))
        yield _without_repetition(rows)


def _without_repetition(rows: pa.RecordBatch) -> pa.RecordBatch:
    names, generations = rows.column("name"), rows.column("generation")
    repeated = compute("equal", names[:-1], names[1:])
    if not repeated.true_count:
        return rows
    other = compute("and", repeated, compute("not_equal", generations[:-1], generations[1:]))
    if other.true_count:
        at = other.to_pylist().index(True)
        raise ManifestError(
            f"{names[at].as_py()!r} is in two manifests with the generations {generations[at].as_py()} and "
            f"{generations[at + 1].as_py()}: it changed between the listings. Unite manifests of one listing, or list "
            "the bucket again."
        )
    kept = pa.concat_arrays([from_buffers(pa.bool_(), 1, b"\1"), compute("invert", repeated)])
    return compute("filter", rows, kept)


def _check_empty(counts: SelectionCounts, request: SelectRequest, manifest: Manifest) -> None:
    if counts.samples.total() or request.on_empty == "continue":
        return
    dropped = ", ".join(f"{count:,} by {name}" for name, count in counts.dropped.items())
    message = (
        f"The selection from {manifest.uri or 'the manifest'} took none of its {counts.considered:,} objects"
        f"{f' (left out: {dropped})' if dropped else ''}, and on_empty is {request.on_empty!r}. Nothing was published."
    )
    raise SkippedError(message) if request.on_empty == "skip" else EmptyListingError(message)


def _stats(manifest: Manifest, counts: SelectionCounts, name: str) -> dict[str, Any]:
    classes = _class_counts(counts, name)
    return {
        "selected_from": manifest.fingerprint,
        "considered": counts.considered,
        "dropped": dict(counts.dropped),
        "samples": counts.samples[name],
        **({"classes": classes} if 0 < len(classes) <= _MOST_CLASSES_IN_STATS else {}),
    }


def _class_counts(counts: SelectionCounts, name: str) -> dict[str, int]:
    """Return the samples of each class, by class; "" are those of none."""
    return {
        found or "": count
        for found, count in sorted(counts.classes.get(name, {}).items(), key=lambda one: one[0] or "")
    }
