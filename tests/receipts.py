"""Receipts as stagings leave them, for trees that no staging made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_dataflux.core.staging import Receipt


def write_receipt(tree: Path, paths: Sequence[str], finished: datetime) -> None:
    """Write into `tree/.dataflux`, which is there, that a staging put these files in place, and its lock."""
    own = tree / ".dataflux"
    pq.write_table(pa.table({"path": list(paths)}), own / "objects-1.parquet")
    receipt = Receipt(
        destination=str(tree),
        hostname="here",
        bucket="b",
        fingerprint="f",
        object_count=len(paths),
        total_bytes=0,
        seconds=1.0,
        strategy="auto",
        strip_prefix="",
        scope="",
        started_at=finished.isoformat(),
        finished_at=finished.isoformat(),
        objects_file="objects-1.parquet",
    )
    (own / "receipt.json").write_bytes(msgspec.json.encode(receipt))
    (own / "lock").touch()
