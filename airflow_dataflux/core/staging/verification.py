"""A staged tree against its own receipts or against a manifest: is every file there, whole and right?

Reads every file once; writes nothing, and sends no request but for reading a manifest in a bucket. A file that neither
a receipt nor the manifest names is not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import msgspec

from airflow_dataflux.core.errors import DestinationError
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.manifest.files import open_file
from airflow_dataflux.core.staging.checksum import extend
from airflow_dataflux.core.staging.localpath import OWN_DIRECTORY
from airflow_dataflux.core.staging.receipt import DECOMPRESSED, EXTRANEOUS, SKIPPED
from airflow_dataflux.core.staging.staged_files import states_of

_CHUNK_BYTES = 1 << 20


class Mismatch(msgspec.Struct, frozen=True):
    """A file that is not what it should be."""

    path: str
    reason: str


class Verification(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        checked: how many files should be there.
        mismatches: those that are missing or wrong.
    """

    checked: int
    mismatches: tuple[Mismatch, ...]


def verify_tree(destination: str, manifest: Manifest | None = None, *, strip_prefix: str = "") -> Verification:
    """Compare each file with what the tree's receipts, or `manifest`, say of it.

    Raises DestinationError if there is nothing to compare with, and what reading a manifest raises.
    """
    expected = _of_receipts(destination) if manifest is None else _of_manifest(manifest, strip_prefix)
    checked, mismatches = 0, []
    for path, size, crc32c in expected:
        checked += 1
        reason = _wrong(os.path.join(destination, path), size, crc32c)
        if reason:
            mismatches.append(Mismatch(path, reason))
    return Verification(checked, tuple(mismatches))


def _of_manifest(manifest: Manifest, strip_prefix: str) -> Iterator[tuple[str, int, int | None]]:
    for row in manifest.rows():
        yield row.name.removeprefix(strip_prefix), row.size, row.crc32c


def _of_receipts(destination: str) -> Iterator[tuple[str, int | None, int | None]]:
    found = False
    for _, states in states_of(os.path.join(destination, OWN_DIRECTORY)):
        found = True
        for batch in states:
            yield from _of_states(batch.to_pylist())
    if not found:
        raise DestinationError(
            f"{destination} has no receipt of a staging, so there is nothing to compare its files with. Name the "
            "directory that was staged to, or give the manifest.",
            destination=destination,
        )


def _of_states(states: Iterable[dict[str, object]]) -> Iterator[tuple[str, int | None, int | None]]:
    for state in states:
        if state["status"] in (SKIPPED, EXTRANEOUS):
            continue
        packed = state["status"] == DECOMPRESSED  # what lies there is not the bytes that were listed
        yield str(state["path"]), *((None, None) if packed else (state["size"], state["crc32c"]))  # type: ignore[misc]


def _wrong(path: str, size: int | None, crc32c: int | None) -> str:
    """Return what is wrong with a file, an empty text if nothing is. A path that ends in "/" is a directory."""
    if path.endswith("/"):
        return "" if os.path.isdir(path) else "no such directory"
    try:
        with os.fdopen(open_file(path, follow_symlinks=True), "rb") as file:
            found, checksum = 0, 0
            while chunk := file.read(_CHUNK_BYTES):
                found += len(chunk)
                checksum = extend(checksum, chunk)
    except OSError as error:
        return str(error.strerror or error)
    if size is not None and found != size:
        return f"{found} bytes instead of {size}"
    return "another CRC32C" if crc32c is not None and checksum != crc32c else ""
