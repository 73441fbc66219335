"""References: the plain dicts that stand for manifests in XCom.

A whole manifest's reference has every key of the fixed interface. A shard's is as small as it can be, because a mapped
task's list of them is one database row: uri, fingerprint (of the whole manifest) and shard; the rest, the format too,
is in the index at the URI. A shard of an inline manifest carries its own rows only.

Guarantee: a reference that is read here is right in itself: the rows that it carries are those it was made with. What
lies at its URI is for whoever opens it to compare (`Manifest.from_reference`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from airflow_dataflux.core.arrow import total
from airflow_dataflux.core.config import check_bucket_name
from airflow_dataflux.core.errors import InvalidRequestError, ManifestError
from airflow_dataflux.core.manifest.fingerprint import Digest
from airflow_dataflux.core.manifest.index import Index
from airflow_dataflux.core.manifest.inlining import decode_objects, encode_objects
from airflow_dataflux.core.manifest.schema import FORMAT
from airflow_dataflux.core.manifest.sharding import Shard


class StoredReference(msgspec.Struct, frozen=True):
    """A reference to a manifest at a URI.

    Attributes:
        uri: directory of the manifest.
        fingerprint: of the whole manifest; None for a bare URI.
        bucket: that was listed; None where the reference does not say.
        shard: which piece it is, None for a whole manifest.
    """

    uri: str
    fingerprint: str | None = None
    bucket: str | None = None
    shard: Shard | None = None


class InlineReference(msgspec.Struct, frozen=True):
    """A reference that carries its rows; `index` describes the whole manifest, `rows` are the shard's if it is one."""

    index: Index
    rows: pa.RecordBatch
    shard: Shard | None = None


def make_reference(
    index: Index, *, uri: str | None, shard: Shard | None, batches: Iterable[pa.RecordBatch]
) -> dict[str, Any]:
    """Return the reference of a manifest or of a shard; `batches` are only read if it has no URI."""
    if shard is None:
        objects = None if uri else _objects(batches)
        return {"format": FORMAT, "uri": uri, "objects": objects, **_facts(index), "stats": dict(index.stats)}
    piece = {
        "index": shard.index,
        "count": shard.count,
        "object_count": shard.object_count,
        "total_bytes": shard.total_bytes,
        "start": shard.start,
    }
    if uri:
        return {"uri": uri, "fingerprint": index.fingerprint, "shard": piece}
    return {"uri": None, "objects": _objects(batches), **_facts(index), "shard": piece}


def read_reference(reference: Mapping[str, Any] | str) -> StoredReference | InlineReference:
    """Read a reference, a shard reference or a URI. Raises InvalidRequestError for anything else."""
    if isinstance(reference, str):
        if reference.lstrip().startswith(("{", "[")):
            raise InvalidRequestError(
                "Got the text of a manifest reference instead of the reference. Pass the listing's .output (or set "
                "render_template_as_native_obj=True on the DAG), or a manifest's URI."
            )
        return StoredReference(reference)
    if not isinstance(reference, Mapping):
        hint = " To stage a list of shards, map over it: .partial(...).expand(manifest=...)." * isinstance(
            reference, list
        )
        raise InvalidRequestError(f"A manifest reference is a dict or a URI, got {type(reference).__name__}.{hint}")
    form = reference.get("format")
    if isinstance(form, str) and form != FORMAT and form.startswith(FORMAT.rpartition("/")[0]):
        raise ManifestError(
            f"This manifest reference has the format {form!r}, this version reads {FORMAT!r}. Upgrade "
            "airflow-provider-dataflux, or list the bucket again."
        )
    if form != FORMAT and not (form is None and "shard" in reference):
        raise InvalidRequestError(
            f"This is no manifest reference: its format is {form!r}, expected {FORMAT!r}. Pass what "
            "FastListOperator returned, or a manifest's URI."
        )
    shard = _shard(reference)
    uri = reference.get("uri")
    if uri is None:
        return _read_inline(reference, shard)
    if not isinstance(uri, str) or not isinstance(reference.get("fingerprint"), str):
        raise InvalidRequestError("A manifest reference needs a uri and a fingerprint, both strings.")
    return StoredReference(uri, reference["fingerprint"], reference.get("bucket"), shard)


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


def _objects(batches: Iterable[pa.RecordBatch]) -> list[list[Any]]:
    return [values for batch in batches for values in encode_objects(batch)]


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


def _read_inline(reference: Mapping[str, Any], shard: Shard | None) -> InlineReference:
    objects = reference.get("objects")
    if not isinstance(objects, list):
        raise InvalidRequestError("A manifest reference needs a uri or a list of objects; this one has neither.")
    rows = decode_objects(objects)
    try:
        facts = {key: value for key, value in reference.items() if key not in ("objects", "uri", "shard")}
        index = msgspec.convert({"format": FORMAT, **facts}, Index)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"This manifest reference is damaged: {error}.") from error
    check_bucket_name(index.bucket)
    expected = shard or index
    found = (rows.num_rows, total(rows.column("size")))
    wrong_data = shard is None and Digest().extend(rows).fingerprint() != index.fingerprint
    if found != (expected.object_count, expected.total_bytes) or wrong_data:
        raise InvalidRequestError(
            f"The objects of this manifest reference are not those it was made with: expected {expected.object_count} "
            f"of {expected.total_bytes} bytes, got {found[0]} of {found[1]}. Pass references on as they were returned."
        )
    return InlineReference(index, rows, shard)
