"""Whole files by URI: atomic, absent is absent for every scheme, and clear when it cannot be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

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
