"""A bucket on the embedded server, and packs of it."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from airflow_dataflux.core.config import JoinPacksRequest, PackRequest
from airflow_dataflux.core.gcs.http_store import StoreConfig
from airflow_dataflux.core.gcs.store import ObjectVersion, PageRequest, Store
from airflow_dataflux.core.manifest import Manifest, ManifestFiles, PartWriter, publish
from airflow_dataflux.core.packing import PackOutput, PackResult, join_parts, pack
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import strategy
from airflow_dataflux.testing import GCSServer

if TYPE_CHECKING:
    from airflow_dataflux.core.runtime.progress import RunEvent

SOURCE = "raw-data"
TARGET = "packed-data"
PREFIX = "dataflux-composed-objects/"


def content(number: int, size: int) -> bytes:
    """Return bytes that differ for each object."""
    return (f"object {number} ".encode() * (size // 8 + 1))[:size]


@dataclass
class Site:
    """Two buckets, one disk."""

    server: GCSServer
    store: Store
    config: StoreConfig
    disk: Path
    objects: dict[str, bytes] = field(default_factory=dict)
    events: list[RunEvent] = field(default_factory=list)

    @property
    def local(self) -> str:
        return str(self.disk / "packed")

    @property
    def remote(self) -> str:
        return f"gs://{TARGET}/packed/"

    def put(self, objects: dict[str, bytes]) -> None:
        self.server.put_many(SOURCE, objects)
        self.objects.update(objects)

    def put_samples(self, count: int, size: int = 1000, prefix: str = "train/") -> None:
        """Put `count` samples of two objects each, with sizes around `size`."""
        objects = {}
        for number in range(count):
            objects[f"{prefix}{number:05}.jpg"] = content(number, size + number % 97)
            objects[f"{prefix}{number:05}.json"] = content(-number, 40 + number % 5)
        self.put(objects)

    def manifest(self, name: str = "manifest", prefix: str = "") -> Manifest:
        """List the bucket page after page."""
        files = ManifestFiles(self.store)
        uri = str(self.disk / name)
        writer = PartWriter(files, uri, "part")
        token: str | None = None
        while True:
            page = self.store.list_page(SOURCE, PageRequest(prefix=prefix, page_token=token))
            if page.rows.num_rows:
                writer.append(page.rows)
            token = page.next_page_token
            if token is None:
                break
        return publish(
            files,
            manifest_uri=uri,
            bucket=SOURCE,
            prefixes=(prefix,),
            parts=writer.finish(),
            listed_at=datetime.now(UTC),
            stats={},
            request={},
        )

    def pack(
        self,
        manifest: Manifest,
        output: str | None = None,
        *,
        isolated: bool = False,
        cancel: CancelToken | None = None,
        observer: Callable[[RunEvent], None] | None = None,
        **request: Any,
    ) -> PackResult:
        """Pack by threads of this process, or, `isolated`, by an engine however little there is to do."""
        with mock.patch.object(strategy, "ENGINE_PAYS_S", 0.0):
            return pack(
                manifest,
                PackRequest(output=output or self.remote, **request),
                store_config=self.config,
                tokens=AnonymousTokens(),
                cancel=cancel,
                observer=observer or self.events.append,
                isolated=isolated,
            )

    def join(self, parts: list[PackResult], output: str | None = None, *, report: bool = False) -> PackResult:
        place = PackOutput(output or self.remote, self.store)
        try:
            return join_parts(place, parts, JoinPacksRequest(report=report), observer=self.events.append)
        finally:
            place.close()

    def files(self, output: str | None = None) -> dict[str, bytes]:
        """Return everything that lies at an output, by its relative name."""
        output = output or self.remote
        if output.startswith("gs://"):
            prefix = output.removeprefix(f"gs://{TARGET}/")
            names = self.server.names(TARGET, prefix)
            return {name.removeprefix(prefix): self._content(name) for name in names}
        return {
            os.path.relpath(os.path.join(directory, name), output): Path(directory, name).read_bytes()
            for directory, _, names in os.walk(output)
            for name in names
        }

    def _content(self, name: str) -> bytes:
        stored = self.store.stat(TARGET, name).row
        with self.store.read(TARGET, ObjectVersion(name=name, generation=stored.generation)) as body:
            return b"".join(body.chunks())

    def shards(self, output: str | None = None) -> dict[str, bytes]:
        return {name: data for name, data in self.files(output).items() if name.endswith(".tar")}

    def index(self, output: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.files(output)["index.json"])
        return found

    def packed(self, output: str | None = None) -> list[tuple[str, bytes]]:
        """Return name and content of all members, in the order of the shards."""
        members = []
        for _, data in sorted(self.shards(output).items()):
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
                members += [(info.name, archive.extractfile(info).read()) for info in archive]  # type: ignore[union-attr]
        return members

    def check(self, output: str | None = None, expected: dict[str, bytes] | None = None) -> None:
        """Check that the shards hold exactly the objects, each once, byte for byte."""
        members = self.packed(output)
        assert len(members) == len(dict(members))
        assert dict(members) == (self.objects if expected is None else expected)

    def composites(self) -> list[str]:
        return self.server.names(SOURCE, PREFIX)

    def operations(self) -> dict[str, int]:
        return self.server.requests().operations
