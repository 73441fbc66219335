"""Files appear whole or not at all, and never outside the destination."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_dataflux.core.errors import DestinationError, InsufficientSpaceError
from airflow_dataflux.core.manifest.files import open_file
from airflow_dataflux.core.staging.localfile import DestinationTree, TreeWriter
from airflow_dataflux.core.staging.transfer import cutting_at_once


@pytest.fixture(params=["anonymous", "named"])
def tree(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DestinationTree]:
    if request.param == "named":
        monkeypatch.setattr(DestinationTree, "_try_anonymous", lambda self: False)
    root = tmp_path / "root"
    root.mkdir()
    opened = DestinationTree(str(root))
    if request.param == "anonymous" and not opened.anonymous:
        pytest.skip("the file system of the temporary directory has no anonymous files")
    yield opened
    opened.close()


def files_below(tree: DestinationTree) -> list[str]:
    """Return all files but the mark of the tree's own writer."""
    found = (path for path in Path(tree.root).rglob("*") if path.is_file() and not path.name.startswith("writer~"))
    return sorted(path.relative_to(tree.root).as_posix() for path in found)


def test_a_file_is_there_with_its_content_and_what_identifies_it(tree: DestinationTree) -> None:
    with TreeWriter(tree) as writer:
        placed = writer.write("a/b/c.bin", b"content")
    status = Path(tree.root, "a/b/c.bin").stat()
    assert Path(tree.root, "a/b/c.bin").read_bytes() == b"content"
    assert (placed.mtime_ns, placed.inode) == (status.st_mtime_ns, status.st_ino)


def test_only_regular_files_are_opened_and_nothing_else_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for flags in (os.O_RDONLY, os.O_RDWR):
        for name in ("pipe", "directory", "link"):
            with pytest.raises(OSError, match=r"regular file|directory|symbolic links"):
                open_file(str(tmp_path / name), flags)
    descriptor = open_file(str(tmp_path / "file"))
    assert os.read(descriptor, 10) == b"content"
    os.close(descriptor)


def test_files_get_the_permissions_that_the_umask_leaves(tree: DestinationTree) -> None:
    umask = os.umask(0o027)
    try:
        with TreeWriter(tree) as writer:
            writer.write("f", b"")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(Path(tree.root, "f").stat().st_mode) == 0o640


def test_an_existing_file_is_replaced_in_one_step(tree: DestinationTree) -> None:
    old = Path(tree.root, "f")
    old.write_bytes(b"old")
    with old.open("rb") as reader, TreeWriter(tree) as writer:
        writer.write("f", b"new")
        assert reader.read() == b"old"
    assert old.read_bytes() == b"new"
    assert files_below(tree) == ["f"]


def test_nothing_remains_of_a_file_that_is_not_published(tree: DestinationTree) -> None:
    with TreeWriter(tree) as writer, writer.begin("f", 100) as file:
        file.append(b"half")
    assert files_below(tree) == []


def test_a_file_in_the_making_is_not_to_be_seen_under_its_name(tree: DestinationTree) -> None:
    with TreeWriter(tree) as writer, writer.begin("f") as file:
        file.append(b"first ")
        assert not Path(tree.root, "f").exists()
        file.append(b"second")
        file.publish()
    assert Path(tree.root, "f").read_bytes() == b"first second"


def test_ranges_may_be_written_in_any_order_by_several_threads(tree: DestinationTree) -> None:
    with TreeWriter(tree) as writer, writer.begin("f", 800) as file:
        threads = [threading.Thread(target=file.write_at, args=(bytes([n]) * 100, n * 100)) for n in reversed(range(8))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        file.publish()
    assert Path(tree.root, "f").read_bytes() == b"".join(bytes([n]) * 100 for n in range(8))


def test_writes_that_the_system_cuts_short_are_continued(
    tree: DestinationTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, real_at = os.write, os.pwrite
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real_at(fd, bytes(data)[:3], at))
    with TreeWriter(tree) as writer:
        writer.write("f", b"0123456789")
        with writer.begin("g") as file:
            file.write_at(b"0123456789", 0)
            file.publish()
    assert Path(tree.root, "f").read_bytes() == Path(tree.root, "g").read_bytes() == b"0123456789"


def test_a_symlink_on_the_way_is_refused(tree: DestinationTree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    Path(tree.root, "a").symlink_to(outside)
    with TreeWriter(tree) as writer, pytest.raises(DestinationError, match="stands in its way"):
        writer.write("a/f", b"x")
    assert list(outside.iterdir()) == []


def test_a_symlink_at_the_end_is_replaced_and_not_followed(tree: DestinationTree, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"untouched")
    Path(tree.root, "f").symlink_to(target)
    with TreeWriter(tree) as writer:
        writer.write("f", b"x")
    assert target.read_bytes() == b"untouched"
    assert Path(tree.root, "f").read_bytes() == b"x"
    assert not Path(tree.root, "f").is_symlink()


def test_a_directory_where_a_file_belongs_is_an_error(tree: DestinationTree) -> None:
    Path(tree.root, "f").mkdir()
    with TreeWriter(tree) as writer, pytest.raises(DestinationError, match="stands in its way"):
        writer.write("f", b"x")
    assert files_below(tree) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_is_free(tree: DestinationTree, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(*_args: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", full)
    with TreeWriter(tree) as writer, pytest.raises(InsufficientSpaceError) as caught:
        writer.write("f", b"x")
    assert caught.value.free > 0
    assert files_below(tree) == []


@pytest.mark.parametrize(
    ("free_bytes", "inodes", "free_inodes", "unit"),
    [
        (1000, 1000, 0, "inodes"),
        (1000, 1000, 1, "inodes"),
        (0, 1000, 900, "bytes"),
        (2, 1000, 900, "bytes"),
        (2, 0, 0, "bytes"),
    ],
)
def test_what_has_run_out_is_named_though_there_is_a_little_again(
    tree: DestinationTree,
    monkeypatch: pytest.MonkeyPatch,
    free_bytes: int,
    inodes: int,
    free_inodes: int,
    unit: str,
) -> None:
    found = os.statvfs_result((1, 1, 1000, free_bytes, free_bytes, inodes, free_inodes, free_inodes, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _descriptor: found)
    error = tree.no_space("f", {"bytes": 70, "inodes": 7})
    assert (error.unit, error.needed) == (unit, {"bytes": 70, "inodes": 7}[unit])


def test_no_descriptor_stays_open(tree: DestinationTree) -> None:
    for _ in range(2):
        tree.write_own("replaced", b"")  # the directory of temporary files is open from now on
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        with TreeWriter(tree) as writer:
            writer.write(f"d{number}/e/f", b"x")
            with writer.begin("g"):
                pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_batch_in_many_deep_directories_holds_only_one_directory_open(tree: DestinationTree) -> None:
    for _ in range(2):
        tree.write_own("replaced", b"")  # the directory of temporary files is open from now on
    before = len(os.listdir("/proc/self/fd"))
    with TreeWriter(tree) as writer:
        for number in range(100):
            writer.write(f"d{number:03}/e/f/g.bin", b"x")
            assert len(os.listdir("/proc/self/fd")) == before + 1
        writer.write("top.bin", b"x")
    assert len(files_below(tree)) == 102


def test_temporary_files_of_earlier_versions_are_removed_by_their_own_scope_only(tmp_path: Path) -> None:
    opened = DestinationTree(str(tmp_path), "00000-of-00002")
    directory = tmp_path / ".dataflux/unfinished"
    directory.mkdir()
    for scope in ("00000-of-00002", "00001-of-00002", ""):
        (directory / f".dataflux-{scope}~0123456789ab-0").write_bytes(b"left")
    opened.remove_left("00000-of-00002")
    assert {path.name.partition("~")[0] for path in directory.iterdir()} == {".dataflux-", ".dataflux-00001-of-00002"}
    opened.close()
    assert len(list(directory.iterdir())) == 2


def test_one_that_is_ready_takes_nothing_from_one_that_writes(tree: DestinationTree) -> None:
    other = DestinationTree(tree.root, "00001-of-00002")
    with TreeWriter(tree) as writer:
        writer.write("a", b"1")
        writer.write("a", b"2")  # replaces: that takes a temporary name
        other.close()
        writer.write("a", b"3")
        with writer.begin("b") as file:
            file.append(b"4")
            DestinationTree(tree.root).close()
            file.publish()
        writer.write("b", b"5")
    assert (Path(tree.root, "a").read_bytes(), Path(tree.root, "b").read_bytes()) == (b"3", b"5")
    tree.close()
    assert files_below(tree) == ["a", "b"]
    assert list(Path(tree.root, ".dataflux").iterdir()) == []


def test_a_slow_file_system_is_told_from_a_fast_one(tree: DestinationTree, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cutting_at_once(tree.seconds_a_file()) < 20
    real_open = os.open

    def slow_open(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_WRONLY:
            time.sleep(0.002)
        return real_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", slow_open)
    assert cutting_at_once(tree.seconds_a_file()) >= 20
    assert files_below(tree) == []


def test_one_thread_cuts_unless_the_file_system_makes_it_wait() -> None:
    assert [cutting_at_once(seconds) for seconds in (0.0, 0.00003, 0.0001, 0.001, 0.005, 10.0)] == [1, 1, 1, 10, 32, 32]
