"""Objects that this product itself puts into buckets, and how everybody else tells them from data. Pure.

Composites, the temporary objects of a staging, have a name pattern, whatever their prefix, and custom metadata that
carries the same attempt id. Files of a manifest in a bucket have a content type with a parameter of ours.

Guarantee: nothing here takes an object for ours by its name alone, so nothing that is somebody's data is left out of a
listing or deleted for its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

COMPOSITE_MARK = "dataflux-composite"
COMPOSITE_MARK_VERSION = "1"
COMPOSITE_ATTEMPT = "dataflux-attempt"
COMPOSITE_CONTENT_TYPE = "application/octet-stream"
"""That of every composite, so objects that have another one are none. One without a type may be: it was left out."""

MANIFEST_MARK = "dataflux-manifest=1"
"""Parameter of the content type of a manifest's files in a bucket. A row has the content type, so it costs nothing."""

_COMPOSITE = re.compile(r"[^/]+/[^/]+/[^/]+/(-?\d+)/(\d+)/([0-9a-f]{16})-\d+-\d+")
"""`<dag>/<run>/<task>/<map index>/<try>/<attempt>-<batch>-<round>`, after the prefix."""

_COMPOSITE_ANYWHERE = re.compile(r"(?:.*/)?" + _COMPOSITE.pattern, re.DOTALL)


class CompositeName(msgspec.Struct, frozen=True):
    """What a composite's name says: the try that made it, and the attempt's id."""

    try_number: int
    attempt: str


def parse_composite_name(name: str, composite_prefix: str | None = None) -> CompositeName | None:
    """Return what the name says; None if stagings with this prefix (None: with any prefix) give no such names."""
    if composite_prefix is None:
        match = _COMPOSITE_ANYWHERE.fullmatch(name)
    elif name.startswith(composite_prefix):
        match = _COMPOSITE.fullmatch(name, len(composite_prefix))
    else:
        match = None
    return CompositeName(int(match[2]), match[3]) if match else None


def is_marked_composite(metadata: Mapping[str, str], attempt: str) -> bool:
    """Return whether custom metadata says that an object is the composite that its name says it is."""
    return metadata.get(COMPOSITE_MARK) == COMPOSITE_MARK_VERSION and metadata.get(COMPOSITE_ATTEMPT) == attempt
