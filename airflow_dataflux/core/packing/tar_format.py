"""Tar members as bytes: what stands before and behind an object in a shard (pure).

Guarantees: the same name and size give the same bytes everywhere and always; a shard is byte for byte what Python's
`tarfile` writes for the same members in its default format (pax), except for one thing: the short name field of a name
that is not ASCII holds its UTF-8 bytes, because WebDataset's indexed reader looks at nothing else. `tarfile`, GNU tar
and `webdataset` read the whole name of every member.

An object's time, owner and mode are not told: they would make two packs of the same data differ.
Source of the format: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header".
"""

from __future__ import annotations

BLOCK_BYTES = 512
RECORD_BYTES = 20 * BLOCK_BYTES
"""An archive's length is a multiple of this, as tape drives once needed it and `tarfile` still does it."""

_NAME_BYTES = 100
_LARGEST_OCTAL = 8**11 - 1
"""The size field has eleven octal digits: 8 GiB less one byte."""

_MODE = b"0000644\0"
_NO_MODE = b"0000000\0"
_IDS = b"0000000\0" * 2
_TIME = b"00000000000\0"
_LINK_TO_PREFIX = bytes(100) + b"ustar\x0000" + bytes(32 + 32 + 8 + 8 + 155 + 12)
_SUM_OF_REST = sum(_IDS) + sum(_TIME) + sum(b" " * 8) + sum(_LINK_TO_PREFIX)
"""While it is computed, the checksum itself counts as eight spaces."""

_ZEROS = bytes(BLOCK_BYTES)


def member_header(name: str, size: int) -> bytes:
    """Return what stands before an object's bytes: one block, or three and more for a name that needs a pax header."""
    short = name.encode()
    records = b""
    if len(short) > _NAME_BYTES or not name.isascii():
        records += _pax_record("path", name)
        short = short[:_NAME_BYTES].decode(errors="ignore").encode()
    if size > _LARGEST_OCTAL:
        records += _pax_record("size", str(size))
        size = 0
    header = _ustar_header(short, size, b"0")
    if not records:
        return header
    extended = _ustar_header(b"././@PaxHeader", len(records), b"x", _NO_MODE)
    return extended + records + padding(len(records)) + header


def header_bytes(name: str, size: int) -> int:
    """Return how long the header of such a member is."""
    if len(name) <= _NAME_BYTES and size <= _LARGEST_OCTAL and name.isascii():
        return BLOCK_BYTES
    return len(member_header(name, size))


def member_bytes(name: str, size: int) -> int:
    """Return what a member takes in a shard: its header, its bytes and the padding."""
    return header_bytes(name, size) + size + -size % BLOCK_BYTES


def padding(size: int) -> bytes:
    """Return the zeros behind so many bytes."""
    return _ZEROS[: -size % BLOCK_BYTES]


def archive_bytes(members_bytes: int) -> int:
    """Return the length of a shard whose members take so many bytes."""
    return members_bytes + len(end_of_archive(members_bytes))


def end_of_archive(members_bytes: int) -> bytes:
    """Return what ends a shard whose members take so many bytes: two blocks of zeros, and more to fill a record."""
    filled = (members_bytes + 2 * BLOCK_BYTES) % RECORD_BYTES
    return bytes(2 * BLOCK_BYTES + (RECORD_BYTES - filled if filled else 0))


def unfit_reason(name: str, size: int) -> str | None:
    """Return why an object of this name cannot be a member that every reader takes as it is, None if it can."""
    if "\0" in name:
        return "it holds a zero character"
    if name.startswith("/"):
        return "it begins with '/': who unpacks the shard would write outside"
    if ".." in name and ".." in name.split("/"):
        return "it has a '..' segment: who unpacks the shard would write outside"
    if name.endswith("/") and size:
        return "it ends with '/': readers take it for a directory"
    return None


def _ustar_header(name: bytes, size: int, kind: bytes, mode: bytes = _MODE) -> bytes:
    length = b"%011o\0" % size
    checksum = sum(name) + sum(mode) + sum(length) + kind[0] + _SUM_OF_REST
    return b"".join(
        (name.ljust(_NAME_BYTES, b"\0"), mode, _IDS, length, _TIME, b"%06o\0 " % checksum, kind, _LINK_TO_PREFIX)
    )


def _pax_record(keyword: str, value: str) -> bytes:
    """Return `length keyword=value`, where the length counts itself."""
    text = b" " + keyword.encode() + b"=" + value.encode() + b"\n"
    length = len(text)
    while len(text) + len(str(length)) != length:
        length = len(text) + len(str(length))
    return str(length).encode() + text
