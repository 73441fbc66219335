"""Temporary files that are left over, by writers that were killed, and those of living ones."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from half_writer import kill_half_writer, start_half_writer

from airflow_dataflux.core.gcs.memory import MemoryStores
from airflow_dataflux.core.gcs.store import StoreOptions
from airflow_dataflux.core.packing.pack_output import PackOutput
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import writer_mark
from airflow_dataflux.core.staging.localfile import DestinationTree
from airflow_dataflux.core.staging.writer_mark import WriterMark, other_marks

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start processes that write half a file to a destination, as `start_half_writer` does."""
    started = []

    def start_one(*where: str) -> subprocess.Popen[str]:
        started.append(start_half_writer(tmp_path, *where))
        return started[-1]

    yield start_one
    for writer in started:
        if writer.poll() is None:
            writer.kill()
            writer.communicate()


def look(root: Path, **where: str) -> None:
    """Come by as the next writer does."""
    tree = DestinationTree(str(root), **where)
    tree.remove_left()
    tree.close()


def own_files(root: Path) -> list[str]:
    own = root / ".dataflux"
    return sorted(path.relative_to(own).as_posix().partition("~")[0] for path in own.rglob("*"))


@pytest.mark.parametrize("scope", ["", "00001-of-00002"])
def test_what_a_killed_writer_left_is_removed_by_whoever_comes_next(tmp_path: Path, start: Start, scope: str) -> None:
    kill_half_writer(start(scope))
    assert own_files(tmp_path) == ["unfinished", f"unfinished/.dataflux-{scope}", "writer"]
    look(tmp_path)
    assert own_files(tmp_path) == []


def test_a_pack_removes_what_a_killed_pack_left_and_nothing_of_a_living_one(tmp_path: Path, start: Start) -> None:
    living, dead = start(), start()
    kill_half_writer(dead)
    output = PackOutput(str(tmp_path), MemoryStores().open(AnonymousTokens(), StoreOptions(connections=1)))
    output.prepare()
    output.close()
    assert own_files(tmp_path) == ["unfinished", "unfinished/.dataflux-", "writer"]
    living.communicate("")
    assert own_files(tmp_path) == []


def test_what_a_living_writer_writes_stays(tmp_path: Path, start: Start) -> None:
    writer, dead = start(), start()
    kill_half_writer(dead)
    look(tmp_path)
    assert own_files(tmp_path) == ["unfinished", "unfinished/.dataflux-", "writer"]
    writer.communicate("")
    assert writer.returncode == 0
    assert own_files(tmp_path) == []


@pytest.mark.parametrize("killed", [False, True])
def test_a_writer_of_another_machine_is_believed_to_live_for_a_day(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    writer = start()
    if killed:
        kill_half_writer(writer)
    else:  # a file system that locks within one machine only
        monkeypatch.setattr(writer_mark.fcntl, "flock", lambda _descriptor, _how: None)
    monkeypatch.setattr(writer_mark, "machine_id", lambda: "another one")
    look(tmp_path)
    assert own_files(tmp_path) == ["unfinished", "unfinished/.dataflux-", "writer"]
    (temporary,) = (tmp_path / ".dataflux/unfinished").iterdir()
    os.utime(temporary, (time.time() - 90_000,) * 2)
    look(tmp_path)
    assert own_files(tmp_path) == []


def test_where_nobody_can_lock_nothing_is_removed(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _how: int) -> None:
        raise OSError(38, "Function not implemented")

    kill_half_writer(start())
    monkeypatch.setattr(writer_mark.fcntl, "flock", refuse)
    look(tmp_path)
    assert own_files(tmp_path) == ["unfinished", "unfinished/.dataflux-", "writer"]


def test_a_file_that_is_only_named_like_a_mark_proves_nothing(tmp_path: Path) -> None:
    own = tmp_path / ".dataflux"
    (own / "unfinished").mkdir(parents=True)
    (own / "writer~0123456789ab").write_bytes(b"mine")
    (own / "unfinished/.dataflux-~0123456789ab-0").write_bytes(b"mine")
    (own / "writer~00000000000g").write_bytes(b"")
    look(tmp_path)
    assert own_files(tmp_path) == ["unfinished", "unfinished/.dataflux-", "writer", "writer"]


def test_a_mark_that_is_taken_before_it_is_locked_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_fd = os.open(tmp_path, os.O_RDONLY)
    other, flock, taken = WriterMark(own_fd), writer_mark.fcntl.flock, []

    def take_first(descriptor: int, how: int) -> None:
        monkeypatch.undo()
        with other_marks(own_fd, other) as marks:
            taken.extend(marks)
            for mark in marks:
                assert mark.ended
                writer_mark.remove_mark(own_fd, mark)
        flock(descriptor, how)

    monkeypatch.setattr(writer_mark.fcntl, "flock", take_first)
    mine = WriterMark(own_fd)
    assert len(taken) == 1
    assert sorted(os.listdir(tmp_path)) == sorted([f"writer~{mine.digits}", f"writer~{other.digits}"])
    with other_marks(own_fd, other) as marks:
        assert [(mark.digits, mark.ended) for mark in marks] == [(mine.digits, False)]
    mine.remove()
    other.remove()
    os.close(own_fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("directory", ["", "deep/below"])
def test_files_beside_their_place_are_found_again_and_no_others(tmp_path: Path, start: Start, directory: str) -> None:
    receipts = tmp_path.parent / f"{tmp_path.name}-receipts"
    receipts.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(receipts)], check=True)
    try:
        writer = start("", directory, str(receipts))
        place = tmp_path / directory
        (temporary,) = place.glob(".dataflux-*")
        mine = place / ".dataflux-~0123456789ab-0"
        mine.write_bytes(b"an object of this name")
        look(tmp_path, receipt_directory=str(receipts))
        assert temporary.exists()
        kill_half_writer(writer)
        look(tmp_path, receipt_directory=str(receipts))
        assert [path.name for path in place.iterdir()] == [mine.name]
        assert list(receipts.iterdir()) == []
    finally:
        subprocess.run(["umount", str(receipts)], check=True)


def test_many_who_come_and_go_leave_nothing_and_disturb_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DestinationTree, "_try_anonymous", lambda self: False)
    errors: list[BaseException] = []

    def come_and_go(number: int) -> None:
        try:
            for round_ in range(30):
                tree = DestinationTree(str(tmp_path), f"{number:05}-of-00004")
                tree.remove_left()
                tree.write_own(f"file-{number}", b"%d" % round_)
                tree.close()
        except BaseException as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert own_files(tmp_path) == [f"file-{number}" for number in range(4)]
