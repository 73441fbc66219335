"""CRC32C as Cloud Storage writes it: four bytes, most significant first, in base64.

Source: https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash and the `crc32c` property of
https://cloud.google.com/storage/docs/json_api/v1/objects. In this project a CRC32C is an unsigned integer.
"""

from __future__ import annotations

import base64
import binascii

_PREFIX = "crc32c="


def crc32c_to_text(value: int) -> str:
    """Return the base64 form of a CRC32C."""
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")


def crc32c_from_text(text: str) -> int:
    """Return the CRC32C whose base64 form is `text`. Raises ValueError if it is none."""
    raw = binascii.a2b_base64(text, strict_mode=True)
    if len(raw) != 4:
        raise ValueError(f"{text!r} is not a CRC32C: {len(raw)} bytes, expected 4")
    return int.from_bytes(raw, "big")


def crc32c_from_header(header: str | None) -> int | None:
    """Return the CRC32C in the value of `X-Goog-Hash` (several hashes are separated by commas); None if it has none."""
    if not header:
        return None
    for part in header.split(","):
        name_and_value = part.strip()
        if name_and_value.startswith(_PREFIX):
            return crc32c_from_text(name_and_value[len(_PREFIX) :])
    return None


def crc32c_of(data: bytes) -> int:
    """Return the CRC32C of `data`."""
    import google_crc32c  # here, because a listing never needs it

    return int(google_crc32c.value(data))
