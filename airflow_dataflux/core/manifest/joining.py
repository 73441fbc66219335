"""Joining manifests of disjoint name ranges into one, for listings mapped over ranges.

`join_ranges` is for listings that share the work of one: it first proves that they are all of it. It looks at
what the listings say they covered, not at the names they found, so an empty range counts and a missing one is missed.
`join` takes any disjoint manifests of a bucket.

Guarantees: parts are not copied: the joined index refers to the parts where they are, relative to its own directory
where they are below it. So a joined manifest lives as long as its sources do: give each range a manifest_uri below the
joined one, and keep them together. Replacing a joined manifest deletes no part of its sources.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from airflow_dataflux.core.errors import InvalidRequestError, ManifestError
from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.index import Index, what_was_asked
from airflow_dataflux.core.manifest.location import INDEX_NAME, join_uri, manifest_location, relative_path
from airflow_dataflux.core.manifest.manifest import Manifest
from airflow_dataflux.core.manifest.parts import PartInfo, PartWriter
from airflow_dataflux.core.manifest.publishing import ManifestDraft
from airflow_dataflux.core.namerange import NameRange


def join_ranges(
    manifests: Sequence[Manifest],
    *,
    manifest_uri: str,
    store: Store | None = None,
    before_writing: Callable[[Index], None] | None = None,
) -> Manifest:
    """Join the listings of name ranges into what one listing of all names would have been.

    Same objects, same fingerprint. Raises ManifestError if a range is missing or was listed twice, or if the listings
    were asked for different things; and what `join` raises. Nothing is written then.
    """
    _check(manifests, manifest_location(manifest_uri).uri)
    prove_ranges_complete(manifests)
    return join(
        manifests, manifest_uri=manifest_uri, store=store, stats=_summed(manifests), before_writing=before_writing
    )


def join(
    manifests: Sequence[Manifest],
    *,
    manifest_uri: str,
    store: Store | None = None,
    stats: Mapping[str, Any] | None = None,
    before_writing: Callable[[Index], None] | None = None,
) -> Manifest:
    """Write one index over the parts of `manifests` and return the joined manifest.

    Args:
        manifests: whole manifests of one bucket whose name ranges do not overlap, in any order; empty and inline ones
            are welcome (the rows of inline ones are written as parts).
        manifest_uri: directory of the joined manifest; it must be none of theirs.
        store: for gs://.
        stats: of the joined listing; None says how many were joined.
        before_writing: sees the index before it is written, as in `publish`.

    Raises InvalidRequestError for shards, different buckets, no manifests at all, or a taken directory; ManifestError
    if names overlap; and what reading and writing raises.
    """
    directory = manifest_location(manifest_uri).uri
    _check(manifests, directory)
    files = ManifestFiles(store)
    files.check_replaceable(join_uri(directory, INDEX_NAME))
    run = secrets.token_hex(6)
    parts: list[PartInfo] = []
    with ManifestDraft(files, directory, f"join-{run}") as draft:
        for number, manifest in enumerate(manifests):
            if manifest.uri is not None:
                parts += _moved(manifest, directory)
                continue
            writer = PartWriter(files, directory, f"join-{run}-{number}")
            for batch in manifest.batches():
                writer.append(batch)
            parts += writer.finish()
        return draft.publish(
            bucket=manifests[0].bucket,
            prefixes=list(dict.fromkeys(prefix for manifest in manifests for prefix in manifest.prefixes)),
            parts=parts,
            listed_at=min(manifest.listed_at for manifest in manifests),
            stats=stats if stats is not None else {"joined": len(manifests)},
            request={"joined": [manifest.request for manifest in manifests]},
            before_writing=before_writing,
        )


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


def prove_ranges_complete(manifests: Sequence[Manifest]) -> None:
    """Prove that listings, each of one name range, are together one listing of all names. Pure.

    Raises ManifestError, naming the range, unless the ranges, in order, begin before every name, follow one another
    without a gap or an overlap, and end after every name, and all listings were asked for the same.
    """
    _check_alike(manifests)
    ranges = sorted((manifest.name_range or NameRange() for manifest in manifests), key=lambda names: names.start)
    reached: str | None = ""
    for names in ranges:
        if reached is None or names.start < reached:
            raise ManifestError(
                f"The names from {names.start!r} were listed twice: another range goes on to {_end(reached)}. "
                "Join each range once, and only ranges of one division.",
                names=names,
            )
        if names.start > reached:
            raise _missing(NameRange(reached, names.start))
        reached = names.end
    if reached is not None:
        raise _missing(NameRange(reached))


def _check_alike(manifests: Sequence[Manifest]) -> None:
    first = manifests[0]
    for manifest in manifests[1:]:
        if manifest.prefixes != first.prefixes:
            raise ManifestError(
                f"The listings are of different prefixes: {list(first.prefixes)} and {list(manifest.prefixes)}. "
                "Give every range the same prefixes and filters."
            )
        # An inline manifest that came through XCom does not know what was asked for.
        asked, other = what_was_asked(first.request), what_was_asked(manifest.request)
        if asked and other and asked != other:
            different = sorted(key for key in asked.keys() | other.keys() if asked.get(key) != other.get(key))
            raise ManifestError(
                f"The listings were asked for different things ({', '.join(different)}): give every range the same "
                f"prefixes and filters. {_text(first.name_range)} was asked for {asked}, "
                f"{_text(manifest.name_range)} for {other}."
            )


def _missing(names: NameRange) -> ManifestError:
    return ManifestError(
        f"The name range {_text(names)} is missing: none of the manifests covers it. Was the task that lists it "
        "skipped, or left out? Run it, and join again.",
        names=names,
    )


def _text(names: NameRange | None) -> str:
    names = names or NameRange()
    return f"[{names.start!r}, {_end(names.end)})"


def _end(end: str | None) -> str:
    return "the end of all names" if end is None else repr(end)
