"""The commands: what they print and their exit codes."""

from __future__ import annotations

import io
import json
import logging
import tarfile
from pathlib import Path

import pytest

from airflow_dataflux.cli import main


@pytest.fixture
def server(gcs_server):
    gcs_server.create_bucket("data")
    gcs_server.put_many("data", {f"train/{n:02}": b"x" * n for n in range(20)})
    return gcs_server


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 3.0, which other tests of this process import, writes every record to standard output."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Return the exit code and what was printed."""
    code = main(list(arguments))
    return code, capsys.readouterr().out


@pytest.mark.usefixtures("server")
def test_a_listing_prints_names_or_a_reference(capsys) -> None:
    code, printed = run(capsys, "list", "data", "--prefix", "train/0", "--min-bytes", "5")
    assert (code, printed.split()) == (0, [f"gs://data/train/0{n}" for n in range(5, 10)])
    code, printed = run(capsys, "list", "data", "--json")
    assert json.loads(printed)["object_count"] == 20


@pytest.mark.usefixtures("server")
def test_a_tree_is_staged_and_verified(capsys, tmp_path: Path) -> None:
    manifest, tree = str(tmp_path / "manifest"), str(tmp_path / "tree")
    assert run(capsys, "list", "data", "--manifest-uri", manifest)[0] == 0
    code, printed = run(capsys, "stage", manifest, tree, "--strip-prefix", "train/", "--json")
    assert (code, json.loads(printed)["downloaded"]) == (0, 20)
    for against in ((), ("--manifest", manifest, "--strip-prefix", "train/")):
        assert run(capsys, "verify", tree, *against) == (0, "20 files, 0 of them missing or wrong\n")
    (tmp_path / "tree" / "07").write_bytes(b"y" * 7)
    (tmp_path / "tree" / "08").write_bytes(b"y")
    (tmp_path / "tree" / "09").unlink()
    code, printed = run(capsys, "verify", tree)
    assert code == 1
    assert printed.splitlines()[:3] == [
        "07: another CRC32C",
        "08: 1 bytes instead of 8",
        "09: No such file or directory",
    ]


def test_manifests_are_compared(server, capsys, tmp_path: Path) -> None:
    before, after = str(tmp_path / "before"), str(tmp_path / "after")
    run(capsys, "list", "data", "--manifest-uri", before)
    assert run(capsys, "diff", before, before) == (0, "")
    server.put("data", "new", b"1")
    run(capsys, "list", "data", "--manifest-uri", after)
    assert run(capsys, "diff", before, after) == (1, "+ new\n")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["list", "missing"], 1),
        (["list", "data", "--workers", "0"], 2),
        (["list", "data", "--prefix", "typo", "--on-empty", "fail"], 1),
        (["list", "data", "--prefix", "typo", "--on-empty", "skip"], 3),
        (["show", "/nowhere"], 1),
        (["select", "/nowhere"], 1),
        (["select", "/nowhere", "--splits", '{"train": 1}'], 2),
        (["pack", "/nowhere", "/tmp/pack", "--shard-bytes", "0"], 2),
        (["prune", "/nowhere"], 2),
        (["prune", "/nowhere", "--keep-last", "1"], 1),
        (["verify", "/nowhere"], 1),
    ],
)
def test_the_exit_code_says_how_it_ended(capsys, arguments: list[str], code: int) -> None:
    assert run(capsys, *arguments)[0] == code


def test_what_cannot_be_called_so_is_told(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["list"])
    assert ended.value.code == 2
    assert "bucket" in capsys.readouterr().err


@pytest.fixture
def manifest(server, tmp_path: Path, capsys) -> str:
    """A manifest of 20 objects."""
    assert run(capsys, "list", "data", "--manifest-uri", str(tmp_path / "manifest"))[0] == 0
    return str(tmp_path / "manifest")


def test_a_selection_prints_names_or_becomes_a_manifest(manifest: str, capsys, tmp_path: Path) -> None:
    code, printed = run(capsys, "select", manifest, "--min-bytes", "18")
    assert (code, printed.split()) == (0, ["gs://data/train/18", "gs://data/train/19"])
    chosen = str(tmp_path / "chosen")
    code, printed = run(capsys, "select", manifest, "--manifest-uri", chosen, "--match-regex", "/0", "--json")
    assert (code, json.loads(printed)["object_count"]) == (0, 10)
    assert run(capsys, "show", chosen, "--rows")[1].count("train/0") == 10


def test_a_selection_is_divided_into_splits(manifest: str, capsys, tmp_path: Path) -> None:
    splits = '{"train": 0.5, "val": 0.5}'
    code, printed = run(capsys, "select", manifest, "--manifest-uri", str(tmp_path / "s"), "--splits", splits, "--json")
    counts = {name: reference["object_count"] for name, reference in json.loads(printed).items()}
    assert code == 0
    assert sum(counts.values()) == 20
    for name, count in counts.items():
        assert len(run(capsys, "show", str(tmp_path / "s" / name), "--rows")[1].splitlines()) == count > 0


@pytest.mark.parametrize("place", ["{tmp}/pack", "gs://data/packs/one/"])
def test_a_pack_is_written_and_shown(manifest: str, capsys, tmp_path: Path, place: str) -> None:
    place = place.format(tmp=tmp_path)
    code, printed = run(capsys, "pack", manifest, place, "--shard-count", "2")
    assert (code, printed.splitlines()[0][:28]) == (0, "2 shards with 20 objects in ")
    code, printed = run(capsys, "show", place)
    assert (code, printed.splitlines()[0]) == (0, "20 objects, 190 bytes in 0 samples")
    shards = [line.split() for line in run(capsys, "show", place, "--rows")[1].splitlines()]
    assert [name for _, _, name in shards] == ["000000.tar", "000001.tar"]
    if "gs:" in place:
        assert run(capsys, "list", "data", "--prefix", "packs/", "--manifest-uri", str(tmp_path / "packs"))[0] == 0
        assert run(capsys, "stage", str(tmp_path / "packs"), str(tmp_path / "fetched"))[0] == 0
        first = (tmp_path / "fetched/packs/one/000000.tar").read_bytes()
    else:
        first = Path(place, "000000.tar").read_bytes()
    assert len(first) == int(shards[0][0])
    with tarfile.open(fileobj=io.BytesIO(first)) as shard:
        assert all(name.startswith("train/") for name in shard.getnames())
    assert json.loads(run(capsys, "show", place, "--json")[1])["object_count"] == 20
    assert json.loads(run(capsys, "pack", manifest, place, "--shard-count", "2", "--json")[1])["reused_shards"] == 2


def test_a_staged_tree_is_shown(manifest: str, capsys, tmp_path: Path) -> None:
    tree = str(tmp_path / "tree")
    run(capsys, "stage", manifest, tree)
    code, printed = run(capsys, "show", tree)
    assert (code, printed.splitlines()[0]) == (0, "20 objects, 190 bytes of gs://data")
    assert "20 downloaded, 0 reused" in printed
    assert run(capsys, "show", tree, "--rows")[1].split() == [f"{tree}/train/{n:02}" for n in range(20)]
    (receipt,) = json.loads(run(capsys, "show", tree, "--json")[1])["receipts"]
    assert receipt["downloaded"] == 20


def test_staged_trees_are_pruned(manifest: str, capsys, tmp_path: Path) -> None:
    for day in ("1", "2", "3"):
        run(capsys, "stage", manifest, str(tmp_path / "days" / day))
    days = str(tmp_path / "days")
    code, printed = run(capsys, "prune", days, "--keep-last", "2", "--dry-run")
    assert (code, printed.splitlines()[0]) == (0, f"would remove {days}/1")
    assert len(list(Path(days).iterdir())) == 3
    code, printed = run(capsys, "prune", days, "--keep-last", "2", "--json")
    assert (code, json.loads(printed)["removed"]) == (0, [f"{days}/1"])
    assert sorted(path.name for path in Path(days).iterdir()) == ["2", "3"]


@pytest.mark.usefixtures("server")
def test_paths_may_be_relative(capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "list", "data", "--manifest-uri", "m")[0] == 0
    assert run(capsys, "select", "m", "--manifest-uri", "chosen", "--max-bytes", "9")[0] == 0
    assert run(capsys, "stage", "chosen", "old")[0] == 0
    assert json.loads(run(capsys, "stage", "m", "new", "--reuse-from", "old", "--json")[1])["linked"] == 10
    assert run(capsys, "pack", "m", "pack")[0] == 0
    assert [run(capsys, "show", place)[0] for place in ("m", "new", "pack")] == [0, 0, 0]
    assert run(capsys, "prune", ".", "--pattern", "new", "--keep-last", "0")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chosen", "m", "old", "pack"]


def test_a_reference_is_taken_as_it_is(manifest: str, capsys) -> None:
    reference = run(capsys, "list", "data", "--manifest-uri", manifest, "--json")[1]
    assert json.loads(run(capsys, "show", reference, "--json")[1])["object_count"] == 20


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_completion_is_a_script_for_the_shell(capsys, shell: str) -> None:
    code, printed = run(capsys, "completion", shell)
    assert code == 0
    assert "_ARGCOMPLETE" in printed
    assert "dataflux" in printed
