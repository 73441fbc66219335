"""Publishing: a manifest appears whole, and what it replaces goes, and nothing else."""

from __future__ import annotations

import json
import os
import threading
from datetime import datetime
from pathlib import Path

import pytest
from manifest_samples import LISTED_AT, numbered, publish_rows, write_parts

from airflow_dataflux.core.config import Filters, ListRequest
from airflow_dataflux.core.errors import EmptyListingError, InvalidRequestError, ManifestError, ManifestNotFoundError
from airflow_dataflux.core.manifest import FORMAT, Manifest, ManifestFiles, inline, publish
from airflow_dataflux.core.manifest.index import Index


def parts_in(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name.endswith(".parquet"))


def test_a_published_manifest_is_what_opening_it_gives(tmp_path: Path) -> None:
    rows = numbered(10_000)
    made = publish_rows(tmp_path / "m", [rows.slice(4000), rows.slice(0, 4000)], stats={"requests": 10})
    for uri in (str(tmp_path / "m"), f"file://{tmp_path}/m/", f"{tmp_path}/m/manifest.json"):
        opened = Manifest.open(uri)
        assert opened.index == made.index
        assert opened.uri == f"file://{tmp_path}/m"
    assert (made.bucket, made.prefixes, made.listed_at) == ("a-bucket", ("train/",), LISTED_AT)
    assert (made.stats, made.request) == ({"requests": 10}, {"bucket": "a-bucket"})
    assert (len(made), made.total_bytes) == (10_000, sum(range(100, 10_100)))
    assert [row.name for row in made] == rows["name"].to_pylist()


def test_the_index_is_plain_json(tmp_path: Path) -> None:
    publish_rows(tmp_path, [numbered(10)])
    index = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert index["format"] == FORMAT
    assert index["parts"][0]["first_name"] == "train/00000000.jpg"


def test_a_request_of_any_kind_is_kept_as_plain_data(tmp_path: Path) -> None:
    request = ListRequest(bucket="a-bucket", filters=Filters(updated_after=LISTED_AT, storage_classes=frozenset({"X"})))
    publish(
        ManifestFiles(), manifest_uri=str(tmp_path), bucket="a-bucket", prefixes=[""], parts=[], listed_at=LISTED_AT,
        stats={}, request=request,
    )  # fmt: skip
    kept = Manifest.open(str(tmp_path)).request
    assert kept["filters"]["updated_after"] == "2026-01-02T03:04:05Z"
    assert kept["filters"]["storage_classes"] == ["X"]


def test_an_empty_listing_is_a_manifest(tmp_path: Path) -> None:
    made = publish_rows(tmp_path, [])
    opened = Manifest.open(str(tmp_path))
    assert (len(opened), opened.total_bytes, list(opened), opened.shards(4)) == (0, 0, [], [])
    assert opened.boundary_names(5) == []
    assert opened.fingerprint == made.fingerprint
    assert opened.to_arrow().num_rows == 0
    assert bool(opened)


def test_replacing_a_manifest_deletes_its_parts_and_nothing_else(tmp_path: Path) -> None:
    files = ManifestFiles()
    publish_rows(tmp_path, [numbered(10), numbered(10, start=10)], prefix="first")
    write_parts(files, str(tmp_path), [numbered(5)], prefix="running")  # of a listing that has not finished
    (tmp_path / "part-by-hand.parquet").write_bytes(b"not ours")
    (tmp_path / "notes.txt").write_text("keep")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "20260131T235959Z-3fa9c1.html").write_text("of the first listing")
    made = publish_rows(tmp_path, [numbered(7)], prefix="second")
    assert parts_in(tmp_path) == ["part-by-hand.parquet", "part-running-0-00000.parquet", "part-second-0-00000.parquet"]
    assert (tmp_path / "notes.txt").exists()
    assert len(list((tmp_path / "reports").iterdir())) == 1
    assert len(list(made)) == 7


def test_publishing_the_same_parts_again_keeps_them(tmp_path: Path) -> None:
    made = publish_rows(tmp_path, [numbered(10)])
    again = publish(
        ManifestFiles(), manifest_uri=str(tmp_path), bucket="a-bucket", prefixes=[""], parts=made.index.parts,
        listed_at=LISTED_AT, stats={}, request={},
    )  # fmt: skip
    assert len(list(again)) == 10


def test_parts_that_overlap_are_refused_and_the_old_manifest_stays(tmp_path: Path) -> None:
    old = publish_rows(tmp_path, [numbered(10)], prefix="old")
    with pytest.raises(ManifestError, match="overlap"):
        publish_rows(tmp_path, [numbered(10), numbered(10, start=9)], prefix="new")
    assert [row.name for row in Manifest.open(str(tmp_path))] == [row.name for row in old]


def test_a_failed_write_of_the_index_leaves_the_old_manifest(tmp_path: Path) -> None:
    class NoIndex(ManifestFiles):
        refused = 0

        def replace(self, uri: str, data: bytes, seen: object) -> None:
            self.refused += 1
            raise ManifestError("no space")

    old = publish_rows(tmp_path, [numbered(10)], prefix="old")
    files = NoIndex()
    with pytest.raises(ManifestError, match="no space"):
        publish_rows(tmp_path, [numbered(5)], prefix="new", files=files)
    assert files.refused == 1
    assert [row.name for row in Manifest.open(str(tmp_path))] == [row.name for row in old]


def test_an_old_part_that_cannot_be_deleted_is_named_and_hides_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class NoDelete(ManifestFiles):
        refused: list[str]

        def delete(self, uri: str) -> None:
            self.refused = [*getattr(self, "refused", []), uri]
            raise ManifestError("read-only now")

    publish_rows(tmp_path, [numbered(10)], prefix="old")
    files = NoDelete()
    made = publish_rows(tmp_path, [numbered(5)], prefix="new", files=files)
    assert files.refused == [f"file://{tmp_path}/part-old-0-00000.parquet"]
    assert all(uri in caplog.text for uri in files.refused)
    assert len(list(made)) == 5


def test_a_directory_without_an_index_is_no_manifest(tmp_path: Path) -> None:
    write_parts(ManifestFiles(), str(tmp_path), [numbered(10)])
    with pytest.raises(ManifestNotFoundError, match="There is no manifest at file:///"):
        Manifest.open(str(tmp_path))


def test_a_time_without_a_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="time zone"):
        publish(
            ManifestFiles(), manifest_uri=str(tmp_path), bucket="a-bucket", prefixes=[""], parts=[],
            listed_at=datetime(2026, 1, 1), stats={}, request={},  # noqa: DTZ001 - what is tested
        )  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[: len(text) // 2], "no manifest index"),
        (lambda text: "[]", "no manifest index"),
        (lambda text: text.replace("dataflux-manifest/1", "dataflux-manifest/9"), "Upgrade"),
        (lambda text: text.replace('"object_count":30', '"object_count":31'), "contradicts itself"),
        (lambda text: text.replace('"fingerprint":"', '"fingerprint":"x'), "contradicts itself"),
        (lambda text: text.replace('"digest":"', '"digest":"zz'), "no manifest index"),
        (lambda text: json.dumps({**(i := json.loads(text)), "parts": i["parts"][:1]}), "contradicts itself"),
        (lambda text: json.dumps({**(i := json.loads(text)), "parts": i["parts"][::-1]}), "overlap"),
    ],
)
def test_a_damaged_index_is_found_when_it_is_opened(tmp_path: Path, damage, says: str) -> None:
    publish_rows(tmp_path, [numbered(10), numbered(20, start=10)])
    index = tmp_path / "manifest.json"
    before = index.read_text("utf-8")
    index.write_text(damage(before), "utf-8")
    assert index.read_text("utf-8") != before
    with pytest.raises(ManifestError, match=says):
        Manifest.open(str(tmp_path))


def test_a_request_is_the_same_before_and_after_it_was_read(tmp_path: Path) -> None:
    options = {
        "listed_at": LISTED_AT,
        "stats": {},
        "request": {"prefixes": ("",), "filters": {"exclude_glob": ("a", "b")}},
    }
    made = publish(ManifestFiles(), manifest_uri=str(tmp_path), bucket="data", prefixes=[""], parts=[], **options)
    held = inline("data", [""], [], **options)
    read = Manifest.open(str(tmp_path))
    assert made.request == held.request == read.request == {"prefixes": [""], "filters": {"exclude_glob": ["a", "b"]}}


def test_what_looks_at_the_index_before_it_is_written_can_end_the_publication(tmp_path: Path) -> None:
    files, uri = ManifestFiles(), str(tmp_path / "m")
    options = {"bucket": "b", "prefixes": [""], "parts": [], "listed_at": LISTED_AT, "stats": {}, "request": {}}
    publish(files, manifest_uri=uri, **options)
    before = (tmp_path / "m" / "manifest.json").read_bytes()

    def refuse(index: Index) -> None:
        assert index.object_count == 0
        raise EmptyListingError("no")

    with pytest.raises(EmptyListingError):
        publish(files, manifest_uri=uri, **{**options, "stats": {"other": 1}}, before_writing=refuse)
    assert (tmp_path / "m" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("beside", [0, 1])
def test_a_manifest_replaces_an_earlier_one_also_where_no_thread_may_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: int
) -> None:
    rows, start = numbered(5_000), threading.Thread.start
    publish_rows(tmp_path, [rows.slice(number * 1000, 1000) for number in range(5)], prefix="earlier")
    assert len(parts_in(tmp_path)) == 5

    def refuse(thread: threading.Thread) -> None:
        if thread.name.endswith(f"_{beside}"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    publish_rows(tmp_path, [rows], prefix="later")
    assert [name.split("-")[1] for name in parts_in(tmp_path)] == ["later"]
    assert len(Manifest.open(str(tmp_path))) == 5_000
