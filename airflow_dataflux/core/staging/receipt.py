"""The receipt: the record of a staging, and the state of every object that it put on disk.

Files below `<destination>/.dataflux/`, described in docs/reference/receipt-format.md:
- `receipt.json` (or `receipt-00003-of-00016.json` for a shard): counts, requests, seconds, reasons, leftovers.
- `reports/…`, where they were asked for: a page about each of the latest stagings (`staging_report.py`).
- `objects-….parquet`: one row per object, sorted by path; the receipt names it and holds its digest.

Guarantees: the receipt is written last and appears whole, so a receipt whose objects file has the right digest
describes a finished staging. Reading a damaged receipt does not raise: it counts as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_dataflux.core.manifest.files import open_file
from airflow_dataflux.core.staging.localfile import DestinationTree
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

DOWNLOADED, REUSED, SKIPPED, EXTRANEOUS, LINKED, DECOMPRESSED = 1, 2, 3, 4, 5, 6
"""Values of `status`. EXTRANEOUS: placed by an earlier staging, not in this manifest, and left there. LINKED: a second
name of a file of another tree, or a copy of it. DECOMPRESSED: unpacked, however it came there; the size of its file is
not that of the object."""

_RECORD = struct.Struct("<qqQ")

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
        downloaded, reused, linked, skipped, deleted: fetched objects; objects whose files were already right; objects
            linked from another tree; objects left out because they had changed or could not be read; removed extraneous
            files.
        temporary: how many objects an earlier version left out for their names alone; none now.
        downloaded_bytes: bytes of the fetched objects.
        composites, composed_bytes: temporary objects made, and their bytes.
        batches: objects by how they were fetched (composite, direct, ranged, local).
        requests: class_a, class_b, free, retries, throttled; of all processes.
        costs: dollars by item; their sum is `estimated_usd`.
        seconds: wall time of the whole staging.
        phases: seconds by phase. Those of workers (compose, read) are summed over threads.
        usage: cpu_s of all processes and peak_rss_bytes of the largest.
        refetched, resumed: objects with wrong bytes that were read again; interrupted reads that were continued.
        reasons: number of objects read directly, by reason.
        preflight: the findings before the staging, one line each.
        leftovers: composites that could not be deleted.
        changed: names of skipped objects that had changed, at most 1,000.
        unreadable: names of skipped objects that could not be read, at most 1,000, each with the reason.
        unsafe: names of skipped objects that cannot become paths, at most 1,000, each with the reason.
        decompress: whether gzip-encoded objects were decompressed.
        dry_run: nothing was fetched; counts and costs are estimates.
        strategy, strip_prefix, scope: as asked; `scope` is "" or, for a shard, "00003-of-00016".
        started_at, finished_at: RFC 3339, UTC.
        objects_file, objects_digest: file of the per-object state beside the receipt, its SHA-256.
        receipt_directory: where receipt and report are, if not in `.dataflux` below the destination; else "".
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
    linked: int = 0
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
    unreadable: dict[str, str] = {}
    unsafe: dict[str, str] = {}
    decompress: bool = False
    dry_run: bool = False
    strategy: str = "auto"
    strip_prefix: str = ""
    scope: str = ""
    started_at: str = ""
    finished_at: str = ""
    objects_file: str = ""
    objects_digest: str = ""
    receipt_directory: str = ""

    @property
    def directory(self) -> str:
        """Absolute path of the directory that holds the receipt and what belongs to it."""
        return self.receipt_directory or os.path.join(self.destination, OWN_DIRECTORY)

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
            "linked": self.linked,
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


_RECEIPT = msgspec.json.Decoder(Receipt)


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
        with self._tree.begin_own(name) as file:
            try:
                with (
                    os.fdopen(os.dup(file.fileno()), "wb") as sink,
                    pq.ParquetWriter(sink, STATE_SCHEMA, compression="zstd") as writer,
                ):
                    for batch in batches:
                        writer.write_batch(batch)
            except OSError as error:
                raise self._tree.failed(error, os.path.join(self._tree.own_path, name)) from error
            with open(f"/proc/self/fd/{file.fileno()}", "rb") as written:
                digest = hashlib.file_digest(written, "sha256").hexdigest()
            file.publish()
        return name, digest

    def write(self, receipt: Receipt) -> None:
        """Write the receipt, and remove the objects files that it replaces, also those of killed stagings."""
        earlier = read_receipt(self._tree.own_fd, self.receipt_name)
        self._tree.write_own(self.receipt_name, msgspec.json.format(msgspec.json.encode(receipt)))
        if earlier is not None and earlier.objects_file not in ("", receipt.objects_file):
            self.remove(earlier.objects_file)
        self.remove_unnamed_objects()

    def remove_unnamed_objects(self) -> None:
        """Remove objects files of this scope that its receipt does not name. The scope's lock must be held.

        A staging that is killed before it writes its receipt leaves one. A receipt that cannot be read may name any.
        """
        receipt = read_receipt(self._tree.own_fd, self.receipt_name)
        names = os.listdir(self._tree.own_fd)
        if receipt is None and self.receipt_name in names:
            return
        ours = re.compile(rf"objects{_suffix(self._scope)}-[0-9a-f]{{8}}\.parquet")
        for name in names:
            if ours.fullmatch(name) and (receipt is None or name != receipt.objects_file):
                self.remove(name)

    def remove_superseded(self, earlier: Iterable[Receipt]) -> None:
        """Remove receipts of other scopes whose files are in this scope's receipt now."""
        for receipt in earlier:
            if receipt.scope != self._scope:
                self.remove(receipt_name(receipt.scope))
                self.remove(receipt.objects_file)

    def remove(self, name: str) -> None:
        """Remove a file beside the receipt, if it is there and a file."""
        try:
            os.unlink(name, dir_fd=self._tree.own_fd)
        except (FileNotFoundError, IsADirectoryError):
            return
        except OSError as error:
            raise self._tree.failed(error, os.path.join(self._tree.own_path, name)) from error


class ProgressFile:
    """What an unfinished staging has put in place so far, for the next try of the same manifest.

    One record for each object: its position in the manifest, the modification time and the inode of its file. A record
    that is cut off is the last one, and is not taken. Written as batches come back, so a killed staging loses none but
    those under way. One thread.
    """

    def __init__(self, tree: DestinationTree, scope: str, key: str) -> None:
        """`key` tells manifests apart: a file of another key is begun anew."""
        self._tree = tree
        self.name = progress_name(scope)
        self._header = hashlib.sha256(key.encode()).digest()
        try:
            self._fd = open_file(self.name, os.O_RDWR | os.O_CREAT | os.O_APPEND, dir_fd=tree.own_fd)
        except OSError as error:
            raise tree.failed(error, os.path.join(tree.own_path, self.name)) from error
        self._size = os.fstat(self._fd).st_size

    def records(self) -> Iterator[tuple[int, int, int]]:
        """Yield position, mtime_ns and inode of what was put in place before; then start to add."""
        if self._size:
            with open(self._fd, "rb", closefd=False) as file:
                file.seek(0)
                if file.read(len(self._header)) == self._header:
                    while len(block := file.read(_RECORD.size * 4096)) >= _RECORD.size:
                        yield from _RECORD.iter_unpack(block[: len(block) // _RECORD.size * _RECORD.size])
                    whole = (self._size - len(self._header)) // _RECORD.size * _RECORD.size
                    os.ftruncate(self._fd, len(self._header) + whole)
                    return
        os.ftruncate(self._fd, 0)
        self._write(self._header)

    def add(self, ordinals: Sequence[int], mtimes_ns: Sequence[int], inodes: Sequence[int]) -> None:
        """Note objects that are in place."""
        if ordinals:
            self._write(b"".join(map(_RECORD.pack, ordinals, mtimes_ns, inodes)))

    def _write(self, data: bytes) -> None:
        try:
            os.write(self._fd, data)
        except OSError as error:
            raise self._tree.failed(error, os.path.join(self._tree.own_path, self.name)) from error

    def finish(self) -> None:
        """Remove the file: the receipt tells it all."""
        with contextlib.suppress(OSError):
            os.unlink(self.name, dir_fd=self._tree.own_fd)

    def close(self) -> None:
        """Close the file; it stays for the next try unless `finish` was called."""
        os.close(self._fd)


def receipt_name(scope: str) -> str:
    """Return the name of a scope's receipt below `.dataflux`."""
    return f"receipt{_suffix(scope)}.json"


def progress_name(scope: str) -> str:
    """Return the name of the file of a scope's unfinished staging below `.dataflux`."""
    return f"progress{_suffix(scope)}"


def _suffix(scope: str) -> str:
    return f"-{scope}" if scope else ""


def read_receipt(own_fd: int, name: str) -> Receipt | None:
    """Read a receipt below an open `.dataflux`; None if there is none that can be trusted."""
    try:
        descriptor = open_file(name, dir_fd=own_fd)
        with os.fdopen(descriptor, "rb") as file:
            receipt = _RECEIPT.decode(file.read())
    except (OSError, msgspec.DecodeError, RecursionError):
        return None
    plain = receipt.objects_file and "/" not in receipt.objects_file
    return receipt if receipt.format == FORMAT and plain else None


def read_objects(own_fd: int, receipt: Receipt) -> Iterator[pa.RecordBatch]:
    """Yield the per-object state of a receipt; nothing if its file is gone or not the one that the receipt names."""
    try:
        descriptor = open_file(receipt.objects_file, dir_fd=own_fd)
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
