"""What the commands print: lines and one JSON object on the standard output, everything else on the error output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_dataflux.core.report.formatting import plural
from airflow_dataflux.core.runtime.cancel import CancelToken

if TYPE_CHECKING:
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.core.model import Row
    from airflow_dataflux.core.packing.pack_index import PackDescription
    from airflow_dataflux.core.staging import Receipt


def described_manifest(manifest: Manifest) -> str:
    """Return a few lines about a manifest."""
    where = ", ".join(f"gs://{manifest.bucket}/{prefix}" for prefix in manifest.prefixes)
    return (
        f"{len(manifest):,} objects, {manifest.total_bytes:,} bytes of {where}\n"
        f"listed at {manifest.listed_at.isoformat()}, fingerprint {manifest.fingerprint}\n"
        f"{manifest.uri or 'inline'}"
    )


def described_receipt(receipt: Receipt) -> str:
    """Return a few lines about a staging."""
    shard = f", shard {receipt.scope}" if receipt.scope else ""
    return (
        f"{receipt.object_count:,} objects, {receipt.total_bytes:,} bytes of gs://{receipt.bucket}{shard}\n"
        f"staged at {receipt.finished_at} in {receipt.seconds:.1f} s on {receipt.hostname}, "
        f"fingerprint {receipt.fingerprint}\n"
        f"{counts_of(receipt)}\n"
        f"{receipt.destination}"
    )


def counts_of(receipt: Receipt) -> str:
    """Return what became of a staging's objects."""
    names = ("downloaded", "reused", "linked", "skipped", "deleted")
    shown = {name: getattr(receipt, name) for name in names}
    return ", ".join(f"{count:,} {name}" for name, count in shown.items() if count or name != "linked")


def described_pack(uri: str, pack: PackDescription) -> str:
    """Return a few lines about a pack."""
    return (
        f"{pack.object_count:,} objects, {pack.total_bytes:,} bytes in {pack.sample_count:,} samples\n"
        f"{plural(len(pack.shards), 'shard')}, {pack.pack_bytes:,} bytes, fingerprint {pack.fingerprint}\n"
        f"{uri}"
    )


def row_line(row: Row) -> str:
    """Return a manifest's row as a line."""
    return f"{row.size:>15} {row.generation:>20} {row.name}"


def print_lines(lines: Iterable[str], cancel: CancelToken) -> None:
    """Print lines as they come, until there was a cancel."""
    for line in lines:
        cancel.raise_if_cancelled()
        print(line)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(value))


def print_error(text: str) -> None:
    """Print a line on the error output."""
    print(text, file=sys.stderr)
