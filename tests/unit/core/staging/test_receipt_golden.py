"""Receipts as earlier versions left them are understood for ever: what is in `golden/` never changes.

Those of version 1 were written by the first release, for a whole manifest and for its two shards. A new version of the
format adds files.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_dataflux.core import ListRequest, StageRequest, list_objects, open_store, stage
from airflow_dataflux.core.gcs.memory import MemoryStores
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging.receipt import DOWNLOADED, read_objects, read_receipt, receipt_names

GOLDEN = Path(__file__).parent / "golden"
OBJECTS = {
    "a/1.bin": b"one",
    "a/2.bin": b"two" * 100,
    "a/empty.bin": b"",
    "b/ä.bin": "ä".encode() * 50,
    "c/gone.bin": b"no longer in the bucket",
}
KINDS = ["whole", "shards"]


@contextmanager
def opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("kind", KINDS)
def test_a_receipt_of_version_1_is_read_with_the_state_of_every_object(kind: str) -> None:
    found = {}
    with opened(GOLDEN / f"receipt-1-{kind}") as own_fd:
        for name in receipt_names(own_fd):
            receipt = read_receipt(own_fd, name)
            assert receipt is not None
            assert (receipt.bucket, receipt.destination, receipt.hostname) == ("golden", "/golden/tree", "golden")
            rows = [row for batch in read_objects(own_fd, receipt) for row in batch.to_pylist()]
            assert len(rows) == receipt.object_count == receipt.downloaded
            assert sum(row["size"] for row in rows) == receipt.total_bytes
            assert {row["status"] for row in rows} == {DOWNLOADED}
            found |= {row["path"]: row["size"] for row in rows}
    assert found == {name: len(data) for name, data in OBJECTS.items()}


def test_keys_that_a_later_version_adds_do_no_harm(tmp_path: Path) -> None:
    written = json.loads((GOLDEN / "receipt-1-whole" / "receipt.json").read_text("utf-8"))
    (tmp_path / "receipt.json").write_text(json.dumps({**written, "from_the_future": {"a": 1}}), "utf-8")
    with opened(tmp_path) as own_fd:
        receipt = read_receipt(own_fd, "receipt.json")
    assert receipt is not None
    assert receipt.fingerprint == written["fingerprint"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_staging_goes_on_from_a_tree_that_version_1_left(tmp_path: Path, kind: str) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(GOLDEN / f"receipt-1-{kind}", tree / ".dataflux")
    for name, data in OBJECTS.items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(data)
    (tree / "mine.txt").write_bytes(b"not from a staging")
    stores = MemoryStores()
    stores.create_bucket("golden")
    store = open_store(stores, AnonymousTokens(), connections=1)
    for name, data in OBJECTS.items():
        if name != "c/gone.bin":
            store.upload("golden", name, data, content_type="application/octet-stream")
    store.close()
    request = ListRequest(bucket="golden", manifest_uri=str(tmp_path / "manifest"))
    manifest = list_objects(request, store_config=stores, tokens=AnonymousTokens(), isolated=False)
    receipt = stage(
        manifest,
        StageRequest(destination=str(tree), delete_extraneous=True),
        store_config=stores,
        tokens=AnonymousTokens(),
        isolated=False,
    )
    assert (receipt.downloaded, receipt.reused, receipt.deleted) == (0, 4, 1)
    left = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    assert {name for name in left if not name.startswith(".dataflux/")} == {*OBJECTS, "mine.txt"} - {"c/gone.bin"}
