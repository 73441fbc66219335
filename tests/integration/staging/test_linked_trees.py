"""Trees that build on one another: what another tree has is linked, and nothing is believed that is not vouched for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from staging_site import BUCKET, Site, tree

from airflow_dataflux.core.errors import DestinationError, UnreadableObjectsError
from airflow_dataflux.core.manifest import Manifest

pytestmark = pytest.mark.in_memory


def inode(root: Path, path: str) -> int:
    return (root / path).stat().st_ino


def test_a_second_tree_links_what_the_first_has_and_fetches_the_rest(site: Site) -> None:
    site.put_numbered(60)
    site.stage(site.manifest())
    site.put({"train/000/00003.bin": b"new content"})
    site.server.forget_requests()
    second = site.disk / "second"
    receipt = site.stage(site.manifest("again"), destination=str(second), reuse_from=(str(site.destination),))
    assert (receipt.linked, receipt.downloaded, receipt.reused) == (59, 1, 0)
    assert site.operations()["read"] == 1
    site.check_tree(root=second)
    assert inode(second, "train/001/00042.bin") == inode(site.destination, "train/001/00042.bin")
    assert inode(second, "train/000/00003.bin") != inode(site.destination, "train/000/00003.bin")
    site.server.forget_requests()
    again = site.stage(site.manifest("third"), destination=str(second))
    assert (again.reused, site.operations().get("read", 0)) == (60, 0)


def test_trees_are_found_by_globs_by_other_prefixes_and_as_shards(site: Site) -> None:
    site.put_numbered(90)
    for number, shard in enumerate(site.manifest().shards(3)):
        site.stage(shard, destination=str(site.disk / f"day-{number}"), strip_prefix="train/")
    second = site.disk / "everything"
    receipt = site.stage(site.manifest("all"), destination=str(second), reuse_from=(str(site.disk / "day-*"),))
    assert (receipt.linked, receipt.downloaded) == (90, 0)
    site.check_tree(root=second)


def test_a_file_that_was_edited_is_not_linked_and_an_edit_through_a_link_is_noticed(site: Site) -> None:
    site.put_numbered(5)
    site.stage(site.manifest())
    edited = site.destination / "train/000/00001.bin"
    edited.write_bytes(b"x" * edited.stat().st_size)
    second = site.disk / "second"
    receipt = site.stage(site.manifest("again"), destination=str(second), reuse_from=(str(site.destination),))
    assert (receipt.linked, receipt.downloaded) == (4, 1)
    site.check_tree(root=second)
    (second / "train/000/00002.bin").write_bytes(b"edited in the second tree")
    assert site.stage(site.manifest("third")).downloaded == 2, "both edits are replaced in the first tree"
    site.check_tree()
    assert (second / "train/000/00002.bin").read_bytes() == b"edited in the second tree"


def test_the_same_name_and_generation_in_another_bucket_is_another_object(site: Site) -> None:
    site.put({"a": b"one"})
    site.stage(site.manifest())
    receipt = (site.destination / ".dataflux/receipt.json").read_text()
    (site.destination / ".dataflux/receipt.json").write_text(receipt.replace(BUCKET, "another-bucket"))
    second = site.disk / "second"
    linked = site.stage(site.manifest("again"), destination=str(second), reuse_from=(str(site.destination),))
    assert (linked.linked, linked.downloaded) == (0, 1)


def test_where_files_cannot_be_linked_they_are_copied_and_verified(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put_numbered(20)
    site.stage(site.manifest())
    link = os.link

    def no_links_between_trees(source: str, *args: object, **kw: object) -> None:
        if not str(source).startswith("/proc/"):
            raise OSError(18, "Invalid cross-device link")
        link(source, *args, **kw)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", no_links_between_trees)
    second = site.disk / "second"
    receipt = site.stage(site.manifest("again"), destination=str(second), reuse_from=(str(site.destination),))
    assert (receipt.linked, receipt.downloaded) == (20, 0)
    site.check_tree(root=second)
    assert inode(second, "train/000/00001.bin") != inode(site.destination, "train/000/00001.bin")


def test_what_stands_at_the_destination_is_replaced_by_a_link(site: Site) -> None:
    site.put_numbered(10)
    site.stage(site.manifest())
    second = site.disk / "second"
    (second / "train/000").mkdir(parents=True)
    (second / "train/000/00001.bin").write_bytes(b"something else")
    receipt = site.stage(site.manifest("again"), destination=str(second), reuse_from=(str(site.destination),))
    assert receipt.linked == 10
    site.check_tree(root=second)


def test_a_tree_that_is_no_directory_is_an_error_and_one_that_is_not_there_is_not(site: Site) -> None:
    site.put_numbered(3)
    manifest = site.manifest()
    (site.disk / "file").write_bytes(b"")
    with pytest.raises(DestinationError, match="not a directory"):
        site.stage(manifest, reuse_from=(str(site.disk / "file"),))
    assert site.stage(manifest, reuse_from=(str(site.disk / "yesterday"), str(site.disk / "no*"))).downloaded == 3


def test_a_dry_run_says_what_would_be_linked_and_links_nothing(site: Site) -> None:
    site.put_numbered(10)
    site.stage(site.manifest())
    second = site.disk / "second"
    receipt = site.stage(
        site.manifest("again"), destination=str(second), reuse_from=(str(site.destination),), dry_run=True
    )
    assert (receipt.linked, receipt.downloaded) == (10, 0)
    assert not second.exists()


def unfinished(site: Site) -> list[Path]:
    return [path for path in site.disk.iterdir() if ".dataflux-partial-" in path.name]


def interrupted(site: Site, manifest: Manifest, after: int) -> None:
    fault = site.server.fail("status", status=403, operation="read", nth=after, times=1)
    with pytest.raises(UnreadableObjectsError):
        site.stage(manifest, strategy="direct", max_in_flight=4)
    site.server.stop_failing(fault)


@pytest.mark.in_memory(False)
def test_an_interrupted_tree_of_objects_without_checksums_goes_on_where_it_ended(site: Site) -> None:
    site.put_numbered(100)
    manifest = site.manifest(checksums=False)
    interrupted(site, manifest, after=60)
    [left] = unfinished(site)
    there = len(tree(left))
    assert there > 30
    site.server.forget_requests()
    receipt = site.stage(manifest, strategy="direct")
    assert receipt.reused == there
    assert site.operations()["read"] == 100 - there
    site.check_tree()
    assert not (site.destination / ".dataflux/progress").exists()


@pytest.mark.in_memory(False)
def test_a_file_that_was_changed_since_the_interruption_is_fetched_again(site: Site) -> None:
    site.put_numbered(100)
    manifest = site.manifest(checksums=False)
    interrupted(site, manifest, after=60)
    [left] = unfinished(site)
    edited = next(iter(sorted(tree(left))))
    (left / edited).write_bytes(b"x" * (left / edited).stat().st_size)
    site.stage(manifest, strategy="direct")
    site.check_tree()


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.in_memory(False)
def test_what_an_interrupted_tree_holds_is_linked_by_stagings_in_place_and_then_it_is_removed(
    site: Site, shards: int
) -> None:
    site.put_numbered(100)
    manifest = site.manifest()
    interrupted(site, manifest, after=60)
    [left] = unfinished(site)
    there = len(tree(left))
    site.destination.mkdir()
    receipts = [site.stage(each, strategy="direct") for each in ([manifest] if shards == 1 else manifest.shards(2))]
    assert receipts[0].linked > 0
    assert sum(receipt.linked for receipt in receipts) <= there
    if shards == 1:
        assert receipts[0].linked == there
    site.check_tree()
    assert unfinished(site) == []


def test_who_loses_the_race_for_a_new_tree_goes_on_in_place_and_fetches_nothing_twice(site: Site) -> None:
    site.put_numbered(40)
    site.put({"eval/1": b"one", "eval/2": b"two"})
    first, second = site.manifest("a", prefix="train/"), site.manifest("b", prefix="eval/")
    raced: list[str] = []

    def faster(progress: object) -> None:
        if not raced and "plan:" in str(progress):
            raced.append("once")
            site.stage(second)

    site.on_progress = faster
    receipt = site.stage(first, strategy="direct")
    assert raced == ["once"]
    assert (receipt.linked, receipt.downloaded) == (40, 0)
    site.check_tree()
    assert unfinished(site) == []
    assert site.operations()["read"] == 42
