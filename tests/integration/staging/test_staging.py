"""Staging through real HTTP: the bytes, what is reused, what is removed, what is refused."""

from __future__ import annotations

import os
import resource
import threading
import time
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from staging_site import BUCKET, PREFIX, Site, content, tree

from airflow_dataflux.core.config import RunIdentity
from airflow_dataflux.core.errors import (
    BucketNotFoundError,
    CostLimitError,
    DeletionRefusedError,
    DestinationError,
    InsufficientSpaceError,
    PermissionDeniedError,
    UnsafeNameError,
)
from airflow_dataflux.core.gcs.store import NotWantedError, StoredObject
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.staging.batching import Batch
from airflow_dataflux.core.staging.destination import Place, open_workspace
from airflow_dataflux.core.staging.destination_scan import SpaceNeeded
from airflow_dataflux.core.staging.helped_group import HelpedGroup
from airflow_dataflux.core.staging.localfile import FileIdentity, TreeWriter
from airflow_dataflux.core.staging.strategy import AWAITED, FASTER_DIRECTLY, PROBED, WRITES_LIMITED
from airflow_dataflux.core.staging.transfer import BatchResult, Transfer

MIXED = {
    "train/empty.bin": b"",
    "train/one.bin": b"1",
    "train/small/a b?#.txt": content(1, 900),
    "train/small/\u00fcml\u00e4ut \U0001f9ea.txt": content(2, 1100),
    "train/medium.bin": content(3, 700_000),
    "train/large.bin": content(4, 3_000_000),
    "train/huge.bin": content(5, 40 << 20),
    "z": content(6, 5),
}


@pytest.mark.parametrize("isolated", [False, True], ids=["in this process", "in an engine"])
@pytest.mark.parametrize("strategy", ["compose", "direct", "auto"])
def test_every_strategy_stages_the_same_bytes(site: Site, strategy: str, isolated: bool) -> None:
    site.put(MIXED)
    site.put_numbered(150)
    receipt = site.stage(site.manifest(), strategy=strategy, isolated=isolated, workers=2)
    site.check_tree()
    assert (receipt.downloaded, receipt.reused, receipt.skipped) == (158, 0, 0)
    assert receipt.downloaded_bytes == receipt.total_bytes == sum(map(len, site.objects.values()))
    assert (receipt.composites > 0) == (strategy == "compose" or receipt.batches.get("composite", 0) > 0)
    assert receipt.batches.get("ranged", 0) == (strategy != "compose")
    assert site.composites() == []
    assert receipt.leftovers == ()
    assert sum(receipt.batches.values()) == 158


def test_composing_needs_a_request_for_every_32_objects_and_the_receipt_counts_what_the_server_saw(site: Site) -> None:
    site.put_numbered(320)
    manifest = site.manifest()
    site.server.forget_requests()
    receipt = site.stage(manifest, strategy="compose")
    operations = site.operations()
    assert (operations["compose"], operations["read"], operations["delete"]) == (10, 10, 10)
    assert receipt.requests["class_a"] == 10
    assert receipt.requests["class_b"] == operations["read"] + operations["bucket"] + operations["permissions"]
    assert receipt.requests["free"] == 10
    assert receipt.estimated_usd == pytest.approx(sum(receipt.costs.values()))


def test_a_second_staging_sends_no_request_and_starts_nothing(site: Site) -> None:
    site.put_numbered(100)
    manifest = site.manifest()
    site.stage(manifest)
    site.server.forget_requests()
    again = site.stage(manifest)
    assert (again.downloaded, again.reused) == (0, 100)
    assert site.operations() == {}
    site.check_tree()


def test_a_file_that_was_removed_is_the_only_one_fetched(site: Site) -> None:
    site.put_numbered(100)
    manifest = site.manifest()
    site.stage(manifest)
    (site.destination / "train/001/00042.bin").unlink()
    site.server.forget_requests()
    again = site.stage(manifest)
    assert (again.downloaded, again.reused) == (1, 99)
    assert site.operations()["read"] == 1
    site.check_tree()


def test_a_modified_file_is_fetched_again_and_a_touched_one_is_not(site: Site) -> None:
    site.put_numbered(50)
    manifest = site.manifest()
    site.stage(manifest)
    modified, touched = site.destination / "train/000/00007.bin", site.destination / "train/000/00008.bin"
    modified.write_bytes(b"x" * modified.stat().st_size)
    os.utime(touched, ns=(1, 1))
    again = site.stage(manifest)
    assert (again.downloaded, again.reused) == (1, 49)
    site.check_tree()
    assert site.stage(manifest).requests["class_b"] == 0


def test_a_new_manifest_fetches_only_what_changed(site: Site) -> None:
    site.put_numbered(60)
    site.stage(site.manifest())
    site.put({"train/000/00003.bin": b"new content", "train/new.bin": b"new object"})
    again = site.stage(site.manifest("second"))
    assert (again.downloaded, again.reused) == (2, 59)
    site.check_tree()


def test_extraneous_files_stay_unless_asked_and_are_remembered(site: Site) -> None:
    site.put_numbered(60)
    site.stage(site.manifest())
    (site.destination / "mine.txt").write_text("not staged by us")
    site.server.delete(BUCKET, "train/001/00059.bin")
    site.server.delete(BUCKET, "train/000/00000.bin")
    manifest = site.manifest("second")
    kept = site.stage(manifest)
    assert kept.deleted == 0
    assert len(tree(site.destination)) == 61
    removed = site.stage(manifest, delete_extraneous=True)
    assert (removed.deleted, removed.downloaded) == (2, 0)
    gone = {"train/001/00059.bin", "train/000/00000.bin"}
    expected = {name: data for name, data in site.objects.items() if name not in gone}
    site.check_tree({**expected, "mine.txt": b"not staged by us"})
    site.server.forget_requests()
    assert site.stage(manifest, delete_extraneous=True).deleted == 0
    assert site.operations() == {}


def test_directories_that_become_empty_are_removed_with_their_files(site: Site) -> None:
    site.put({"a/b/c.bin": b"1", "keep.bin": b"2"})
    site.stage(site.manifest())
    site.server.delete(BUCKET, "a/b/c.bin")
    assert site.stage(site.manifest("second"), delete_extraneous=True).deleted == 1
    assert sorted(path.name for path in site.destination.iterdir()) == [".dataflux", "keep.bin"]


def test_shards_staged_into_one_destination_make_one_tree_and_do_not_disturb_each_other(site: Site) -> None:
    site.put_numbered(90)
    manifest = site.manifest()
    shards = manifest.shards(3)
    for shard in reversed(shards):
        assert site.stage(shard).downloaded == len(shard)
    site.check_tree()
    assert len(list((site.destination / ".dataflux").glob("receipt-*.json"))) == 3
    site.server.forget_requests()
    assert [site.stage(shard).reused for shard in shards] == [len(shard) for shard in shards]
    assert site.operations() == {}
    # An object lost by one shard to its neighbour is not extraneous; one that is gone from all is.
    site.put({f"train/000/{number:05}.bin": b"larger now" * 900 for number in range(5)})
    site.server.delete(BUCKET, "train/002/00089.bin")
    del site.objects["train/002/00089.bin"]
    receipts = [site.stage(shard, delete_extraneous=True) for shard in site.manifest("second").shards(3)]
    assert sum(receipt.downloaded for receipt in receipts) == 5
    assert sum(receipt.deleted for receipt in receipts) == 1
    site.check_tree()
    whole = site.stage(site.manifest("third"))
    assert whole.downloaded == 0
    assert [path.name for path in (site.destination / ".dataflux").glob("receipt*.json")] == ["receipt.json"]


def test_a_slash_at_the_end_of_the_destination_changes_nothing(site: Site) -> None:
    site.put_numbered(5)
    manifest = site.manifest()
    receipt = site.stage(manifest, destination=f"{site.destination}//")
    assert receipt.destination == str(site.destination)
    assert site.stage(manifest).reused == 5
    assert sorted(path.name for path in site.disk.iterdir()) == ["manifest", "staged"]


def test_objects_in_a_directory_each_do_not_use_up_the_file_descriptors(site: Site) -> None:
    site.put({f"{n % 7}/{n:04}/deep/er/{n}.bin": content(n, 100) for n in range(1600)})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (900, hard))
    try:
        site.stage(site.manifest(), strategy="compose")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    site.check_tree()


def test_strip_prefix_shortens_paths(site: Site) -> None:
    site.put_numbered(40)
    site.stage(site.manifest(), strip_prefix="train/")
    site.check_tree({name.removeprefix("train/"): data for name, data in site.objects.items()})


def test_placeholders_become_directories_and_are_asked_for_like_other_objects(site: Site) -> None:
    site.put({"empty dir/": b"", "empty dir/file": b"", "other/": b""})
    manifest = site.manifest()
    site.server.forget_requests()
    assert site.stage(manifest).downloaded == 3
    assert site.operations()["read"] == 3
    assert (site.destination / "other").is_dir()
    assert (site.destination / "empty dir/file").read_bytes() == b""
    assert site.stage(manifest).reused == 3


def test_an_empty_manifest_makes_an_empty_directory(site: Site) -> None:
    receipt = site.stage(site.manifest())
    assert receipt.object_count == 0
    assert tree(site.destination) == {}
    assert site.stage(site.manifest()).reused == 0


def test_an_inline_manifest_is_staged_like_any_other(site: Site) -> None:
    from airflow_dataflux.core.manifest import Manifest, inline

    site.put_numbered(20)
    listed = site.manifest()
    manifest = inline(
        bucket=BUCKET, prefixes=("",), batches=listed.batches(), listed_at=listed.listed_at, stats={}, request={}
    )
    for shard in Manifest.from_reference(manifest.reference()).shards(2):
        site.stage(shard)
    site.check_tree()


def test_a_dry_run_says_what_would_happen_and_touches_neither_disk_nor_bucket(site: Site) -> None:
    site.put_numbered(640)
    site.server.change_bucket(BUCKET, soft_delete_s=7 * 86400)
    manifest = site.manifest()
    before = sorted(path.name for path in site.disk.iterdir())
    site.server.forget_requests()
    planned = site.stage(manifest, strategy="compose", dry_run=True)
    assert planned.dry_run
    assert sorted(path.name for path in site.disk.iterdir()) == before
    assert set(site.operations()) == {"bucket", "permissions"}
    done = site.stage(manifest, strategy="compose")
    assert not done.dry_run
    for figure in (
        "downloaded",
        "downloaded_bytes",
        "composites",
        "composed_bytes",
        "batches",
        "costs",
        "estimated_usd",
    ):
        assert getattr(planned, figure) == getattr(done, figure), figure
    assert planned.costs["soft_delete"] > 0
    assert {key: planned.requests[key] for key in ("class_a", "class_b", "free")} == {
        key: done.requests[key] for key in ("class_a", "class_b", "free")
    }


def test_the_receipt_on_disk_describes_every_object(site: Site) -> None:
    site.put_numbered(30)
    site.put({"train/gone.bin": b"here when listed"})
    manifest = site.manifest()
    site.server.delete(BUCKET, "train/gone.bin")
    receipt = site.stage(manifest, on_changed_object="skip")
    own = site.destination / ".dataflux"
    assert msgspec.json.decode((own / "receipt.json").read_bytes())["skipped"] == receipt.skipped == 1
    assert receipt.changed == ("train/gone.bin",)
    states = pq.read_table(own / receipt.objects_file).to_pylist()
    assert [row["name"] for row in states] == [row.name for row in manifest]
    by_name = {row["name"]: row for row in states}
    assert by_name["train/gone.bin"]["status"] == 3
    one = by_name["train/000/00000.bin"]
    status = (site.destination / one["path"]).stat()
    assert (one["size"], one["mtime_ns"], one["inode"]) == (status.st_size, status.st_mtime_ns, status.st_ino)


def test_the_summary_has_the_fixed_keys_and_is_small_json(site: Site) -> None:
    site.put_numbered(10)
    summary = site.stage(site.manifest()).summary()
    fixed = (
        "format destination hostname object_count total_bytes fingerprint downloaded reused skipped deleted composites "
        "requests estimated_usd seconds leftovers"
    )
    assert set(fixed.split()) <= summary.keys()
    assert summary["format"] == "dataflux-receipt/1"
    assert len(msgspec.json.encode(summary)) < 4096


def test_hostile_names_are_refused_by_name_before_anything_is_fetched(site: Site) -> None:
    site.put({"../escape": b"x", "/etc/x": b"x", "a": b"x", "a/b": b"x", "fine/ok": b"x", "d//e": b"x", "f/": b"x"})
    manifest = site.manifest()
    site.server.forget_requests()
    with pytest.raises(UnsafeNameError) as caught:
        site.stage(manifest)
    assert set(caught.value.names) == {"../escape", "/etc/x", "a/b", "d//e", "f/"}
    assert "read" not in site.operations()
    assert not site.destination.exists()
    assert not (site.disk.parent / "escape").exists()


def test_hostile_names_are_left_out_counted_and_named_when_asked(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.put({"../escape": b"x", "/etc/x": b"x", "a": b"x", "a/b": b"x", "fine/ok": b"x", "d//e": b"x", "f/": b"x"})
    manifest = site.manifest()
    receipt = site.stage(manifest, on_unsafe_name="skip")
    assert (receipt.downloaded, receipt.skipped) == (2, 5)
    assert set(receipt.unsafe) == {"../escape", "/etc/x", "a/b", "d//e", "f/"}
    assert "5 objects are left out" in caplog.text
    staged = {path.relative_to(site.destination).as_posix() for path in site.destination.rglob("*") if path.is_file()}
    assert {name for name in staged if not name.startswith(".dataflux")} == {"a", "fine/ok"}
    assert not (site.disk.parent / "escape").exists()
    again = site.stage(manifest, on_unsafe_name="skip")
    assert (again.downloaded, again.reused, again.skipped, set(again.unsafe)) == (0, 2, 5, set(receipt.unsafe))
    with pytest.raises(UnsafeNameError):
        site.stage(manifest)


def test_only_hostile_names_never_empty_a_destination(site: Site) -> None:
    site.put({"ok": b"x"})
    site.stage(site.manifest())
    site.server.delete(BUCKET, "ok")
    site.put({"../escape": b"x"})
    with pytest.raises(DeletionRefusedError):
        site.stage(site.manifest(), on_unsafe_name="skip", delete_extraneous=True)
    assert (site.destination / "ok").exists()


def test_a_symlinked_directory_in_the_destination_is_never_written_through(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    site.put({"train/a/x.bin": b"secret", "train/y.bin": b"y"})
    (site.destination / "train").mkdir(parents=True)
    (site.destination / "train/a").symlink_to(outside)
    with pytest.raises(UnsafeNameError, match="not a directory"):
        site.stage(site.manifest())
    assert list(outside.iterdir()) == []


def test_a_symlink_where_a_file_belongs_is_replaced_and_its_target_is_left_alone(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"y")
    site.put({"train/y.bin": b"y"})
    (site.destination / "train").mkdir(parents=True)
    (site.destination / "train/y.bin").symlink_to(target)
    site.stage(site.manifest())
    assert not (site.destination / "train/y.bin").is_symlink()
    site.check_tree()
    assert target.read_bytes() == b"y"


def test_a_symlink_planted_for_our_own_directory_is_refused(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    site.destination.mkdir()
    (site.destination / ".dataflux").symlink_to(outside)
    site.put_numbered(3)
    with pytest.raises(DestinationError, match=r"\.dataflux"):
        site.stage(site.manifest())
    assert list(outside.iterdir()) == []


def test_files_that_are_there_already_are_replaced_when_they_are_wrong_and_kept_when_right(site: Site) -> None:
    site.put_numbered(10)
    for name, data in site.objects.items():
        path = site.destination / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if int(path.stem) % 2 else b"wrong" + data[5:])
    receipt = site.stage(site.manifest())
    assert (receipt.downloaded, receipt.reused) == (5, 5)
    site.check_tree()


@pytest.mark.parametrize("isolated", [False, True])
def test_a_missing_bucket_is_an_error_before_anything_moves(site: Site, isolated: bool) -> None:
    site.put_numbered(3000 if isolated else 3)
    manifest = site.manifest()
    site.server.reset()
    with pytest.raises(BucketNotFoundError, match=BUCKET):
        site.stage(manifest, isolated=isolated)
    assert [path.name for path in site.disk.iterdir()] == ["manifest"]


def test_a_missing_right_to_read_is_an_error_before_anything_moves(site: Site) -> None:
    site.put_numbered(3)
    manifest = site.manifest()
    site.server.change_bucket(BUCKET, permissions=["storage.objects.list", "storage.buckets.get"])
    with pytest.raises(PermissionDeniedError, match=r"storage\.objects\.get"):
        site.stage(manifest)
    assert "read" not in site.operations()


def test_without_rights_to_compose_objects_are_read_directly_with_the_reason(site: Site) -> None:
    site.put_numbered(64)
    manifest = site.manifest()
    site.server.change_bucket(
        BUCKET, permissions=["storage.objects.list", "storage.buckets.get", "storage.objects.get"]
    )
    receipt = site.stage(manifest, strategy="compose")
    reason = "storage.objects.create and storage.objects.delete missing on the bucket"
    assert receipt.reasons == {reason: 64}
    assert any(reason in line for line in receipt.preflight)
    assert "compose" not in site.operations()
    site.check_tree()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"retention_s": 3600}, "retention policy of 3600 s"),
        ({"default_event_based_hold": True}, "event-based hold"),
        ({"location_type": "zone"}, "Rapid"),
        ({"soft_delete_s": 7 * 86400, "hard_delete_paused": True}, "hard deletions are paused"),
    ],
)
def test_buckets_that_would_keep_composites_are_read_directly(
    site: Site, settings: dict[str, object], reason: str
) -> None:
    site.put_numbered(64)
    manifest = site.manifest()
    site.server.change_bucket(BUCKET, **settings)
    receipt = site.stage(manifest, strategy="compose")
    assert [reason in why for why in receipt.reasons] == [True]
    assert receipt.composites == 0
    site.check_tree()


def test_a_bucket_whose_settings_may_not_be_read_is_tried_with_one_composite(site: Site) -> None:
    site.put_numbered(64)
    manifest = site.manifest()
    rights = [f"storage.objects.{right}" for right in ("get", "create", "delete", "list")]
    site.server.change_bucket(BUCKET, permissions=rights)
    site.server.forget_requests()
    receipt = site.stage(manifest, strategy="compose")
    assert receipt.composites == 2
    assert site.operations()["compose"] == 3
    assert site.composites() == []


def test_what_must_not_be_composed_is_read_directly_with_its_reason_counted(site: Site) -> None:
    import gzip

    site.put_numbered(40)
    packed = gzip.compress(b"text " * 1000)
    site.server.put(BUCKET, "packed.txt", packed, content_encoding="gzip")
    site.server.put(BUCKET, "cold.bin", b"cold", storage_class="COLDLINE")
    site.objects |= {"packed.txt": packed, "cold.bin": b"cold"}
    receipt = site.stage(site.manifest(), strategy="compose")
    assert receipt.reasons == {
        "gzip-encoded: staged as stored": 1,
        "storage class COLDLINE: a composite would cost an early-deletion fee": 1,
    }
    site.check_tree()


def test_versioned_buckets_are_left_without_versions_of_composites(site: Site) -> None:
    site.server.change_bucket(BUCKET, versioning=True, soft_delete_s=86400)
    site.put_numbered(64)
    assert site.stage(site.manifest(), strategy="compose").composites == 2
    assert site.composites() == []
    assert len(site.server.soft_deleted(BUCKET)) == 2


def test_a_destination_that_is_a_file_or_below_one_is_refused_before_any_request(site: Site) -> None:
    site.put_numbered(3)
    manifest = site.manifest()
    (site.disk / "file").write_text("")
    site.server.forget_requests()
    for path in ("file", "file/below"):
        with pytest.raises(DestinationError, match="file"):
            site.stage(manifest, destination=str(site.disk / path))
    assert site.operations() == {}


def test_too_little_space_is_an_error_that_says_how_much_is_missing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put_numbered(3)
    manifest = site.manifest()
    monkeypatch.setattr(
        "airflow_dataflux.core.staging.destination_scan.SpaceNeeded",
        lambda block_bytes: SpaceNeeded(block_bytes, bytes=1 << 60),
    )
    with pytest.raises(InsufficientSpaceError) as caught:
        site.stage(manifest)
    assert caught.value.needed > 1 << 60
    assert caught.value.free < 1 << 60
    assert caught.value.unit == "bytes"


def test_two_stagings_of_one_destination_do_not_work_at_the_same_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_dataflux.core.staging.destination.LOCK_WAIT_S", 0.0)
    site.put_numbered(3)
    manifest = site.manifest()
    site.destination.mkdir()
    place = Place(destination=str(site.destination), scope="", key="other")
    with open_workspace(place, CancelToken()), pytest.raises(DestinationError, match="Another staging"):
        site.stage(manifest)
    site.stage(manifest)
    site.check_tree()


def test_an_interrupted_staging_of_a_new_tree_goes_on_where_it_ended(site: Site) -> None:
    site.put_numbered(50)
    manifest = site.manifest()
    place = Place(destination=str(site.destination), scope="", key=f"{manifest.fingerprint}\n")
    for name in sorted(site.objects)[:20]:
        path = Path(place.partial, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(site.objects[name])
    Path(place.partial, sorted(site.objects)[0]).write_bytes(b"half")
    receipt = site.stage(manifest)
    assert (receipt.downloaded, receipt.reused) == (31, 19)
    site.check_tree()
    assert not Path(place.partial).exists()


def test_composites_carry_the_identity_of_the_run_in_their_names(site: Site) -> None:
    site.put_numbered(64)
    who = RunIdentity(dag="my dag", run="manual__2026-01-01T00:00:00+00:00", task="stage/it", map_index=7, try_number=2)
    site.stage(site.manifest(), strategy="compose", identity=who)
    names = [record.name for record in site.server.log("compose")]
    assert len(names) == 2
    stem = f"{PREFIX}my=20dag/manual__2026-01-01T00:00:00+00:00/stage=2Fit/7/2/"
    assert all(name.startswith(stem) for name in names)


def test_every_request_of_a_requester_pays_bucket_names_who_pays(site: Site) -> None:
    site.put_numbered(40)
    manifest = site.manifest()
    site.server.change_bucket(BUCKET, requester_pays=True)
    site.config = replace(site.config, user_project="payer")
    site.server.forget_requests()
    receipt = site.stage(manifest, strategy="compose")
    assert receipt.downloaded == 40
    assert {record.query.get("userProject") for record in site.server.log()} == {"payer"}
    assert any("requester pays: on, billed to payer" in line for line in receipt.preflight)


def test_auto_leaves_composing_as_soon_as_it_has_measured_that_reading_directly_is_faster(site: Site) -> None:
    site.put_numbered(3000, size=300)
    manifest = site.manifest()
    site.server.configure(latency_s={"read": 0.002, "compose": 1.5})
    receipt = site.stage(manifest, strategy="auto", max_in_flight=8)
    site.check_tree()
    # Each of the eight threads composes a group or two before the first is measured; later one group in 64 is.
    assert 4 <= receipt.composites <= 20
    assert receipt.reasons[FASTER_DIRECTLY] >= 3000 - 32 * receipt.composites - receipt.reasons[PROBED]
    assert 0 < receipt.reasons[PROBED] <= 8
    assert site.composites() == []


def test_auto_keeps_composing_on_a_slow_disk_because_reading_directly_would_write_the_same_files(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put_numbered(2000, size=300)
    manifest = site.manifest()
    site.server.configure(latency_s={"read": 0.01, "compose": 0.02})
    one_at_a_time, written, really = threading.Lock(), [], TreeWriter.write

    def write(self: TreeWriter, path: str, data: bytes) -> FileIdentity:
        with one_at_a_time:
            written.append(path)
            time.sleep(0.003)
        return really(self, path, data)

    monkeypatch.setattr(TreeWriter, "write", write)
    receipt = site.stage(manifest, strategy="auto", max_in_flight=16)
    assert len(written) > 1500  # what arrives in two pieces is written another way
    assert set(receipt.reasons) == {PROBED}
    assert receipt.batches["composite"] >= 2000 - 10


def test_where_writes_are_limited_auto_reads_what_they_cannot_carry(site: Site) -> None:
    site.put_numbered(3000, size=300)
    manifest = site.manifest()
    site.server.configure(latency_s={"read": 0.01, "compose": 0.05}, writes_per_s=10)
    receipt = site.stage(manifest, strategy="auto", max_in_flight=16)
    site.check_tree()
    assert receipt.composites > 0
    assert receipt.reasons[WRITES_LIMITED] + receipt.reasons.get(FASTER_DIRECTLY, 0) > 1500
    assert site.composites() == []


def test_idle_threads_read_objects_while_their_composites_are_awaited(site: Site) -> None:
    site.put_numbered(64, size=500_000)
    manifest = site.manifest()
    site.server.configure(latency_s={"read": 0.02, "compose": 0.12})
    site.server.forget_requests()
    receipt = site.stage(manifest, strategy="auto", max_in_flight=8)
    site.check_tree()
    assert receipt.composites == 2
    helped = receipt.reasons[AWAITED]
    assert 0 < helped <= 64
    assert receipt.batches == {"composite": 64 - helped, "direct": helped}
    # A composite is read up to the first object that a helper took: no byte is read twice.
    sent = sum(record.bytes_sent for record in site.server.log() if record.operation == "read")
    assert sent == manifest.total_bytes
    assert site.composites() == []


def test_all_may_be_read_before_the_composites_come(site: Site) -> None:
    site.put_numbered(64, size=500_000)
    manifest = site.manifest()
    site.server.configure(latency_s={"compose": 3.0})
    receipt = site.stage(manifest, strategy="auto", max_in_flight=8)
    site.check_tree()
    assert (receipt.composites, receipt.reasons) == (2, {AWAITED: 64})
    assert site.composites() == []


def test_what_helpers_did_not_take_is_read_when_composes_are_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put_numbered(64, size=500_000)
    manifest = site.manifest()
    really, given_up = Transfer._compose, []

    def compose(
        self: Transfer, batch: Batch, round_: int, result: BatchResult, helped: HelpedGroup
    ) -> StoredObject | None:
        if batch.number not in given_up:
            given_up.append(batch.number)
            time.sleep(0.05)
            raise NotWantedError
        return really(self, batch, round_, result, helped)

    monkeypatch.setattr(Transfer, "_compose", compose)
    site.server.configure(latency_s={"read": 0.02})
    receipt = site.stage(manifest, strategy="auto", max_in_flight=8)
    site.check_tree()
    assert sorted(given_up) == [0, 1]
    assert receipt.downloaded == 64
    assert receipt.reasons[AWAITED] > 0
    assert site.composites() == []


def test_auto_keeps_composing_while_that_is_what_it_measures_to_be_faster(site: Site) -> None:
    site.put_numbered(3000, size=300)
    manifest = site.manifest()
    site.server.configure(latency_s={"read": 0.04, "compose": 0.12})
    receipt = site.stage(manifest, strategy="auto", max_in_flight=16)
    site.check_tree()
    assert set(receipt.reasons) == {PROBED}
    assert receipt.batches["composite"] > 2900


def test_a_staging_that_would_cost_too_much_moves_nothing_and_one_that_need_not_fetch_costs_nothing(site: Site) -> None:
    site.put_numbered(40)
    manifest = site.manifest()
    estimated = site.stage(manifest, dry_run=True).estimated_usd
    assert estimated > 0
    site.server.forget_requests()
    with pytest.raises(CostLimitError, match="max_usd") as caught:
        site.stage(manifest, max_usd=estimated * 0.9)
    assert not caught.value.retryable
    assert caught.value.details["estimated_usd"] == pytest.approx(estimated, rel=0.2)
    assert sum(caught.value.details["costs"].values()) == pytest.approx(caught.value.details["estimated_usd"])
    assert not {"read", "compose"} & set(site.operations())
    assert not site.destination.exists()
    receipt = site.stage(manifest, max_usd=estimated * 1.3)
    assert receipt.downloaded == 40
    again = site.stage(manifest, max_usd=0)
    assert (again.reused, again.downloaded) == (40, 0)
