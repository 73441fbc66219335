"""Differences between published manifests."""

from __future__ import annotations

from pathlib import Path

from manifest_samples import batch, numbered, publish_rows

from airflow_dataflux.core.manifest import ManifestFiles


class CountedFiles(ManifestFiles):
    """Counts the parts that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.parts_read = 0

    def read(self, uri: str, *, most_bytes: int | None = None) -> bytes:
        self.parts_read += uri.endswith(".parquet")
        return super().read(uri, most_bytes=most_bytes)


def test_a_difference_tells_added_removed_and_changed(tmp_path: Path) -> None:
    before = publish_rows(tmp_path / "a", [batch(["a", "b", "c", "d"], generations=[1, 2, 3, 4])])
    after = publish_rows(tmp_path / "b", [batch(["b", "c"], generations=[2, 33]), batch(["e"], generations=[5])])
    diff = after.diff(before)
    assert [row.name for row in diff.added] == ["e"]
    assert [row.name for row in diff.removed] == ["a", "d"]
    assert [(old.generation, new.generation) for old, new in diff.changed] == [(3, 33)]
    counts = diff.counts()
    assert (counts.added, counts.removed, counts.changed) == (1, 2, 1)
    assert counts
    assert diff.differs()


def test_manifests_of_one_fingerprint_are_compared_without_reading(tmp_path: Path) -> None:
    files = CountedFiles()
    before = publish_rows(tmp_path / "a", [numbered(100)], files=files)
    after = publish_rows(tmp_path / "b", [numbered(50), numbered(50, start=50)], files=files)
    assert not after.diff(before).counts()
    assert not after.diff(before).differs()
    assert files.parts_read == 0
