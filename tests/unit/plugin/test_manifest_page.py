"""What the page of a manifest shows, and what it never reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airflow_dataflux.core.manifest import Manifest, ManifestFiles, PartWriter, publish
from airflow_dataflux.plugin import manifest_page
from airflow_dataflux.plugin.documents import DocumentUnavailableError
from airflow_dataflux.plugin.manifest_page import FOUND_ROWS, SHOWN_ROWS, ManifestView, read_manifest
from airflow_dataflux.plugin.views import TaskKey, draw_manifest

HOSTILE = "</td><script>alert(1)</script>\x00\u202e"


def no_store() -> Any:
    raise AssertionError("nothing here is in a bucket")


def published(directory: Path, names: list[str], *, part_rows: int = 50) -> Manifest:
    from datetime import UTC, datetime

    import pyarrow as pa

    from airflow_dataflux.core.arrow import ROW_SCHEMA

    files, parts = ManifestFiles(), []
    for number, start in enumerate(range(0, len(names), part_rows)):
        some = names[start : start + part_rows]
        count = len(some)
        rows = pa.record_batch(
            [
                pa.array(some, pa.string()),
                pa.array([1024] * count, pa.int64()),
                pa.array([7] * count, pa.int64()),
                pa.nulls(count, pa.uint32()),
                pa.array(["STANDARD"] * count),
                pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * count, pa.timestamp("us", tz="UTC")),
                pa.nulls(count, pa.string()),
                pa.nulls(count, pa.string()),
            ],
            schema=ROW_SCHEMA,
        )
        writer = PartWriter(files, str(directory), f"run-{number:04}")
        writer.append(rows)
        parts += writer.finish()
    return publish(
        files,
        manifest_uri=str(directory),
        bucket="data",
        prefixes=[""],
        parts=parts,
        listed_at=datetime(2026, 1, 1, tzinfo=UTC),
        stats={},
        request={"bucket": "data", "filters": {"match_glob": "**.jpg"}},
    )


def view_of(directory: Path, prefix: str = "") -> ManifestView:
    index = directory / "manifest.json"
    return read_manifest(index.read_bytes(), index.as_uri(), prefix, no_store)


def names_of(rows: tuple[dict[str, Any], ...]) -> list[str]:
    return [row["name"] for row in rows]


@pytest.mark.parametrize("count", [0, 1, SHOWN_ROWS, SHOWN_ROWS + 1, 2 * SHOWN_ROWS, 500])
def test_the_page_shows_each_end_and_no_row_twice(tmp_path: Path, count: int) -> None:
    names = [f"train/{number:04}" for number in range(count)]
    published(tmp_path, names)
    view = view_of(tmp_path)
    assert names_of(view.first) == names[:SHOWN_ROWS]
    assert names_of(view.last) == names[SHOWN_ROWS:][-SHOWN_ROWS:]


@pytest.mark.parametrize(
    "prefix", ["a", "a/0", "a/0049", "a/0050", "a/0499", "b/é", "b/", "c", "0", "a/9", "\U0001f600"]
)
def test_a_search_finds_what_begins_with_a_prefix_in_whatever_parts_it_is(tmp_path: Path, prefix: str) -> None:
    names = sorted([*(f"a/{number:04}" for number in range(150)), "b/é1", "b/é2", "b/日", "\U0001f600/x"])
    published(tmp_path, names)
    found = view_of(tmp_path, prefix)
    assert names_of(found.found) == [name for name in names if name.startswith(prefix)]
    assert not found.more


def test_a_search_shows_a_page_of_rows_and_says_that_there_are_more(tmp_path: Path) -> None:
    published(tmp_path, [f"a/{number:04}" for number in range(FOUND_ROWS + 1)])
    found = view_of(tmp_path, "a/")
    assert (len(found.found), found.more) == (FOUND_ROWS, True)
    assert (
        f"The first {FOUND_ROWS} objects" in draw_manifest(TaskKey(dag_id="d", run_id="r", task_id="t"), found).decode()
    )


def test_only_the_parts_that_are_shown_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path, [f"a/{number:04}" for number in range(1000)])
    read: list[str] = []
    original = manifest_page.read_file
    monkeypatch.setattr(
        manifest_page, "read_file", lambda location, *more: read.append(location.path) or original(location, *more)
    )
    view_of(tmp_path)
    assert len(read) == 2
    view_of(tmp_path, "a/0500")
    assert len(read) == 3


def test_a_part_outside_the_manifests_directory_is_not_read(tmp_path: Path) -> None:
    published(tmp_path / "secret", ["the secret"])
    published(tmp_path / "mine", ["a"])
    index = tmp_path / "mine" / "manifest.json"
    told = msgspec.json.decode(index.read_bytes())
    (part,) = (tmp_path / "secret").glob("*.parquet")
    secret = msgspec.json.decode((tmp_path / "secret" / "manifest.json").read_bytes())
    for path in (part.as_uri(), f"../secret/{part.name}", "http://127.0.0.1:1/x.parquet", "s3://elsewhere/x"):
        told.update(parts=[{**secret["parts"][0], "path": path}], fingerprint=secret["fingerprint"])
        told.update(object_count=secret["object_count"], total_bytes=secret["total_bytes"])
        index.write_bytes(msgspec.json.encode(told))
        try:
            view = view_of(tmp_path / "mine")
        except DocumentUnavailableError:
            continue  # the index itself is refused
        assert (view.first, view.last) == ((), ()), path
        assert "outside the manifest's own directory" in view.problem, path


def test_a_part_that_blocks_or_is_no_parquet_is_a_sentence(tmp_path: Path) -> None:
    published(tmp_path, ["a"])
    (part,) = tmp_path.glob("*.parquet")
    part.unlink()
    assert "does not exist" in view_of(tmp_path).problem
    os.mkfifo(part)
    assert view_of(tmp_path).problem
    part.unlink()
    part.write_bytes(b"the secret")
    assert "the secret" not in view_of(tmp_path).problem


def test_an_index_that_contradicts_itself_is_not_shown(tmp_path: Path) -> None:
    published(tmp_path, ["a"])
    index = tmp_path / "manifest.json"
    told = {**msgspec.json.decode(index.read_bytes()), "object_count": 2}
    index.write_bytes(msgspec.json.encode(told))
    with pytest.raises(DocumentUnavailableError, match="contradicts itself"):
        view_of(tmp_path)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    published(tmp_path, [HOSTILE])
    for prefix in ("", HOSTILE[:4], HOSTILE):
        key = TaskKey(dag_id=HOSTILE, run_id=HOSTILE, task_id=HOSTILE)
        page = draw_manifest(key, view_of(tmp_path, prefix)).decode()
        assert "<script>alert" not in page
        assert "\x00" not in page
        assert "&lt;script&gt;alert(1)" in page
