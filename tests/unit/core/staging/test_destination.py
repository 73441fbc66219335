"""Where a staging builds: new trees beside their destination, everything else in place, one at a time."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from airflow_dataflux.core.errors import CancelledError, DestinationBusyError, DestinationError
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.staging import destination
from airflow_dataflux.core.staging.destination import (
    AttemptRecord,
    Place,
    Workspace,
    abandoned_trees,
    check_destination,
    open_workspace,
)

RECORD = AttemptRecord(bucket="b", composite_prefix="c/", attempt_prefix="c/dag/run/task/-1/1/0123456789abcdef-")


def place(path: Path, scope: str = "", key: str = "fingerprint") -> Place:
    return Place(destination=str(path), scope=scope, key=key)


def opened(path: Path, **where: str) -> Workspace:
    return open_workspace(place(path, **where), CancelToken())


def test_a_new_whole_tree_is_built_beside_and_published_by_one_rename(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "set"
    with opened(target) as workspace:
        assert workspace.new_tree
        assert workspace.found_empty
        assert Path(workspace.root).parent == target.parent
        assert Path(workspace.root).name.startswith(".set.dataflux-partial-")
        Path(workspace.root, "f").write_bytes(b"x")
        assert not target.exists()
        workspace.publish()
    assert (target / "f").read_bytes() == b"x"
    assert not Path(workspace.root).exists()


@pytest.mark.parametrize("scope", ["", "00000-of-00002"])
def test_an_existing_destination_is_built_in_place(tmp_path: Path, scope: str) -> None:
    (tmp_path / "f").write_bytes(b"x")
    with opened(tmp_path, scope=scope) as workspace:
        assert (workspace.root, workspace.new_tree, workspace.found_empty) == (str(tmp_path), False, False)
        workspace.publish()


def test_the_same_manifest_finds_its_unfinished_tree_again(tmp_path: Path) -> None:
    target = tmp_path / "set"
    with opened(target) as workspace:
        Path(workspace.root, "f").write_bytes(b"x")
    with opened(target) as again:
        assert again.root == workspace.root
        assert not again.found_empty


def test_unfinished_trees_of_other_manifests_are_found_unless_someone_works_on_them(tmp_path: Path) -> None:
    target = tmp_path / "set"
    with opened(target, key="abandoned") as abandoned:
        abandoned.record(RECORD)
    with opened(target, key="living") as living, opened(target) as mine:
        with ExitStack() as closing:
            [found] = abandoned_trees(mine, closing)
            assert (found.path, found.record) == (abandoned.root, RECORD)
            found.remove()
        assert not Path(abandoned.root).exists()
        assert Path(living.root).exists()
        assert Path(mine.root).exists()


def test_directories_that_only_look_like_ours_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / f".set.dataflux-partial-{'0' * 16}").mkdir()
    (tmp_path / ".set.dataflux-partial-notes").mkdir()
    (tmp_path / f".other.dataflux-partial-{'0' * 16}").mkdir()
    (tmp_path / f".set.dataflux-partial-{'1' * 16}").symlink_to(tmp_path)
    with opened(tmp_path / "set") as mine, ExitStack() as closing:
        assert abandoned_trees(mine, closing) == []


def test_a_lock_that_is_held_is_an_error_after_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destination, "LOCK_WAIT_S", 0.0)
    with opened(tmp_path), pytest.raises(DestinationError, match="Another staging is at work"):
        opened(tmp_path)
    with opened(tmp_path, scope="00000-of-00002"), opened(tmp_path, scope="00001-of-00002"):
        pass


def test_who_waits_for_a_tree_that_is_published_meanwhile_goes_on_in_the_published_one(tmp_path: Path) -> None:
    target = tmp_path / "set"
    found: list[str] = []
    with opened(target) as first:
        waiting = threading.Event()

        def second() -> None:
            waiting.set()
            with opened(target) as workspace:
                found.append(workspace.root)

        thread = threading.Thread(target=second)
        thread.start()
        waiting.wait()
        first.publish()
    thread.join()
    assert found == [str(target)]


def test_a_cancel_ends_the_waiting(tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel("enough")
    with opened(tmp_path), pytest.raises(CancelledError):
        open_workspace(place(tmp_path), cancel)


def test_a_record_outlives_its_process_until_it_is_cleared(tmp_path: Path) -> None:
    with opened(tmp_path) as workspace:
        assert workspace.stale is None
        workspace.record(RECORD)
    with opened(tmp_path) as again:
        assert again.stale == RECORD
        again.clear_record()
    with opened(tmp_path) as third:
        assert third.stale is None


def test_a_tree_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "set"
    with opened(target) as workspace:
        target.mkdir()
        (target / "theirs").write_bytes(b"x")
        with pytest.raises(DestinationBusyError, match=r"made .* meanwhile"):
            workspace.publish()
    assert (target / "theirs").read_bytes() == b"x"


def test_what_cannot_be_a_directory_is_refused_without_making_anything(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in ("file", "file/below", "file/below/deeper"):
        with pytest.raises(DestinationError, match="is not one"):
            check_destination(str(tmp_path / path))
    check_destination(str(tmp_path / "new/deep"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_an_unwritable_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DestinationError, match="not writable"):
        check_destination(str(tmp_path / "set"))


def test_a_very_long_name_still_has_a_place_beside_it(tmp_path: Path) -> None:
    with opened(tmp_path / ("n" * 255)) as workspace:
        workspace.publish()
    assert (tmp_path / ("n" * 255)).is_dir()
