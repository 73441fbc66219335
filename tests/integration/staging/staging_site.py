"""A bucket on the embedded server or in memory, and stagings of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pyarrow as pa

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.gcs.http_store import open_store
from airflow_dataflux.core.gcs.memory import MemoryStores
from airflow_dataflux.core.gcs.store import ObjectVersion, PageRequest, Store, StoreFactory
from airflow_dataflux.core.manifest import Manifest, ManifestFiles, PartWriter, inline, publish
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.progress import Progress
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import Receipt, stage, strategy

BUCKET = "training-data"
PREFIX = "dataflux-composed-objects/"


def content(number: int, size: int) -> bytes:
    """Return bytes that differ for each object."""
    return (f"object {number} ".encode() * (size // 8 + 1))[:size]


class MemoryServer:
    """What these tests ask of the embedded server, for buckets in memory."""

    def __init__(self) -> None:
        self.stores = MemoryStores()
        self._store = open_store(self.stores, AnonymousTokens(), connections=1)

    def create_bucket(self, bucket: str) -> None:
        self.stores.create_bucket(bucket)

    def put_many(self, bucket: str, objects: dict[str, bytes]) -> None:
        for name, data in objects.items():
            self._store.upload(bucket, name, data, content_type="application/octet-stream")

    def delete(self, bucket: str, name: str) -> None:
        row = self._store.stat(bucket, name).row
        self._store.delete(bucket, ObjectVersion(name=name, generation=row.generation))

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        page = self._store.list_page(bucket, PageRequest(prefix=prefix))
        return [str(name) for name in page.rows.column("name").to_pylist()]

    def requests(self) -> SimpleNamespace:
        return SimpleNamespace(operations=dict(self.stores.requests))

    def forget_requests(self) -> None:
        self.stores.requests.clear()


@dataclass
class Site:
    """One bucket, one disk."""

    server: Any
    """GCSServer or MemoryServer."""
    store: Store
    config: StoreFactory
    disk: Path
    objects: dict[str, bytes] = field(default_factory=dict)
    lines: list[Progress] = field(default_factory=list)
    on_progress: Callable[[Progress], None] | None = None

    @property
    def destination(self) -> Path:
        return self.disk / "staged"

    def put(self, objects: dict[str, bytes]) -> None:
        self.server.put_many(BUCKET, objects)
        self.objects.update(objects)

    def put_numbered(self, count: int, size: int = 1000, prefix: str = "train/") -> None:
        """Put `count` objects with sizes around `size`, 40 to a directory."""
        self.put(
            {
                f"{prefix}{number // 40:03}/{number:05}.bin": content(number, size + number % 97)
                for number in range(count)
            }
        )

    def manifest(
        self, name: str = "manifest", prefix: str = "", bucket: str = BUCKET, *, checksums: bool = True
    ) -> Manifest:
        """List the bucket page after page, without the listing under test elsewhere."""
        files = ManifestFiles(self.store)
        uri = str(self.disk / name)
        writer = PartWriter(files, uri, "part")
        token: str | None = None
        while True:
            page = self.store.list_page(bucket, PageRequest(prefix=prefix, page_token=token))
            if page.rows.num_rows:
                writer.append(page.rows if checksums else _without_checksums(page.rows))
            token = page.next_page_token
            if token is None:
                break
        return publish(
            files,
            manifest_uri=uri,
            bucket=bucket,
            prefixes=(prefix,),
            parts=writer.finish(),
            listed_at=datetime.now(UTC),
            stats={},
            request={},
        )

    def inline_manifest(self, name: str = "manifest") -> Manifest:
        """List the bucket into a manifest that holds its rows itself."""
        rows = self.manifest(name).to_arrow().to_batches()
        return inline(BUCKET, ("",), rows, listed_at=datetime.now(UTC), stats={})

    def stage(
        self, manifest: Manifest, *, isolated: bool = False, cancel: CancelToken | None = None, **request: Any
    ) -> Receipt:
        """Stage by threads of this process, or, `isolated`, by an engine however little there is to do."""
        request.setdefault("destination", str(self.destination))
        with mock.patch.object(strategy, "ENGINE_PAYS_S", 0.0):
            return stage(
                manifest,
                StageRequest(**request),
                store_config=self.config,
                tokens=AnonymousTokens(),
                cancel=cancel,
                observer=self.observe,
                isolated=isolated,
            )

    def observe(self, event: object) -> None:
        """Keep the lines of progress, or hand them to the test that wants them."""
        if isinstance(event, Progress):
            (self.on_progress or self.lines.append)(event)

    def check_tree(self, expected: dict[str, bytes] | None = None, root: Path | None = None) -> None:
        """Check that the tree holds exactly the objects, byte for byte."""
        expected = self.objects if expected is None else expected
        assert tree(root or self.destination) == expected

    def composites(self) -> list[str]:
        return self.server.names(BUCKET, PREFIX)

    def operations(self) -> dict[str, int]:
        return self.server.requests().operations


def tree(root: Path) -> dict[str, bytes]:
    """Return all files below a directory by relative path, without our own directory."""
    found = {}
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if name != ".dataflux"]
        for name in files:
            path = Path(directory, name)
            found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


def _without_checksums(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows as a listing of objects under customer-managed keys has them."""
    at = rows.schema.get_field_index("crc32c")
    return rows.set_column(at, rows.schema.field(at), pa.nulls(rows.num_rows, pa.uint32()))
