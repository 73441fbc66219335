"""The index: the small JSON file that makes parts a manifest.

Guarantees: it is written last, so a directory without an index is no manifest; what is decoded here is consistent in
itself (parts sorted and disjoint, counts and fingerprint those of the parts), so that a cut or edited index is found
when it is opened, not when its rows are missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from airflow_dataflux.core.config import check_bucket_name
from airflow_dataflux.core.errors import InvalidRequestError, ManifestError, ManifestNotFoundError
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.fingerprint import Digest
from airflow_dataflux.core.manifest.location import INDEX_NAME, join_uri, parse_location
from airflow_dataflux.core.manifest.parts import PartInfo
from airflow_dataflux.core.manifest.schema import FORMAT, PART_MOST_BYTES, PART_MOST_ROWS
from airflow_dataflux.core.namerange import NameRange


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a manifest without reading its rows. An inline manifest has one too, without parts.

    Attributes:
        format: `FORMAT`.
        bucket: bare name of the bucket that was listed.
        prefixes: prefixes that were listed.
        object_count, total_bytes: of all rows.
        fingerprint: of all rows.
        listed_at: start of the listing, aware.
        request: what was asked for, JSON-safe; for people and reports.
        stats: what the listing counted, JSON-safe.
        parts: sorted by first name, disjoint.
        name_range: the only names that were listed, where several listings share the work; None: all names.
    """

    format: str
    bucket: str
    prefixes: tuple[str, ...]
    object_count: int
    total_bytes: int
    fingerprint: str
    listed_at: datetime
    request: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    parts: tuple[PartInfo, ...] = ()
    name_range: NameRange | None = None


INDEX_MOST_BYTES = 512 << 20
"""Largest index that is read: 50 KB per million objects make one of 10,000 million."""


class _FormatOnly(msgspec.Struct):
    format: str


_INDEX = msgspec.json.Decoder(Index)
_FORMAT_ONLY = msgspec.json.Decoder(_FormatOnly)


def build_index(
    *,
    bucket: str,
    prefixes: Sequence[str],
    parts: Sequence[PartInfo],
    listed_at: datetime,
    stats: Mapping[str, Any],
    request: object,
    name_range: NameRange | None = None,
) -> Index:
    """Describe `parts`, given in any order.

    `request` is anything msgspec can turn into a JSON object (a mapping or a dataclass).
    Raises ManifestError if parts overlap, InvalidRequestError if `listed_at` has no time zone.
    """
    if listed_at.tzinfo is None:
        raise InvalidRequestError(f"listed_at needs a time zone, got {listed_at.isoformat()}.")
    ordered = tuple(sorted(parts, key=lambda part: part.first_name))
    return Index(
        format=FORMAT,
        bucket=bucket,
        prefixes=tuple(prefixes),
        object_count=sum(part.object_count for part in ordered),
        total_bytes=sum(part.total_bytes for part in ordered),
        fingerprint=_digest(ordered).fingerprint(),
        listed_at=listed_at,
        request=request_as_read(request),
        stats=dict(stats),
        parts=ordered,
        name_range=name_range,
    )


def request_as_read(request: object) -> dict[str, Any]:
    """Return a request as it is read from an index, with lists for tuples: what was just made then equals it."""
    read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(request))
    return read


_OF_ONE_LISTING = frozenset(
    {"name_range", "manifest_uri", "seed_manifest_uri", "workers", "streams", "report", "identity"}
)
"""What two listings of the same objects may be asked differently: where, how and by whom, not what."""


def what_was_asked(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return which objects a request is for, without what it does not set: another version may not know that."""
    asked = {key: value for key, value in request.items() if key not in _OF_ONE_LISTING and _is_set(value)}
    if isinstance(filters := asked.get("filters"), Mapping):
        asked["filters"] = {key: value for key, value in filters.items() if _is_set(value)}
    return asked


def _is_set(value: object) -> bool:
    return not (value is None or value is False or (isinstance(value, list | tuple) and not value))


def encode_index(index: Index) -> bytes:
    """Return the index file's bytes."""
    return msgspec.json.encode(index) + b"\n"


def decode_index(data: bytes, uri: str) -> Index:
    """Parse and check an index file. Raises ManifestError naming `uri`."""
    try:
        found = _FORMAT_ONLY.decode(data).format
        if found != FORMAT:
            raise ManifestError(
                f"{uri} has the format {found!r}, this version reads {FORMAT!r}. Upgrade airflow-provider-dataflux, or "
                "list the bucket again.",
                uri=uri,
            )
        index = _INDEX.decode(data)
        check_bucket_name(index.bucket)
        for part in index.parts:
            _check_part(part, uri)
        digest = _digest(index.parts)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        if isinstance(error, ManifestError):
            raise
        raise ManifestError(f"{uri} is no manifest index ({error}). List the bucket again.", uri=uri) from error
    total_bytes = sum(part.total_bytes for part in index.parts)
    expected = (index.object_count, index.total_bytes, index.fingerprint)
    got = (digest.row_count, total_bytes, digest.fingerprint())
    if expected != got:
        raise ManifestError(
            f"{uri} contradicts itself: it says {expected[0]} objects, {expected[1]} bytes, fingerprint {expected[2]}, "
            f"and its parts say {got[0]}, {got[1]}, {got[2]}. List the bucket again.",
            uri=uri,
        )
    return index


def read_index(files: ManifestFiles, uri: str) -> Index:
    """Read the index of the manifest in the directory `uri`.

    Raises ManifestNotFoundError if there is none, ManifestError if it is damaged.
    """
    index_uri = join_uri(uri, INDEX_NAME)
    try:
        data = files.read(index_uri, most_bytes=INDEX_MOST_BYTES)
    except FileNotFoundError as error:
        raise ManifestNotFoundError(
            f"There is no manifest at {uri}: {index_uri} does not exist. Check the URI, that the listing that writes "
            "it has succeeded, and that this worker sees the same place (file:// needs a shared file system).",
            uri=uri,
        ) from error
    return decode_index(data, index_uri)


def _check_part(part: PartInfo, index_uri: str) -> None:
    """Refuse a part that no writer makes: far too large, or in a place that is none of this manifest's.

    A part is below the manifest's directory, or, where a join took it over, in the same kind of storage or on gs://.
    Raises ManifestError.
    """
    scheme = parse_location(index_uri).scheme
    if "://" in part.path:
        ours = parse_location(part.path).scheme in (scheme, "gs")
    else:
        ours = not part.path.startswith("/") and ".." not in part.path.split("/") and "\0" not in part.path
    if not ours:
        raise ManifestError(
            f"{index_uri} may not name the part {part.path!r}: it is neither below the manifest's directory nor in the "
            "same kind of storage. List the bucket again.",
            uri=index_uri,
        )
    if part.file_bytes > PART_MOST_BYTES or part.object_count > PART_MOST_ROWS:
        raise ManifestError(
            f"{index_uri} names a part of {part.file_bytes} bytes and {part.object_count} rows, {part.path!r}. Parts "
            f"have at most {PART_MOST_BYTES} bytes and {PART_MOST_ROWS} rows.",
            uri=index_uri,
        )


def _digest(parts: Sequence[PartInfo]) -> Digest:
    """Compose the parts' digests. Raises ManifestError if the parts are not sorted and disjoint."""
    digest = Digest()
    before: PartInfo | None = None
    for part in parts:
        if part.object_count < 1 or part.first_name > part.last_name:
            raise ManifestError(
                f"The part {part.path} has no rows, or its last name is before its first. List the bucket again.",
                part=part.path,
            )
        if before is not None and part.first_name <= before.last_name:
            raise ManifestError(
                f"The parts {before.path} and {part.path} overlap: the first ends at {before.last_name!r}, the second "
                f"begins at {part.first_name!r}. Each object must be in one part only.",
                parts=[before.path, part.path],
            )
        before = part
        digest += Digest.from_text(part.digest)
    return digest
