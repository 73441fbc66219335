"""The vocabulary of the core: one listed object.

`Row` is for code that looks at objects one by one; listings move whole pages as Arrow record batches
(`arrow.py`), because a Python object per row is what makes listing slow.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Where the microseconds of `updated` begin."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One object as it was listed.

    Attributes:
        name: full object name, 1-1,024 bytes of UTF-8.
        size: bytes as stored (of the compressed form where `content_encoding` is gzip).
        generation: version of the content; pins every later read.
        crc32c: CRC32C of the stored bytes as an unsigned integer, None where the listing did not carry it.
        storage_class: STANDARD, NEARLINE, COLDLINE, ARCHIVE, or a legacy class.
        updated: time of the last change of the object, aware, UTC.
        content_type: as stored, None if unset.
        content_encoding: as stored, None if unset.
    """

    name: str
    size: int
    generation: int
    crc32c: int | None
    storage_class: str
    updated: datetime
    content_type: str | None = None
    content_encoding: str | None = None


def object_uri(bucket: str, name: str, generation: int | None = None) -> str:
    """Return `gs://bucket/name#generation`, the form in which errors and logs name an object."""
    return f"gs://{bucket}/{name}" + (f"#{generation}" if generation is not None else "")
