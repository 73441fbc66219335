"""What a staging removes from its destination, and when it refuses to."""

from __future__ import annotations

from pathlib import Path

import pytest
from staging_site import BUCKET, Site, tree

from airflow_dataflux.core.errors import DeletionRefusedError, InvalidRequestError, UnreadableObjectsError

pytestmark = pytest.mark.in_memory


@pytest.mark.parametrize("dry_run", [False, True], ids=["for real", "dry run"])
def test_an_empty_manifest_empties_no_tree(site: Site, dry_run: bool) -> None:
    site.put_numbered(40)
    site.stage(site.manifest())
    with pytest.raises(DeletionRefusedError, match=r"all 40 files.*even_if_empty") as caught:
        site.stage(site.manifest("typo", prefix="tpyo/"), delete_extraneous=True, dry_run=dry_run)
    assert not caught.value.retryable
    assert caught.value.files == 40
    site.check_tree()
    assert site.stage(site.manifest("again")).reused == 40, "the receipt is still that of the files"


def test_an_empty_manifest_empties_a_tree_that_it_was_told_to(site: Site) -> None:
    site.put_numbered(40)
    site.stage(site.manifest())
    receipt = site.stage(site.manifest("typo", prefix="tpyo/"), delete_extraneous="even_if_empty")
    assert receipt.deleted == 40
    site.check_tree({})


def test_an_empty_manifest_that_removes_nothing_is_staged_and_what_it_remembers_is_still_safe(site: Site) -> None:
    site.put_numbered(40)
    site.stage(site.manifest())
    empty = site.manifest("typo", prefix="tpyo/")
    assert site.stage(empty).deleted == 0
    # The receipt of the empty manifest remembers the files as extraneous: now the same manifest, with the parameter.
    with pytest.raises(DeletionRefusedError):
        site.stage(empty, delete_extraneous=True)
    site.check_tree()


def test_an_empty_manifest_of_another_bucket_empties_no_tree(site: Site) -> None:
    site.put_numbered(40)
    site.stage(site.manifest())
    site.server.create_bucket("another-bucket")
    with pytest.raises(DeletionRefusedError, match="another-bucket"):
        site.stage(site.manifest("other", bucket="another-bucket"), delete_extraneous=True)
    site.check_tree()


def test_a_manifest_of_placeholders_alone_empties_no_tree(site: Site) -> None:
    site.put_numbered(40)
    site.stage(site.manifest())
    site.put({"empty/": b"", "empty/below/": b""})
    with pytest.raises(DeletionRefusedError):
        site.stage(site.manifest("placeholders", prefix="empty/"), delete_extraneous=True)
    assert len(tree(site.destination)) == 40


def test_a_manifest_whose_objects_are_all_gone_empties_no_tree(site: Site) -> None:
    site.put_numbered(40)
    site.stage(site.manifest())
    site.put({"eval/1": b"one", "eval/2": b"two"})
    manifest = site.manifest("eval", prefix="eval/")
    for name in ("eval/1", "eval/2"):
        site.server.delete(BUCKET, name)
    with pytest.raises(DeletionRefusedError):
        site.stage(manifest, delete_extraneous=True, on_changed_object="skip")
    assert len(tree(site.destination)) == 40


def test_a_shard_whose_objects_are_all_gone_empties_no_tree(site: Site) -> None:
    site.put_numbered(40)
    for shard in site.manifest().shards(2):
        site.stage(shard)
    site.put({"eval/1": b"one", "eval/2": b"two"})
    first = site.manifest("eval", prefix="eval/").shards(2)[0]
    site.server.delete(BUCKET, "eval/1")
    with pytest.raises(DeletionRefusedError):
        site.stage(first, delete_extraneous=True, on_changed_object="skip")
    assert len(tree(site.destination)) == 40


@pytest.mark.in_memory(False)
def test_an_empty_manifest_leaves_the_unfinished_tree_of_another_where_it_is(site: Site) -> None:
    site.put_numbered(40)
    fault = site.server.fail("status", status=403, operation="read", nth=30, times=1)
    with pytest.raises(UnreadableObjectsError):
        site.stage(site.manifest(), strategy="direct")
    site.server.stop_failing(fault)
    unfinished = [path for path in site.disk.iterdir() if ".dataflux-partial-" in path.name]
    assert len(unfinished) == 1
    empty = site.manifest("typo", prefix="tpyo/")
    site.stage(empty)
    assert unfinished[0].exists()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_of_an_inline_manifest_remove_what_left_the_bucket(site: Site, order: tuple[int, ...]) -> None:
    site.put_numbered(60)
    for shard in site.inline_manifest("first").shards(3):
        site.stage(shard)
    for name in ("train/000/00000.bin", "train/001/00059.bin"):
        site.server.delete(BUCKET, name)
        del site.objects[name]
    shards = site.inline_manifest("second").shards(3)
    receipts = [site.stage(shards[number], delete_extraneous=True) for number in order]
    assert [receipt.deleted for receipt in receipts] == [0, 0, 2], "the last one knows what all have"
    site.check_tree()
    again = [site.stage(shard, delete_extraneous=True) for shard in shards]
    assert sum(receipt.reused for receipt in again) == 58


def test_a_dry_run_counts_what_would_be_removed_and_removes_nothing(site: Site) -> None:
    site.put_numbered(40)
    site.stage(site.manifest())
    few = site.manifest("few", prefix="train/000/0000")
    assert site.stage(few, dry_run=True, delete_extraneous=True).deleted == 30
    assert site.stage(few, dry_run=True).deleted == 0
    site.check_tree()
    assert site.stage(few, delete_extraneous=True).deleted == 30


def test_delete_extraneous_takes_no_other_word(tmp_path: Path) -> None:
    from airflow_dataflux.core.config import StageRequest

    with pytest.raises(InvalidRequestError, match="even_if_empty"):
        StageRequest(destination=str(tmp_path), delete_extraneous="always")  # type: ignore[arg-type]
