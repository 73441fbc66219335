"""Pruning staged trees: what goes, what stays, and that nothing is left half removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from receipts import write_receipt

from airflow_dataflux.core.config import PruneRequest
from airflow_dataflux.core.errors import DestinationError, InvalidRequestError
from airflow_dataflux.core.staging.pruning import PruneResult, lease, prune_staged

NOW = datetime.now(UTC)


def make_tree(root: Path, name: str, *, age_days: float = 0.0, files: dict[str, bytes] | None = None) -> Path:
    """Make what a staging leaves, as far as a prune looks at it."""
    tree = root / name
    own = tree / ".dataflux"
    own.mkdir(parents=True)
    files = {"a/one.bin": b"1" * 10_000, "two.bin": b"2" * 5_000} if files is None else files
    for path, data in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
    write_receipt(tree, sorted(files), NOW - timedelta(days=age_days))
    return tree


@pytest.fixture
def days(tmp_path: Path) -> list[Path]:
    """Five trees, the oldest first."""
    return [make_tree(tmp_path, f"day-{number}", age_days=10 - number) for number in range(5)]


def prune(root: Path, **rules: object) -> PruneResult:
    return prune_staged(PruneRequest(root=str(root), **rules))  # type: ignore[arg-type]


def names(root: Path) -> list[str]:
    return sorted(os.listdir(root))


def test_the_newest_are_kept(days: list[Path], tmp_path: Path) -> None:
    result = prune(tmp_path, keep_last=2)
    assert result.removed == tuple(map(str, days[:3]))
    assert names(tmp_path) == ["day-3", "day-4"]
    assert result.found == 5


def test_the_younger_are_kept(days: list[Path], tmp_path: Path) -> None:
    prune(tmp_path, older_than=timedelta(days=8, hours=12))
    assert names(tmp_path) == ["day-2", "day-3", "day-4"]


def test_each_rule_protects(days: list[Path], tmp_path: Path) -> None:
    prune(tmp_path, older_than=timedelta(days=1), keep_last=4)
    assert names(tmp_path) == ["day-1", "day-2", "day-3", "day-4"]


def test_the_oldest_go_until_the_quota_holds(days: list[Path], tmp_path: Path) -> None:
    each = prune(tmp_path, keep_last=5).total_bytes // 5
    result = prune(tmp_path, max_total_bytes=each * 3)
    assert names(tmp_path) == ["day-2", "day-3", "day-4"]
    assert result.total_bytes <= each * 3
    assert result.freed_bytes == pytest.approx(each * 2)


def test_a_dry_run_removes_nothing_and_says_what_would_go(days: list[Path], tmp_path: Path) -> None:
    result = prune(tmp_path, keep_last=1, dry_run=True)
    assert len(result.removed) == 4
    assert result.freed_bytes > 0
    assert len(names(tmp_path)) == 5


def test_a_linked_file_frees_nothing_before_its_last_link_goes(tmp_path: Path) -> None:
    first = make_tree(tmp_path, "first", age_days=3, files={"big.bin": b"x" * 1_000_000})
    second = make_tree(tmp_path, "second", age_days=2, files={})
    os.link(first / "big.bin", second / "big.bin")
    pq.write_table(pa.table({"path": ["big.bin"]}), second / ".dataflux/objects-1.parquet")
    make_tree(tmp_path, "third", age_days=1, files={})
    assert prune(tmp_path, keep_last=2).freed_bytes < 100_000
    assert prune(tmp_path, keep_last=1).freed_bytes >= 1_000_000


def test_what_is_not_ours_stays(days: list[Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_bytes(b"mine")
    (days[0] / "checkpoint.pt").write_bytes(b"trained for a week")
    (tmp_path / "link").symlink_to(days[1])
    result = prune(tmp_path, keep_last=0)
    assert names(tmp_path) == ["day-0", "link", "mine"]
    assert result.kept == {str(days[0]): "it holds a file that no staging put there: checkpoint.pt"}
    assert (days[0] / "two.bin").exists()


def test_a_leased_tree_stays_until_the_lease_ends(days: list[Path], tmp_path: Path) -> None:
    with lease(str(days[0])), lease(str(days[0])):
        result = prune(tmp_path, keep_last=4)
        assert result.kept == {str(days[0]): "it is leased"}
        assert (days[0] / "two.bin").exists()
    assert prune(tmp_path, keep_last=4).removed == (str(days[0]),)


def test_a_lease_of_a_killed_reader_ends_with_it(days: list[Path], tmp_path: Path) -> None:
    code = (
        "import sys; from airflow_dataflux.core.staging.pruning import lease\n"
        "with lease(sys.argv[1]): print('leased', flush=True); sys.stdin.read()"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", code, str(days[0])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "leased\n"
    assert prune(tmp_path, keep_last=4).removed == ()
    reader.send_signal(signal.SIGKILL)
    reader.communicate()
    assert prune(tmp_path, keep_last=4).removed == (str(days[0]),)


def test_a_tree_that_is_being_staged_stays(days: list[Path], tmp_path: Path) -> None:
    import fcntl

    (days[0] / ".dataflux/lock-00001-of-00002").touch()
    with open(days[0] / ".dataflux/lock-00001-of-00002", "rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert prune(tmp_path, keep_last=4).kept == {str(days[0]): "it is being staged"}
    assert days[0].exists()


def test_a_tree_cannot_be_leased_at_the_moment_it_leaves_its_path(
    days: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    rename, refused = os.rename, []

    def renaming(source: str, target: str) -> None:
        with open(os.path.join(source, ".dataflux/lease"), "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                refused.append(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", renaming)
    assert prune(tmp_path, keep_last=4).removed == (str(days[0]),)
    assert refused == [str(days[0])]


def test_a_staging_that_begins_while_its_tree_is_pruned_keeps_it(
    days: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    rename = os.rename
    locks: list[int] = []

    def renaming(source: str, target: str) -> None:
        if not locks:
            locks.append(os.open(os.path.join(source, ".dataflux/lock-00001-of-00002"), os.O_RDWR | os.O_CREAT))
            fcntl.flock(locks[0], fcntl.LOCK_EX)
        rename(source, target)

    monkeypatch.setattr(os, "rename", renaming)
    assert prune(tmp_path, keep_last=4).kept == {str(days[0]): "it is being staged"}
    os.close(locks[0])
    assert names(tmp_path) == [day.name for day in days]
    assert (days[0] / "two.bin").exists()


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_what_stands_in_the_place_of_a_lease_is_named(days: list[Path], tmp_path: Path, kind: str) -> None:
    place = days[0] / ".dataflux/lease"
    place.mkdir() if kind == "directory" else place.symlink_to(tmp_path)
    with pytest.raises(DestinationError, match=f"{place} cannot be opened .* Remove it"), lease(str(days[0])):
        pass


def test_a_lease_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="no staged tree"), lease(str(tmp_path)):
        pass


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A directory that every user may read: pytest's own are for one user alone."""
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        yield Path(root)


def test_a_reader_who_may_not_write_can_lease_too(open_root: Path) -> None:
    tree = make_tree(open_root, "tree", age_days=3)
    (tree / ".dataflux").chmod(0o555)
    code = (
        "import os, sys\n"
        "from airflow_dataflux.core.staging.pruning import lease\n"
        "os.setuid(65534) if os.getuid() == 0 else None\n"
        "with lease(sys.argv[1]): print('leased', flush=True); sys.stdin.read()"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", code, str(tree)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "leased\n"
    assert prune(open_root, keep_last=0).kept == {str(tree): "it is leased"}
    reader.communicate("")
    (tree / ".dataflux").chmod(0o755)


KILLED_AT = ["rename", "rmtree", "unlink"]


@pytest.mark.parametrize("moment", KILLED_AT)
def test_what_a_killed_prune_leaves_is_removed_by_the_next(days: list[Path], tmp_path: Path, moment: str) -> None:
    code = f"""
import os, shutil, sys
from datetime import timedelta
from airflow_dataflux.core.config import PruneRequest
from airflow_dataflux.core.staging import pruning
real = {{"rename": os.rename, "rmtree": shutil.rmtree, "unlink": os.unlink}}["{moment}"]
def dying(*args, **more):
    real(*args, **more)
    os._exit(9)
setattr(shutil if "{moment}" == "rmtree" else os, "{moment}", dying)
pruning.prune_staged(PruneRequest(root=sys.argv[1], keep_last=4))
"""
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == 9
    assert not days[0].exists()
    assert len(names(tmp_path)) == 5  # one of them hidden
    prune(tmp_path, keep_last=4)
    assert names(tmp_path) == ["day-1", "day-2", "day-3", "day-4"]


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"keep_last": -1},
        {"older_than": timedelta(days=-1)},
        {"keep_last": 1, "pattern": "../*"},
        {"keep_last": 1, "pattern": "/etc/*"},
        {"keep_last": 1, "pattern": ""},
    ],
)
def test_rules_that_cannot_be_meant_are_refused(tmp_path: Path, rules: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        prune(tmp_path, **rules)


def test_deeper_trees_are_found_by_a_deeper_pattern(tmp_path: Path) -> None:
    make_tree(tmp_path / "jobs/a", "old", age_days=5)
    make_tree(tmp_path / "jobs/b", "new", age_days=1)
    assert prune(tmp_path, pattern="*", keep_last=0).found == 0
    assert prune(tmp_path, pattern="jobs/*/*", keep_last=1).removed == (str(tmp_path / "jobs/a/old"),)
