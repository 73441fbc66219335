"""A bucket on the embedded server, and stagings of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from airflow_dataflux.core.config import StageRequest, StoreConfig
from airflow_dataflux.core.gcs.store import PageRequest, Store
from airflow_dataflux.core.manifest import Manifest, ManifestFiles, PartWriter, publish
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.progress import Progress
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import Receipt, effort, stage
from airflow_dataflux.testing import GCSServer

BUCKET = "training-data"
PREFIX = "dataflux-composed-objects/"


def content(number: int, size: int) -> bytes:
    """Return bytes that differ for each object."""
    return (f"object {number} ".encode() * (size // 8 + 1))[:size]


@dataclass
class Site:
    """One bucket, one disk."""

    server: GCSServer
    store: Store
    config: StoreConfig
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

    def manifest(self, name: str = "manifest", prefix: str = "") -> Manifest:
        """List the bucket page after page, without the listing under test elsewhere."""
        files = ManifestFiles(self.store)
        uri = str(self.disk / name)
        writer = PartWriter(files, uri, "part")
        token: str | None = None
        while True:
            page = self.store.list_page(BUCKET, PageRequest(prefix=prefix, page_token=token))
            if page.rows.num_rows:
                writer.append(page.rows)
            token = page.next_page_token
            if token is None:
                break
        return publish(
            files,
            manifest_uri=uri,
            bucket=BUCKET,
            prefixes=(prefix,),
            parts=writer.finish(),
            listed_at=datetime.now(UTC),
            stats={},
            request={},
        )

    def stage(
        self, manifest: Manifest, *, isolated: bool = False, cancel: CancelToken | None = None, **request: Any
    ) -> Receipt:
        """Stage by threads of this process, or, `isolated`, by an engine however little there is to do."""
        request.setdefault("destination", str(self.destination))
        with mock.patch.object(effort, "ENGINE_PAYS_S", 0.0):
            return stage(
                manifest,
                StageRequest(**request),
                store_config=self.config,
                tokens=AnonymousTokens(),
                cancel=cancel,
                on_progress=self.on_progress or self.lines.append,
                isolated=isolated,
            )

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
