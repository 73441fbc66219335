"""What a tree's receipts say of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_dataflux import Client
from airflow_dataflux.core.errors import DestinationError
from airflow_dataflux.core.staging import staged_files
from airflow_dataflux.core.staging.staged_files import receipts_of
from airflow_dataflux.core.staging.verification import verify_tree


@pytest.fixture
def server(gcs_server):
    gcs_server.create_bucket("data")
    gcs_server.put_many("data", {f"{letter}/{n}": letter.encode() * n for letter in "ab" for n in range(5)})
    gcs_server.put("data", "a/sub/", b"")
    return gcs_server


@pytest.fixture
def client(server, monkeypatch: pytest.MonkeyPatch) -> Client:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return Client()


def names(destination: Path, paths) -> list[str]:
    return [str(Path(path).relative_to(destination)) for path in paths]


EXPECTED = [f"{letter}/{n}" for letter in "ab" for n in range(5)]


def test_files_are_told_without_ours_and_without_directories(client: Client, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    receipt = client.stage(client.list("data", include_placeholders=True), str(tree))
    assert (tree / "a" / "sub").is_dir()
    (tree / "yours").write_text("not staged")
    for staged in (receipt, receipt.summary(), str(tree)):
        assert names(tree, staged_files(staged)) == EXPECTED
    assert verify_tree(str(tree)).mismatches == ()
    (tree / "a" / "sub").rmdir()
    assert [(each.path, each.reason) for each in verify_tree(str(tree)).mismatches] == [("a/sub/", "no such directory")]


def test_a_shards_receipt_has_the_shards_files(client: Client, tmp_path: Path) -> None:
    manifest = client.list("data", manifest_uri=str(tmp_path / "manifest"))
    tree = tmp_path / "tree"
    receipts = [client.stage(shard, str(tree)) for shard in manifest.shards(2)]
    parts = [names(tree, staged_files(receipt)) for receipt in receipts]
    assert all(parts)
    assert sorted(parts[0] + parts[1]) == EXPECTED == sorted(names(tree, staged_files(str(tree))))
    assert len(receipts_of(str(tree))) == 2


def test_a_receipt_elsewhere_is_found(client: Client, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    receipt = client.stage(client.list("data"), str(tree), receipt_directory=str(tmp_path / "receipt"))
    assert names(tree, staged_files(receipt)) == EXPECTED


def test_files_that_left_the_manifest_are_not_told(server, client: Client, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    client.stage(client.list("data"), str(tree))
    server.delete("data", "a/3")
    receipt = client.stage(client.list("data"), str(tree))
    assert (tree / "a" / "3").exists()
    assert names(tree, staged_files(receipt)) == [name for name in EXPECTED if name != "a/3"]


def test_a_tree_without_a_receipt_or_with_a_damaged_one_is_an_error(client: Client, tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="no receipt"):
        list(staged_files(str(tmp_path)))
    tree = tmp_path / "tree"
    receipt = client.stage(client.list("data"), str(tree))
    (tree / ".dataflux" / receipt.objects_file).write_bytes(b"")
    for ask in (staged_files, verify_tree):
        with pytest.raises(DestinationError, match="not the file that its receipt names"):
            list(ask(str(tree)))
