"""The figures of selecting, reusing and packing: what each is claimed to take, measured, with the bound beside it.

Every step is a fresh process (`figure_steps`), measured by `supervise`; what is compared comes from one run. The
bucket is on the benchmark's server, with the delays of Cloud Storage, or on the embedded one, which takes uploads.
Results are checked: every file and member against the checksum that the bucket tells.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa

from airflow_dataflux.client import Client
from airflow_dataflux.core.arrow import ROW_SCHEMA
from airflow_dataflux.core.gcs.http_store import StoreConfig, open_store
from airflow_dataflux.core.gcs.store import ObjectVersion
from airflow_dataflux.core.manifest import Manifest, ManifestFiles, PartWriter, publish
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.testing import GCSServer
from dataflux_bench.manifests import write_manifest
from dataflux_bench.measuring import supervised
from dataflux_bench.server.dataset import Dataset, DatasetSpec
from dataflux_bench.server.latency import Model
from dataflux_bench.server.process import BenchServer

_ROWS = 200_000
_SIZE = 10 << 10
_BUCKET, _PACKED = "bench", "packed"
_CLASSES = 1000
_MB = 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured figure; `most` is what it may be, None if there is no bound."""

    name: str
    value: float
    most: float | None = None
    unit: str = ""

    def line(self) -> str:
        """Return it as a line of text, with the bound and whether it holds."""
        bound = "" if self.most is None else f"  (bound {self.most:g}: {'holds' if self.holds else 'FAILS'})"
        return f"{self.name:<58} {self.value:>12,.4g} {self.unit}{bound}"

    @property
    def holds(self) -> bool:
        """Whether it is within its bound."""
        return self.most is None or self.value <= self.most


@dataclass(slots=True)
class Measured:
    """Runs the steps, and keeps what they came to."""

    scratch: str
    say: Callable[[str], None]
    limit_s: float
    figures: list[Figure] = field(default_factory=list)

    def run(self, step: str, *, emulator: str = "", **task: Any) -> dict[str, Any]:
        """Run one step. Raises RuntimeError if it failed."""
        os.sync()
        command = [sys.executable, "-m", "dataflux_bench.figure_steps", json.dumps({"step": step, **task})]
        usage = supervised(command, limit_s=self.limit_s, emulator=emulator)
        if usage["mark"] is None or usage["exit_code"] != 0:
            raise RuntimeError(f"{step} ended with {usage['exit_code']}: {usage['complaint']}")
        done: dict[str, Any] = {**usage["mark"], "pss_mb": usage["peak_pss_bytes"] / _MB}
        self.say(f"{step} {task.get('output', '')}: {done['call_s']:.1f} s, {done['pss_mb']:.0f} MB; {usage['mark']}")
        return done

    def add(self, name: str, value: float, most: float | None = None, unit: str = "") -> None:
        """Keep a figure and say it."""
        self.figures.append(Figure(name=name, value=value, most=most, unit=unit))
        self.say(self.figures[-1].line())


def select_and_split(measured: Measured, count: int) -> None:
    """Select from a manifest of `count` rows and split it: seconds and memory."""
    uri = os.path.join(measured.scratch, "large")
    _publish(uri, _sample_names(count))
    for step in ("select", "split"):
        done = measured.run(step, manifest=uri, output=os.path.join(measured.scratch, step))
        measured.add(f"{step} of {count:,} rows: memory", done["pss_mb"], 400, "MB")
        measured.add(f"{step} of {count:,} rows: time", done["call_s"], None, "s")


def growing_splits(measured: Measured, count: int) -> None:
    """Split `count` names, then 10 % more: how many samples moved, and whether the classes are counted right."""
    names = sorted(_scattered_names(count + count // 10))
    before = sorted(set(names) - set(names[::11]))
    where: list[dict[str, str]] = []
    wrong = 0
    for label, listed in (("before", before), ("after", names)):
        uri = os.path.join(measured.scratch, label)
        _publish(uri, iter(listed))
        measured.run("split", manifest=uri, output=uri + "-splits")
        found: dict[str, str] = {}
        for split in ("train", "val", "test"):
            manifest = Manifest.open(f"{uri}-splits/{split}")
            here = [name for rows in manifest.batches() for name in rows.column("name").to_pylist()]
            found.update(dict.fromkeys(here, split))
            classes = Counter(name.split("/")[1] for name in here)
            told = manifest.stats.get("classes") or manifest.index.request["class_counts"]
            wrong += sum((classes - Counter(told)).values()) + sum((Counter(told) - classes).values())
        if len(found) != len(listed):
            raise RuntimeError(f"{len(listed) - len(found)} names are in no split")
        where.append(found)
    moved = sum(where[1][name] != split for name, split in where[0].items())
    measured.add(f"{len(before):,} names, then {len(names):,}: samples that moved", moved, 0)
    measured.add("samples counted in a wrong class", wrong, 0)


def reuse(measured: Measured, count: int) -> None:
    """Stage `count` objects; change 1 % of them; stage again beside it with `reuse_from`."""
    with GCSServer() as server:
        first = _listed(measured, server, count, "first")
        one, two = (os.path.join(measured.scratch, name) for name in ("one", "two"))
        server.forget_requests()
        before = measured.run("stage", emulator=server.endpoint, manifest=first.uri, output=one)
        requests_before = _requests(server)
        for index, row in enumerate(first.rows()):
            if index % 100 == 50:
                server.put(_BUCKET, row.name, f"changed {index} ".encode() * (_SIZE // 16))
        second = _client(server).list(_BUCKET, manifest_uri=os.path.join(measured.scratch, "second"), report=False)
        server.forget_requests()
        after = measured.run("stage", emulator=server.endpoint, manifest=second.uri, output=two, reuse_from=one)
        requests_after = _requests(server)
    wrong = sum(_wrong_files(second, two)) + sum(_wrong_files(first, one))
    own, shared = _disk_bytes(two, one)
    measured.add("second tree: requests of the first", 100 * requests_after / requests_before, 1.2, "%")
    measured.add("second tree: disk of the first", 100 * own / (_disk_bytes(one, two)[0] + shared), 2, "%")
    measured.add("second tree: time of the first", 100 * after["call_s"] / before["call_s"], 40, "%")
    measured.add("files with wrong bytes, in both trees", wrong, 0)


def pack_to_disk(measured: Measured, count: int) -> None:
    """Pack `count` objects to disk with Cloud Storage's delays, beside staging them, and obstore with `tarfile`."""
    dataset = Dataset(DatasetSpec(style="classes", count=count, sizes=str(_SIZE), readable=True))
    manifest = Manifest.from_reference(
        write_manifest(dataset, bucket=_BUCKET, uri=f"file://{measured.scratch}/manifest")
    )
    objects = os.path.join(measured.scratch, "objects.json")
    Path(objects).write_text(json.dumps([row.name for row in manifest.rows()]), encoding="utf-8")
    place = {name: os.path.join(measured.scratch, name) for name in ("staged", "packed", "tarred")}
    with BenchServer(Model(), directory=measured.scratch) as server:
        server.add_bucket(_BUCKET, dataset.spec)
        asked = {"emulator": server.endpoint, "manifest": manifest.uri}
        staged = measured.run("stage", **asked, output=place["staged"])
        shutil.rmtree(place["staged"])
        packed = measured.run("pack", **asked, output=place["packed"])
        again = measured.run("pack", **asked, output=place["packed"])
        wrong = _wrong_members(manifest, _local_shards(place["packed"]))
        unlike = _unlike_webdataset(manifest, place["packed"])
        shutil.rmtree(place["packed"])
        bare = {"endpoint": server.endpoint, "bucket": _BUCKET, "objects": objects}
        tarred = measured.run("tar", **bare, output=place["tarred"])
        wrong_peer = _wrong_members(manifest, _local_shards(place["tarred"]))
    measured.add("pack to disk: memory", packed["pss_mb"], 300, "MB")
    measured.add("pack to disk: time of staging", packed["call_s"] / staged["call_s"], 1.5)
    measured.add("pack to disk: time of obstore + tarfile", packed["call_s"] / tarred["call_s"], 1.0)
    measured.add("members with wrong bytes, by tarfile", wrong, 0)
    measured.add("members of obstore + tarfile with wrong bytes", wrong_peer, 0)
    measured.add("objects that webdataset reads otherwise", unlike, 0)
    measured.add("shards written by the same pack again", again["packed_shards"], 0)


def pack_to_bucket(measured: Measured, count: int) -> None:
    """Pack `count` objects to a bucket, beside staging them. The embedded server has no delays."""
    with GCSServer() as server:
        server.create_bucket(_PACKED)
        manifest = _listed(measured, server, count, "first")
        asked = {"emulator": server.endpoint, "manifest": manifest.uri}
        staged = measured.run("stage", **asked, output=os.path.join(measured.scratch, "staged"))
        packed = measured.run("pack", **asked, output=f"gs://{_PACKED}/pack/")
        again = measured.run("pack", **asked, output=f"gs://{_PACKED}/pack/")
        copies = os.path.join(measured.scratch, "copies")
        _download_shards(server, copies)
    measured.add("pack to gs://: memory", packed["pss_mb"], 300, "MB")
    measured.add("pack to gs://: time of staging", packed["call_s"] / staged["call_s"], 1.5)
    measured.add("members with wrong bytes, by tarfile", _wrong_members(manifest, _local_shards(copies)), 0)
    measured.add("objects that webdataset reads otherwise", _unlike_webdataset(manifest, copies), 0)
    measured.add("shards written by the same pack again", again["packed_shards"], 0)


FIGURES: dict[str, tuple[Callable[[Measured, int], None], int]] = {
    "select": (select_and_split, 10_000_000),
    "splits": (growing_splits, 1_000_000),
    "reuse": (reuse, 100_000),
    "pack": (pack_to_disk, 100_000),
    "pack-bucket": (pack_to_bucket, 100_000),
}
"""What there is to measure, and of how many objects."""


def _listed(measured: Measured, server: GCSServer, count: int, name: str) -> Manifest:
    server.create_bucket(_BUCKET)
    server.synthesize(_BUCKET, count=count, style="classes", size=_SIZE)
    return _client(server).list(_BUCKET, manifest_uri=os.path.join(measured.scratch, name), report=False)


def _client(server: GCSServer) -> Client:
    return Client(store=StoreConfig(endpoint=server.endpoint), tokens=AnonymousTokens())


def _requests(server: GCSServer) -> int:
    return sum(server.requests().operations.values())


def _wrong_files(manifest: Manifest, tree: str) -> Iterator[int]:
    present = 0
    for row in manifest.rows():
        with open(os.path.join(tree, row.name), "rb") as file:
            data = file.read()
        present += 1
        yield int(len(data) != row.size or google_crc32c.value(data) != row.crc32c)
    names = sum(len(files) for top, _, files in os.walk(tree) if ".dataflux" not in top)
    yield abs(names - present)


def _disk_bytes(tree: str, other: str) -> tuple[int, int]:
    """Return the disk that only this tree takes, and that which it shares with another one."""
    elsewhere = {status.st_ino for status in _statuses(other)}
    own = shared = 0
    for status in _statuses(tree):
        if status.st_ino in elsewhere:
            shared += status.st_blocks * 512
        else:
            own += status.st_blocks * 512
    return own, shared


def _statuses(tree: str) -> Iterator[os.stat_result]:
    for directory, _, files in os.walk(tree):
        for name in files:
            yield os.stat(os.path.join(directory, name), follow_symlinks=False)


def _local_shards(place: str) -> Iterator[bytes]:
    for name in sorted(os.listdir(place)):
        if name.endswith(".tar"):
            yield Path(place, name).read_bytes()


def _download_shards(server: GCSServer, directory: str) -> None:
    store = open_store(StoreConfig(endpoint=server.endpoint), AnonymousTokens(), connections=1)
    os.makedirs(directory)
    try:
        for name in server.names(_PACKED, "pack/"):
            if name.endswith(".tar"):
                version = ObjectVersion(name=name, generation=store.stat(_PACKED, name).row.generation)
                with store.read(_PACKED, version) as body, open(f"{directory}/{os.path.basename(name)}", "wb") as file:
                    file.writelines(body.chunks())
    finally:
        store.close()


def _wrong_members(manifest: Manifest, shards: Iterator[bytes]) -> int:
    """Return how many objects are not in the shards once, whole and under their names."""
    expected = {row.name: (row.size, row.crc32c) for row in manifest.rows()}
    wrong = 0
    for data in shards:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                content = archive.extractfile(member).read()  # type: ignore[union-attr]
                wrong += expected.pop(member.name, None) != (len(content), google_crc32c.value(content))
    return wrong + len(expected)


def _unlike_webdataset(manifest: Manifest, place: str) -> int:
    """Return how many objects `webdataset` does not find, or with other bytes."""
    import webdataset

    expected = {row.name: row.crc32c for row in manifest.rows()}
    urls = [os.path.join(place, name) for name in sorted(os.listdir(place)) if name.endswith(".tar")]
    wrong = 0
    for sample in webdataset.WebDataset(urls, shardshuffle=False):
        for key, content in sample.items():
            if not key.startswith("__"):
                wrong += expected.pop(f"{sample['__key__']}.{key}", None) != google_crc32c.value(content)
    return wrong + len(expected)


def _sample_names(count: int) -> Iterator[str]:
    """Yield `count` names in order: two files a sample, a thousand classes."""
    for index in range(count):
        yield f"images/{index * _CLASSES // count:04}/{index // 2:08}.{'json' if index % 2 else 'jpg'}"


def _scattered_names(count: int) -> Iterator[str]:
    """Yield `count` different names in no order."""
    factor = 2_654_435_761
    for index in range(count):
        mixed = index * factor % 2**32
        yield f"images/{mixed % 97:04}/{mixed:010}.jpg"


def _publish(uri: str, names: Iterator[str]) -> None:
    files = ManifestFiles()
    writer = PartWriter(files, uri, "benchmark")
    first = 0
    while some := [name for _, name in zip(range(_ROWS), names, strict=False)]:
        numbers = np.arange(first, first + len(some))
        columns = {
            "name": pa.array(some, pa.string()),
            "size": pa.array(numbers % 50_000 + 1),
            "generation": pa.array(numbers + 1_700_000_000_000_000),
            "crc32c": pa.array((numbers % 2**32).astype(np.uint32)),
            "storage_class": pa.repeat("STANDARD", len(some)),
            "updated": pa.repeat(datetime(2026, 1, 1, tzinfo=UTC), len(some)),
            "content_type": pa.repeat("image/jpeg", len(some)),
            "content_encoding": pa.nulls(len(some), pa.string()),
        }
        arrays = [columns[field.name].cast(field.type) for field in ROW_SCHEMA]
        writer.append(pa.RecordBatch.from_arrays(arrays, schema=ROW_SCHEMA))
        first += len(some)
    publish(
        files,
        manifest_uri=uri,
        bucket=_BUCKET,
        prefixes=[""],
        parts=writer.finish(),
        listed_at=datetime(2026, 1, 1, tzinfo=UTC),
        stats={},
        request={},
    )
