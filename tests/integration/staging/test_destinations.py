"""Destinations as they are: deep, shared, mounted, without renames, in use, impossible."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import subprocess
from pathlib import Path

import pytest
from staging_site import BUCKET, Site, content, tree

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.errors import (
    DestinationBusyError,
    DestinationError,
    InsufficientSpaceError,
    InvalidRequestError,
    ObjectsChangedError,
    UnsafeNameError,
)
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.staging import destination

pytestmark = pytest.mark.in_memory

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount, and become another user")


@pytest.mark.in_memory(False)
def test_direct_reads_of_deep_trees_need_few_descriptors(site: Site) -> None:
    below = "/".join(f"d{depth}" for depth in range(12))
    site.put({f"{number:03}/{below}/o": b"x" * 100 for number in range(400)})
    manifest = site.manifest()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    site.server.configure(first_byte_s=0.05)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 400, hard))
    try:
        site.stage(manifest, strategy="direct", max_in_flight=100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    site.check_tree()


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EXDEV, errno.ENOSYS, errno.EPERM])
def test_where_directories_cannot_be_renamed_a_new_tree_is_built_in_place(
    site: Site, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    site.put_numbered(50)
    rename = os.rename

    def no_directories(source: str, target: str, **kw: int) -> None:
        if not kw and os.path.isdir(source):
            raise OSError(code, os.strerror(code), source, None, target)
        rename(source, target, **kw)

    monkeypatch.setattr(os, "rename", no_directories)
    manifest = site.manifest()
    receipt = site.stage(manifest, strategy="direct")
    assert any("built in place" in line for line in receipt.preflight)
    site.check_tree()
    assert [path.name for path in site.disk.iterdir() if "partial" in path.name] == []
    site.server.forget_requests()
    assert site.stage(manifest).reused == 50
    assert site.operations() == {}


def test_a_busy_destination_is_worth_another_try(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put_numbered(5)
    manifest = site.manifest()
    site.stage(manifest)
    (site.destination / "train/000/00001.bin").unlink()
    monkeypatch.setattr(destination, "LOCK_WAIT_S", 0.0)
    with (site.destination / ".dataflux/lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DestinationBusyError, match=str(site.destination)) as caught:
            site.stage(manifest)
    assert caught.value.retryable
    assert site.stage(manifest).downloaded == 1


@pytest.mark.parametrize("wrong", ["/", "//", "/data/\0x", "relative/x"])
def test_what_cannot_be_a_destination_is_refused_when_it_is_asked_for(site: Site, wrong: str) -> None:
    manifest = site.manifest()
    with pytest.raises(InvalidRequestError, match="destination"):
        site.stage(manifest, destination=wrong)


@pytest.mark.parametrize("dry_run", [False, True], ids=["for real", "dry run"])
@pytest.mark.parametrize("wrong", ["/proc/staged", "/sys/staged", "{disk}/" + "x" * 300, "{disk}/" + "x/" * 2500])
def test_a_destination_that_cannot_hold_files_is_refused_before_anything_is_fetched(
    site: Site, wrong: str, dry_run: bool
) -> None:
    site.put_numbered(5)
    manifest = site.manifest()
    site.server.forget_requests()
    with pytest.raises(DestinationError) as caught:
        site.stage(manifest, destination=wrong.format(disk=site.disk), dry_run=dry_run)
    assert "read" not in site.operations()
    assert "partial" not in str(caught.value)


@needs_root
def test_files_on_a_file_system_that_is_mounted_inside_can_be_replaced(site: Site) -> None:
    site.put_numbered(80)
    below = site.destination / "train/001"
    below.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(below)], check=True)
    try:
        site.stage(site.manifest())
        site.put({"train/001/00041.bin": b"changed", "train/001/00042.bin": b"large" * 400_000})
        assert site.stage(site.manifest("second")).downloaded == 2
        site.check_tree()
        assert not [path for path in below.iterdir() if path.name.startswith(".")]
    finally:
        subprocess.run(["umount", str(below)], check=True)


@needs_root
@pytest.mark.parametrize("name", ["train/001", "train/001:2"])
def test_a_file_system_that_is_mounted_inside_and_full_is_named_with_its_own_figures(site: Site, name: str) -> None:
    site.put({f"train/000/{number}.bin": content(number, 4000) for number in range(40)})
    site.put({f"{name}/{number}.bin": content(number, 4000) for number in range(40)})
    below = site.destination / name
    below.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(below)], check=True)
    try:
        with pytest.raises(InsufficientSpaceError, match=f"mounted at {below} is full") as caught:
            site.stage(site.manifest())
    finally:
        subprocess.run(["umount", str(below)], check=True)
    assert caught.value.unit == "bytes"
    assert caught.value.free < 64 << 10
    assert caught.value.needed is None
    assert str(caught.value).startswith(f"Writing '{name}/")


@needs_root
def test_a_full_disk_ends_no_staging_that_has_nothing_to_do(site: Site) -> None:
    site.put_numbered(5)
    manifest = site.manifest()
    site.destination.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=50", "tmpfs", str(site.destination)], check=True)
    try:
        site.stage(manifest, report=True)
        with contextlib.suppress(OSError):
            for number in range(50):
                (site.destination / f"other{number}").touch()
        assert os.statvfs(site.destination).f_favail == 0
        assert site.stage(manifest, report=True).reused == 5
    finally:
        subprocess.run(["umount", str(site.destination)], check=True)


@needs_root
@pytest.mark.parametrize("closed", [".dataflux", "train/000"])
def test_another_users_tree_is_an_error_that_says_whose_it_is_and_what_helps(site: Site, closed: str) -> None:
    site.put_numbered(5)
    site.stage(site.manifest())
    for path in (site.destination, *site.destination.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    for path in site.disk.resolve().parents:
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    (site.destination / closed).chmod(0o755)
    (site.destination / ".dataflux/lock").chmod(0o644)
    site.put({"train/000/new.bin": b"new"})
    manifest = site.inline_manifest("second")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(3001)
            os.setuid(3001)
            site.stage(manifest)
            os.write(write, b"staged")
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(write, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    said = os.read(read, 10_000).decode()
    os.close(read)
    assert said.startswith("DestinationError: "), said
    assert "belongs to user 0" in said
    assert "chmod -R g+rwX" in said


def test_receipts_can_be_kept_outside_the_tree(site: Site) -> None:
    site.put({f"train/{kind}/{number}.jpg": b"x" for kind in ("cat", "dog") for number in range(3)})
    manifest = site.manifest()
    receipts = site.disk / "receipts"
    given = {"strip_prefix": "train/", "receipt_directory": str(receipts), "report": True}
    receipt = site.stage(manifest, **given)
    assert sorted(path.name for path in site.destination.iterdir()) == ["cat", "dog"]
    assert receipt.directory == str(receipts)
    assert (receipts / "receipt.json").exists()
    site.server.forget_requests()
    again = site.stage(manifest, **given)
    assert (again.reused, site.operations()) == (6, {})
    (site.destination / "cat/1.jpg").unlink()
    assert site.stage(manifest, **given).downloaded == 1
    assert sorted(path.name for path in site.destination.iterdir()) == ["cat", "dog"]
    site.put({"train/cat/1.jpg": b"changed"})
    assert site.stage(site.manifest("second"), **given).downloaded == 1
    assert len(tree(site.destination)) == 6


def test_shards_keep_their_receipts_outside_together_and_another_destination_may_not(site: Site) -> None:
    site.put_numbered(60)
    receipts = str(site.disk / "receipts")
    for shard in site.manifest().shards(3):
        site.stage(shard, receipt_directory=receipts)
    site.check_tree()
    assert not (site.destination / ".dataflux").exists()
    (site.disk / "other").mkdir()
    (site.disk / "other/file").write_bytes(b"")
    with pytest.raises(DestinationError, match="another destination"):
        site.stage(site.manifest(), destination=str(site.disk / "other"), receipt_directory=receipts)


@pytest.mark.parametrize("place", [".", "listings/today"])
def test_no_object_takes_the_place_of_the_manifest_that_is_staged(site: Site, place: str) -> None:
    site.put_numbered(20)
    manifest = site.manifest(f"staged/{place}")
    below = "" if place == "." else f"{place}/"
    names = {f"{below}manifest.json", f"{below}{manifest.index.parts[0].path}"}
    site.put(dict.fromkeys(names, b"mine"))
    manifest = site.manifest(f"staged/{place}")
    assert len(manifest) == 22
    with pytest.raises(UnsafeNameError, match="would replace a file of the manifest") as caught:
        site.stage(manifest)
    assert set(caught.value.names) == names
    receipt = site.stage(manifest, on_unsafe_name="skip")
    assert (receipt.downloaded, set(receipt.unsafe)) == (20, names)
    assert len(Manifest.open(str(site.destination / place)).to_arrow()) == 22


def test_no_object_takes_the_place_of_receipts_that_lie_in_the_destination(site: Site) -> None:
    receipts = str(site.destination / "of-runs")
    site.put({"of-runs": b"1", "of-runs-too/x": b"2", "x": b"3"})
    with pytest.raises(UnsafeNameError, match="receipt_directory") as caught:
        site.stage(site.manifest(), receipt_directory=receipts)
    assert set(caught.value.names) == {"of-runs"}
    site.server.delete(BUCKET, "of-runs")
    site.put({"of-runs/receipt.json": b"1", "of-runs/lock": b"2"})
    receipt = site.stage(site.manifest("m2"), receipt_directory=receipts, on_unsafe_name="skip")
    assert (receipt.downloaded, set(receipt.unsafe)) == (2, {"of-runs/receipt.json", "of-runs/lock"})
    with pytest.raises(InvalidRequestError, match="receipt_directory is the destination itself"):
        StageRequest(destination=str(site.destination), receipt_directory=f"{site.destination}/.")


@pytest.mark.parametrize("name", ["receipt.json", "lock", "progress"])
def test_a_pipe_in_the_place_of_an_own_file_is_never_waited_for(site: Site, name: str) -> None:
    site.put_numbered(5)
    own = site.destination / ".dataflux"
    own.mkdir(parents=True)
    os.mkfifo(own / name)
    if name == "receipt.json":
        site.stage(site.manifest(), strategy="direct")
        site.check_tree()
    else:
        with pytest.raises(DestinationError, match=f"{name}.*not a regular file"):
            site.stage(site.manifest(), strategy="direct")


@pytest.mark.parametrize("outside", [False, True], ids=["in the tree", "outside"])
@pytest.mark.parametrize("dry_run", [False, True], ids=["for real", "dry run"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("receipt.json", "directory"),
        ("lock", "directory"),
        ("lock", "link"),
        ("lock", "pipe"),
        ("progress", "directory"),
        ("progress", "link"),
        ("progress", "pipe"),
        ("unfinished", "file"),
        ("unfinished", "link"),
        ("unfinished", "pipe"),
        ("", "file"),
        ("", "pipe"),
    ],
)
def test_what_stands_in_the_place_of_an_own_file_is_refused_before_anything_is_fetched(
    site: Site, name: str, kind: str, dry_run: bool, outside: bool
) -> None:
    site.put_numbered(5)
    manifest = site.manifest()
    own = site.disk / "receipts" if outside else site.destination / ".dataflux"
    place = own / name
    place.parent.mkdir(parents=True, exist_ok=True)
    make = {
        "directory": place.mkdir,
        "file": place.touch,
        "link": lambda: place.symlink_to(site.disk),
        "pipe": lambda: os.mkfifo(place),
    }
    make[kind]()
    site.server.forget_requests()
    with pytest.raises(DestinationError, match=str(place)) as caught:
        site.stage(manifest, strategy="direct", dry_run=dry_run, receipt_directory=str(own) if outside else None)
    assert "Remove it" in str(caught.value) or "Choose another one" in str(caught.value)
    assert "read" not in site.operations()


def test_the_same_in_an_unfinished_tree_is_named_by_the_place_where_it_will_be(site: Site) -> None:
    site.put_numbered(5)
    manifest = site.manifest()
    site.server.delete(BUCKET, "train/000/00001.bin")
    with pytest.raises(ObjectsChangedError):
        site.stage(manifest)
    (partial,) = site.disk.glob(".staged.dataflux-partial-*")
    (partial / ".dataflux/receipt.json").mkdir()
    with pytest.raises(DestinationError, match=f"{site.destination}/.dataflux/receipt.json is a directory") as caught:
        site.stage(manifest)
    assert "partial" not in str(caught.value)


def test_a_list_of_objects_that_became_a_directory_ends_no_staging(site: Site) -> None:
    site.put_numbered(5)
    site.stage(site.manifest())
    (objects,) = (site.destination / ".dataflux").glob("objects-*.parquet")
    objects.unlink()
    objects.mkdir()
    site.put({"train/000/00001.bin": b"changed"})
    assert site.stage(site.manifest("second")).downloaded == 1
    site.check_tree()
    assert objects.is_dir()


def test_a_receipt_directory_that_cannot_be_leaves_nothing_and_is_named(site: Site) -> None:
    site.put_numbered(5)
    with pytest.raises(DestinationError, match="The receipt_directory /proc/none cannot be made"):
        site.stage(site.manifest(), receipt_directory="/proc/none")
    assert [path.name for path in site.disk.iterdir() if "partial" in path.name] == []


def test_a_locale_that_cannot_express_names_is_refused_with_the_remedy(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put_numbered(5)
    manifest = site.manifest()
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    with pytest.raises(DestinationError, match="PYTHONUTF8=1"):
        site.stage(manifest)
