"""Joining manifests of disjoint name ranges into one, for listings mapped over ranges.

`join_ranges` is for listings that share the work of one: it first proves that they are all of it (`tiling.py`). `join`
takes any disjoint manifests of a bucket.

Guarantees: parts are not copied: the joined index refers to the parts where they are, relative to its own directory
where they are below it. So a joined manifest lives as long as its sources do: give each range a manifest_uri below the
joined one, and keep them together. Replacing a joined manifest deletes no part of its sources.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.location import join_uri, manifest_location, relative_path
from airflow_dataflux.core.manifest.manifest import Manifest
from airflow_dataflux.core.manifest.parts import PartInfo, PartWriter
from airflow_dataflux.core.manifest.publishing import publish
from airflow_dataflux.core.manifest.tiling import prove_tiling


def join_ranges(manifests: Sequence[Manifest], *, manifest_uri: str, store: Store | None = None) -> Manifest:
    """Join the listings of name ranges into what one listing of all names would have been.

    Same objects, same fingerprint. Raises ManifestError if a range is missing or was listed twice, or if the listings
    were asked for different things; and what `join` raises. Nothing is written then.
    """
    _check(manifests, manifest_location(manifest_uri).uri)
    prove_tiling(manifests)
    return join(manifests, manifest_uri=manifest_uri, store=store, stats=_summed(manifests))


def join(
    manifests: Sequence[Manifest],
    *,
    manifest_uri: str,
    store: Store | None = None,
    stats: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write one index over the parts of `manifests` and return the joined manifest.

    Args:
        manifests: whole manifests of one bucket whose name ranges do not overlap, in any order; empty and inline ones
            are welcome (the rows of inline ones are written as parts).
        manifest_uri: directory of the joined manifest; it must be none of theirs.
        store: for gs://.
        stats: of the joined listing; None says how many were joined.

    Raises InvalidRequestError for shards, different buckets, no manifests at all, or a taken directory; ManifestError
    if names overlap; and what reading and writing raises.
    """
    directory = manifest_location(manifest_uri).uri
    _check(manifests, directory)
    files = ManifestFiles(store)
    run = secrets.token_hex(6)
    parts: list[PartInfo] = []
    writers: list[PartWriter] = []
    try:
        for number, manifest in enumerate(manifests):
            if manifest.uri is not None:
                parts += _moved(manifest, directory)
                continue
            writers.append(PartWriter(files, directory, f"join-{run}-{number}"))
            for batch in manifest.batches():
                writers[-1].append(batch)
            parts += writers[-1].finish()
        return publish(
            files,
            manifest_uri=directory,
            bucket=manifests[0].bucket,
            prefixes=list(dict.fromkeys(prefix for manifest in manifests for prefix in manifest.prefixes)),
            parts=parts,
            listed_at=min(manifest.listed_at for manifest in manifests),
            stats=stats if stats is not None else {"joined": len(manifests)},
            request={"joined": [manifest.request for manifest in manifests]},
        )
    except BaseException:
        for writer in writers:
            writer.abandon()
        raise


def _check(manifests: Sequence[Manifest], directory: str) -> None:
    if not manifests:
        raise InvalidRequestError("There are no manifests to join: give at least one.")
    buckets = sorted({manifest.bucket for manifest in manifests})
    if len(buckets) > 1:
        raise InvalidRequestError(f"Manifests of different buckets cannot be joined: {', '.join(buckets)}.")
    for manifest in manifests:
        if manifest.shard_info is not None:
            raise InvalidRequestError(f"{manifest!r} is a shard: join whole manifests.")
        if manifest.uri == directory:
            raise InvalidRequestError(
                f"The joined manifest would replace {directory}, which is one of those to join. Choose another "
                "manifest_uri, such as the directory above it."
            )


def _summed(manifests: Sequence[Manifest]) -> dict[str, Any]:
    """Return how many were joined and the sums of what they counted; what cannot be added up stays with them."""
    counted = ("requests", "wasted_requests", "retries", "throttled", "listed")
    stats = [manifest.stats for manifest in manifests]
    return {"joined": len(manifests), **{name: sum(each.get(name, 0) for each in stats) for name in counted}}


def _moved(manifest: Manifest, directory: str) -> list[PartInfo]:
    """Return the manifest's parts with paths as seen from `directory`."""
    return [
        msgspec.structs.replace(part, path=relative_path(directory, join_uri(str(manifest.uri), part.path)))
        for part in manifest.index.parts
    ]
