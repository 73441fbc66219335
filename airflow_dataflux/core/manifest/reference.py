"""References: the plain dicts that stand for manifests in XCom.

A whole manifest's reference has every key of the fixed interface. A shard's is as small as it can be, because a mapped
task's list of them is one database row: format, uri, fingerprint (of the whole manifest) and shard; the rest is in the
index at the URI. A shard of an inline manifest carries its own rows only.

Guarantee: what a reference opens is what it was made from. The fingerprint is compared with the index at the URI, or
with the rows that the reference carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_dataflux.core.arrowcompute import total
from airflow_dataflux.core.errors import InvalidRequestError, ManifestChangedError
from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.manifest.fingerprint import Digest
from airflow_dataflux.core.manifest.index import Index
from airflow_dataflux.core.manifest.inlining import decode_objects, encode_objects
from airflow_dataflux.core.manifest.manifest import Manifest, Shard
from airflow_dataflux.core.manifest.reader import InlineRows
from airflow_dataflux.core.manifest.schema import FORMAT

if TYPE_CHECKING:
    import pyarrow as pa


def make_reference(manifest: Manifest) -> dict[str, Any]:
    """Return the reference of a manifest or of a shard."""
    index, shard = manifest.index, manifest.shard_info
    identity = {"format": FORMAT, "uri": manifest.uri}
    if shard is None:
        objects = None if manifest.uri else _all_objects(manifest)
        return {**identity, "objects": objects, **_facts(index), "stats": manifest.stats}
    piece = {
        "index": shard.index,
        "count": shard.count,
        "object_count": shard.object_count,
        "total_bytes": shard.total_bytes,
        "start": shard.start,
    }
    if manifest.uri:
        return {**identity, "fingerprint": index.fingerprint, "shard": piece}
    return {**identity, "objects": _all_objects(manifest), **_facts(index), "shard": piece}


def open_reference(reference: Mapping[str, Any] | str, store: Store | None) -> Manifest:
    """Open a reference, a shard reference or a URI. Errors: see `Manifest.from_reference`."""
    if isinstance(reference, str):
        if reference.lstrip().startswith(("{", "[")):
            raise InvalidRequestError(
                "Got the text of a manifest reference instead of the reference. Pass the listing's .output (or set "
                "render_template_as_native_obj=True on the DAG), or a manifest's URI."
            )
        return Manifest.open(reference, store=store)
    if not isinstance(reference, Mapping):
        hint = " To stage a list of shards, map over it: .partial(...).expand(manifest=...)." * isinstance(
            reference, list
        )
        raise InvalidRequestError(f"A manifest reference is a dict or a URI, got {type(reference).__name__}.{hint}")
    if reference.get("format") != FORMAT:
        raise InvalidRequestError(
            f"This is no manifest reference: its format is {reference.get('format')!r}, expected {FORMAT!r}. Pass what "
            "FastListOperator returned, or a manifest's URI."
        )
    shard = _shard(reference)
    uri = reference.get("uri")
    if uri is None:
        return _open_inline(reference, shard)
    if not isinstance(uri, str) or not isinstance(reference.get("fingerprint"), str):
        raise InvalidRequestError("A manifest reference needs a uri and a fingerprint, both strings.")
    manifest = Manifest.open(uri, store=store)
    if manifest.fingerprint != reference["fingerprint"]:
        raise ManifestChangedError(
            f"The manifest at {uri} was replaced: the reference was made from {reference['fingerprint']}, there is "
            f"{manifest.fingerprint} now, listed at {manifest.listed_at.isoformat()}. Run the listing and what follows "
            "again, and give each run a manifest_uri of its own, such as one with {{ run_id }} in it.",
            uri=uri,
            expected=reference["fingerprint"],
            found=manifest.fingerprint,
        )
    return manifest if shard is None else _piece_of(manifest, shard)


def _facts(index: Index) -> dict[str, Any]:
    names = index.name_range
    return {
        "bucket": index.bucket,
        "prefixes": list(index.prefixes),
        "object_count": index.object_count,
        "total_bytes": index.total_bytes,
        "fingerprint": index.fingerprint,
        "listed_at": index.listed_at.isoformat(),
        **({} if names is None else {"name_range": {"start": names.start, "end": names.end}}),
    }


def _all_objects(manifest: Manifest) -> list[list[Any]]:
    return [values for batch in manifest.batches() for values in encode_objects(batch)]


def _shard(reference: Mapping[str, Any]) -> Shard | None:
    if reference.get("shard") is None:
        return None
    try:
        shard = msgspec.convert(reference["shard"], Shard)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f'The "shard" of this manifest reference is damaged: {error}.') from error
    if not (0 <= shard.index < shard.count and shard.object_count > 0 and shard.start >= 0 and shard.total_bytes >= 0):
        raise InvalidRequestError(f'The "shard" of this manifest reference is impossible: {shard}.')
    return shard


def _piece_of(manifest: Manifest, shard: Shard) -> Manifest:
    if shard.start + shard.object_count > len(manifest):
        raise InvalidRequestError(
            f"The shard reference names rows up to {shard.start + shard.object_count}, and the manifest at "
            f"{manifest.uri} has {len(manifest)}. Use shard references as they were returned."
        )
    return manifest.piece(shard)


def _open_inline(reference: Mapping[str, Any], shard: Shard | None) -> Manifest:
    objects = reference.get("objects")
    if not isinstance(objects, list):
        raise InvalidRequestError("A manifest reference needs a uri or a list of objects; this one has neither.")
    rows = decode_objects(objects)
    try:
        facts = {key: value for key, value in reference.items() if key not in ("objects", "uri", "shard")}
        index = msgspec.convert(facts, Index)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"This manifest reference is damaged: {error}.") from error
    expected = shard or index
    found = (rows.num_rows, _bytes(rows))
    wrong_data = shard is None and Digest().extend(rows).fingerprint() != index.fingerprint
    if found != (expected.object_count, expected.total_bytes) or wrong_data:
        raise InvalidRequestError(
            f"The objects of this manifest reference are not those it was made with: expected {expected.object_count} "
            f"of {expected.total_bytes} bytes, got {found[0]} of {found[1]}. Pass references on as they were returned."
        )
    source = InlineRows(rows)
    return Manifest(index=index, source=source, uri=None, shard=shard, source_start=shard.start if shard else 0)


def _bytes(rows: pa.RecordBatch) -> int:
    return total(rows.column("size"))
