"""Whole files by URI: atomic, absent is absent for every scheme, and clear when it cannot be."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from manifest_samples import numbered, publish_rows

from airflow_dataflux.core.errors import InvalidRequestError, ManifestError, ObjectNotFoundError
from airflow_dataflux.core.gcs.store import ObjectVersion, StoredObject
from airflow_dataflux.core.manifest import ManifestFiles
from airflow_dataflux.core.model import Row


@pytest.fixture(params=["file", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/m"
    return f"memory://{request.node.name.replace('[', '-').replace(']', '')}"


def test_what_was_written_is_read_and_listed_and_deleted(directory: str) -> None:
    files = ManifestFiles()
    files.write(f"{directory}/b", b"two")
    files.write(f"{directory}/a", b"one")
    files.write(f"{directory}/deeper/c", b"three")
    files.write(f"{directory}/a", b"once more")
    assert files.read(f"{directory}/a") == b"once more"
    assert files.names(directory) == ["a", "b"]
    files.delete(f"{directory}/a")
    files.delete(f"{directory}/a")
    assert files.names(directory) == ["b"]


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        with pytest.raises(ManifestError, match=f"Cannot read .*/{name}: it is not a regular file"):
            ManifestFiles().read(str(tmp_path / name), most_bytes=1000)


def test_what_is_not_there_is_file_not_found_for_every_scheme(directory: str) -> None:
    files = ManifestFiles()
    with pytest.raises(FileNotFoundError):
        files.read(f"{directory}/nothing")
    assert files.names(f"{directory}/nowhere") == []
    files.delete(f"{directory}/nothing")


def test_checking_that_a_place_is_writable_leaves_nothing_there(directory: str) -> None:
    files = ManifestFiles()
    files.check_writable(directory)
    assert files.names(directory) == []


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ManifestFiles()
    files.write(f"{tmp_path}/index", b"old")
    failed = []

    def refuse(source: str, target: str) -> None:
        failed.append((source, target))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ManifestError, match="No space left"):
        files.write(f"{tmp_path}/index", b"new")
    assert len(failed) == 1
    assert sorted(os.listdir(tmp_path)) == ["index"]
    assert (tmp_path / "index").read_bytes() == b"old"


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ManifestError, match=r"Cannot write file:///.*manifest_uri"):
        ManifestFiles().check_writable(f"{tmp_path}/file/m")
    with pytest.raises(ManifestError, match="Cannot read"):
        ManifestFiles().read(f"{tmp_path}/file/m")


def test_an_unknown_scheme_says_what_to_install() -> None:
    with pytest.raises(InvalidRequestError, match="there is no file system for nosuchscheme://"):
        ManifestFiles().read("nosuchscheme://x/y")


class _ReplacedOnce:
    """A store in which the object is replaced between the look at it and the read, the first `times` times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.reads: list[int] = []

    def stat(self, bucket: str, name: str, generation: int | None = None) -> StoredObject:
        row = Row(
            name=name,
            size=3,
            generation=len(self.reads) + 1,
            crc32c=None,
            storage_class="STANDARD",
            updated=datetime.now(UTC),
        )
        return StoredObject(row=row)

    @contextlib.contextmanager
    def read(self, bucket: str, version: ObjectVersion) -> Iterator[object]:
        self.reads.append(version.generation)
        if len(self.reads) <= self.times:
            raise ObjectNotFoundError("gone", operation="read", resource="", status=404, reason="")

        class Body:
            def __init__(self) -> None:
                self.pieces = [b"a", b"bc", b""]

            def readinto(self, buffer: memoryview) -> int:
                piece = self.pieces.pop(0)
                buffer[: len(piece)] = piece
                return len(piece)

        yield Body()


def test_an_object_replaced_between_look_and_read_is_looked_at_again() -> None:
    store = _ReplacedOnce(1)
    assert ManifestFiles(store).read("gs://a-bucket/m/x") == b"abc"  # type: ignore[arg-type]
    assert store.reads == [1, 2]


def test_an_object_replaced_without_end_is_file_not_found() -> None:
    store = _ReplacedOnce(9)
    with pytest.raises(FileNotFoundError, match="gs://a-bucket/m/x"):
        ManifestFiles(store).read("gs://a-bucket/m/x")  # type: ignore[arg-type]
    assert store.reads == [1, 2, 3, 4]


WRITER = """
import os, sys
from airflow_dataflux.core.manifest import ManifestFiles
def wait(_source, _target):
    print("writing", flush=True)
    sys.stdin.read()
os.replace, replace = wait, os.replace
ManifestFiles().write(sys.argv[1], b"half of it")
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a process that has written a temporary file, and gives it its name when its standard input ends."""
    started = []

    def start_one(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, str(tmp_path / name)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "writing\n"
        return started[-1]

    yield start_one
    for writer in started:
        writer.kill()
        writer.communicate()


def temporary(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name.endswith(".tmp"))


@pytest.mark.parametrize("name", ["manifest.json", "part-0a1b2c3d-0-00000.parquet", "20260101T000000Z-r-3fa9c1.html"])
def test_what_killed_writers_left_goes_with_the_next_manifest_and_what_is_being_written_stays(
    tmp_path: Path, start: Callable[[str], subprocess.Popen[str]], name: str
) -> None:
    killed, living = start(name), start(name)
    killed.kill()
    killed.communicate()
    assert len(temporary(tmp_path)) == 2
    publish_rows(tmp_path, [numbered(10)])
    assert len(temporary(tmp_path)) == 1
    living.kill()
    living.communicate()
    publish_rows(tmp_path, [numbered(10)])
    assert temporary(tmp_path) == []


def test_temporary_files_of_other_machines_and_of_earlier_versions_stay_for_a_day(tmp_path: Path) -> None:
    names = [
        ".0123456789abcdef-0123456789ab.manifest.json.tmp",
        ".0123456789ab.manifest.json.tmp",
        ".writable-0123456789ab",
    ]
    for name in names:
        (tmp_path / name).touch()
    ManifestFiles().remove_left(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    for name in names:
        os.utime(tmp_path / name, (time.time() - 90_000,) * 2)
    with (tmp_path / names[0]).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ManifestFiles().remove_left(str(tmp_path))
        assert os.listdir(tmp_path) == names[:1]
    ManifestFiles().remove_left(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_what_is_only_called_like_a_temporary_file_of_ours_stays(tmp_path: Path) -> None:
    ours = ".0123456789ab.manifest.json.tmp"
    names = [".0123456789ab.notes.tmp", "0123456789ab.manifest.json.tmp", ".012.manifest.json.tmp", f"{ours}.bak"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / ".writable-0123456789ab").write_bytes(b"mine")
    (tmp_path / "file").touch()
    (tmp_path / ours).symlink_to(tmp_path / "file")
    (tmp_path / ours.replace("0", "1")).mkdir()
    os.mkfifo(tmp_path / ours.replace("0", "2"))
    before = sorted(os.listdir(tmp_path))
    for name in before:
        os.utime(tmp_path / name, (0, 0), follow_symlinks=False)
    ManifestFiles().remove_left(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == before


def test_where_nobody_can_lock_temporary_files_stay_and_writing_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _how: int) -> None:
        raise OSError(38, "Function not implemented")

    (tmp_path / ".0123456789ab.manifest.json.tmp").touch()
    os.utime(tmp_path / ".0123456789ab.manifest.json.tmp", (0, 0))
    monkeypatch.setattr(fcntl, "flock", refuse)
    publish_rows(tmp_path, [numbered(10)])
    assert len(temporary(tmp_path)) == 1


def test_a_file_that_is_taken_for_left_over_before_it_is_locked_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def take_first(descriptor: int, how: int) -> None:
        monkeypatch.undo()
        ManifestFiles().remove_left(str(tmp_path))
        assert temporary(tmp_path) == []
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", take_first)
    ManifestFiles().write(f"{tmp_path}/manifest.json", b"whole")
    assert os.listdir(tmp_path) == ["manifest.json"]
    assert (tmp_path / "manifest.json").read_bytes() == b"whole"
