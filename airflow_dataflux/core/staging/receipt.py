"""The receipt: what a staging did, and the state of every object it put on disk.

Files below `<destination>/.dataflux/`, described in docs/reference/receipt-format.md:
- `receipt.json` (or `receipt-00003-of-00016.json` for a shard): counts, requests, seconds, reasons, leftovers.
- `report.html`, where one was asked for: a page about the staging (`runreport.py`).
- `objects-….parquet`: one row per object, sorted by path; the receipt names it and holds its digest.

Guarantees: the receipt is written last and appears whole, so a receipt that is there, with an objects file of the
right digest, describes a staging that finished. Reading one never raises for what is damaged: it is then absent.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_dataflux.core.report.notice import ReportNotice
from airflow_dataflux.core.staging.localfile import Branches, DestinationTree
from airflow_dataflux.core.staging.localpath import OWN_DIRECTORY

FORMAT = "dataflux-receipt/1"

STATE_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("generation", pa.int64(), nullable=False),
        pa.field("crc32c", pa.uint32()),
        pa.field("status", pa.uint8(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("inode", pa.uint64(), nullable=False),
    ]
)

DOWNLOADED, REUSED, SKIPPED, EXTRANEOUS = 1, 2, 3, 4
"""Values of `status`. EXTRANEOUS: placed by an earlier staging, not in this manifest, and left there."""

_SUMMARY_NAMES = 20
"""Names that a summary spells out: it is an XCom value, and a person reads it."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a staging did.

    Attributes:
        format: version of this format.
        destination: absolute path of the published directory.
        hostname: machine that staged; the data may exist there only.
        bucket: where the objects came from.
        fingerprint: of the manifest (or shard) that was staged.
        object_count, total_bytes: of the manifest.
        downloaded, reused, skipped, deleted: objects fetched; found right on disk; left out because they had changed;
            extraneous files removed.
        temporary: how many of the skipped were composites of other stagings that the listing met.
        downloaded_bytes: bytes of the fetched objects.
        composites, composed_bytes: temporary objects made, and their bytes.
        batches: objects by how they were fetched (composite, direct, ranged, local).
        requests: class_a, class_b, free, retries, throttled; of all processes.
        costs: dollars by item; their sum is `estimated_usd`.
        seconds: wall time of the whole staging.
        phases: seconds by phase. Those of workers (compose, read) are summed over threads.
        usage: cpu_s of all processes and peak_rss_bytes of the largest.
        refetched, resumed: objects that arrived wrong and were read again; bodies that broke and were read on.
        reasons: how many objects were read directly, by why.
        preflight: one line for each thing that was looked at before.
        leftovers: composites that could not be deleted.
        changed: names of skipped objects, at most 1,000.
        dry_run: nothing was moved; counts and costs are what would have been.
        strategy, strip_prefix, scope: as asked; `scope` is "" or, for a shard, "00003-of-00016".
        started_at, finished_at: RFC 3339, UTC.
        objects_file, objects_digest: file of the per-object state beside the receipt, its SHA-256.
    """

    format: str = FORMAT
    destination: str
    hostname: str
    bucket: str
    fingerprint: str
    object_count: int
    total_bytes: int
    downloaded: int = 0
    reused: int = 0
    skipped: int = 0
    deleted: int = 0
    temporary: int = 0
    downloaded_bytes: int = 0
    composites: int = 0
    composed_bytes: int = 0
    batches: dict[str, int] = {}
    requests: dict[str, int] = {}
    costs: dict[str, float] = {}
    estimated_usd: float = 0.0
    seconds: float = 0.0
    phases: dict[str, float] = {}
    usage: dict[str, float] = {}
    refetched: int = 0
    resumed: int = 0
    reasons: dict[str, int] = {}
    preflight: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    dry_run: bool = False
    strategy: str = "auto"
    strip_prefix: str = ""
    scope: str = ""
    started_at: str = ""
    finished_at: str = ""
    objects_file: str = ""
    objects_digest: str = ""

    def summary(self) -> dict[str, Any]:
        """Return the plain dict that the operator returns: small, JSON-safe, readable by a person."""
        return {
            "format": self.format,
            "destination": self.destination,
            "hostname": self.hostname,
            "object_count": self.object_count,
            "total_bytes": self.total_bytes,
            "fingerprint": self.fingerprint,
            "downloaded": self.downloaded,
            "reused": self.reused,
            "skipped": self.skipped,
            "deleted": self.deleted,
            "composites": self.composites,
            "requests": dict(self.requests),
            "estimated_usd": round(self.estimated_usd, 6),
            "seconds": round(self.seconds, 3),
            "leftovers": list(self.leftovers[:_SUMMARY_NAMES]),
            "downloaded_bytes": self.downloaded_bytes,
            "dry_run": self.dry_run,
            "strategy": self.strategy,
            "reasons": dict(self.reasons),
            "costs": {item: round(usd, 6) for item, usd in self.costs.items()},
        }


class ReceiptFiles:
    """The receipts of one destination."""

    def __init__(self, tree: DestinationTree, scope: str) -> None:
        """`scope` tells the receipts of a destination apart: "" for a whole manifest, "00003-of-00016" for a shard."""
        self._tree = tree
        self._scope = scope

    @property
    def receipt_name(self) -> str:
        """Name of this scope's receipt below `.dataflux`."""
        return receipt_name(self._scope)

    def write_objects(self, batches: Iterator[pa.RecordBatch]) -> tuple[str, str]:
        """Write the per-object state (in `STATE_SCHEMA`, sorted by path); return its file name and digest."""
        name = f"objects{_suffix(self._scope)}-{os.urandom(4).hex()}.parquet"
        with Branches(self._tree) as branches, branches.begin(f"{OWN_DIRECTORY}/{name}") as file:
            with (
                os.fdopen(os.dup(file.fileno()), "wb") as sink,
                pq.ParquetWriter(sink, STATE_SCHEMA, compression="zstd") as writer,
            ):
                for batch in batches:
                    writer.write_batch(batch)
            with open(f"/proc/self/fd/{file.fileno()}", "rb") as written:
                digest = hashlib.file_digest(written, "sha256").hexdigest()
            file.publish()
        return name, digest

    def write(self, receipt: Receipt) -> None:
        """Write the receipt, and remove the objects files that it replaces."""
        with Branches(self._tree) as branches:
            earlier = read_receipt(branches.directory(OWN_DIRECTORY), self.receipt_name)
            branches.write(f"{OWN_DIRECTORY}/{self.receipt_name}", msgspec.json.format(msgspec.json.encode(receipt)))
            if earlier is not None and earlier.objects_file not in ("", receipt.objects_file):
                self.remove(earlier.objects_file)

    def remove_superseded(self, earlier: Iterable[Receipt]) -> None:
        """Remove receipts of other scopes whose files this scope's receipt accounts for now."""
        for receipt in earlier:
            if receipt.scope != self._scope:
                self.remove(receipt_name(receipt.scope))
                self.remove(report_name(receipt.scope))
                self.remove(receipt.objects_file)

    def remove(self, name: str) -> None:
        """Remove a file of `.dataflux`, if it is there."""
        with Branches(self._tree) as branches:
            try:
                os.unlink(name, dir_fd=branches.directory(OWN_DIRECTORY))
            except FileNotFoundError:
                return


def receipt_name(scope: str) -> str:
    """Return the name of a scope's receipt below `.dataflux`."""
    return f"receipt{_suffix(scope)}.json"


def report_name(scope: str) -> str:
    """Return the name of the report of a scope's staging below `.dataflux`."""
    return f"report{_suffix(scope)}.html"


def notice_of(receipt: Receipt) -> ReportNotice:
    """Return what is told of the report beside a receipt."""
    shard = f", shard {receipt.scope}" if receipt.scope else ""
    return ReportNotice(
        kind="staging",
        uri=f"file://{os.path.join(receipt.destination, OWN_DIRECTORY, report_name(receipt.scope))}",
        title=f"gs://{receipt.bucket} to {receipt.destination}{shard}",
        object_count=receipt.object_count,
        total_bytes=receipt.total_bytes,
        seconds=receipt.seconds,
        finished_at=receipt.finished_at,
    )


def _suffix(scope: str) -> str:
    return f"-{scope}" if scope else ""


def read_receipt(own_fd: int, name: str) -> Receipt | None:
    """Read a receipt below an open `.dataflux`; None if there is none that can be trusted."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=own_fd)
        with os.fdopen(descriptor, "rb") as file:
            receipt = msgspec.json.decode(file.read(), type=Receipt)
    except (OSError, msgspec.DecodeError):
        return None
    plain = receipt.objects_file and "/" not in receipt.objects_file
    return receipt if receipt.format == FORMAT and plain else None


def read_objects(own_fd: int, receipt: Receipt) -> Iterator[pa.RecordBatch]:
    """Yield the per-object state of a receipt; nothing if its file is gone or not the one that the receipt names."""
    try:
        descriptor = os.open(receipt.objects_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=own_fd)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != receipt.objects_digest:
            return
        file.seek(0)
        yield from pq.ParquetFile(file).iter_batches(batch_size=8192)


def receipt_names(own_fd: int) -> list[str]:
    """Return the names of all receipts below an open `.dataflux`."""
    return sorted(name for name in os.listdir(own_fd) if name.startswith("receipt") and name.endswith(".json"))
