"""Manifests and references as earlier versions wrote them are read for ever: what is in `golden/` never changes.

A new version of the format adds files; `python test_manifest_golden.py` has written those of version 1.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from manifest_samples import LISTED_AT, batch, publish_rows

from airflow_dataflux.core.manifest import Manifest, inline
from airflow_dataflux.core.manifest.schema import FORMAT

GOLDEN = Path(__file__).parent / "golden"
NAMES = ["a/1.jpg", "a/2.jpg", "b/ä.jpg", "b/\uffee", "b/\U0001f600"]
FINGERPRINT = "z44nqtu5ijlgcrbbv2jebqwwhm"
WRITTEN_AT = "file:///golden/manifest-1"


def moved(reference: object, directory: Path) -> object:
    """The reference as it would be had the manifest been written to `directory`."""
    return json.loads(json.dumps(reference).replace(WRITTEN_AT, f"file://{directory}"))


def write() -> None:
    place = GOLDEN / "manifest-1"
    if place.exists():
        raise SystemExit(f"{place} exists, and golden files never change.")
    made = publish_rows(place, [batch(NAMES[:3]), batch(NAMES[3:])], prefix="golden")
    small = inline("a-bucket", ["a/"], [batch(NAMES[:2])], listed_at=LISTED_AT, stats={"requests": 1})
    references = {
        "whole": made.reference(),
        "shards": [shard.reference() for shard in made.shards(2)],
        "shards_of_0.1": [{"format": FORMAT, **shard.reference()} for shard in made.shards(2)],
        "inline": small.reference(),
        "inline_shards": [shard.reference() for shard in small.shards(2)],
        "inline_shards_of_0.1": [{"format": FORMAT, **shard.reference()} for shard in small.shards(2)],
    }
    text = json.dumps(references, indent=1, ensure_ascii=False).replace(f"file://{place}", WRITTEN_AT)
    (GOLDEN / "references-1.json").write_text(text + "\n", "utf-8")


def test_a_manifest_of_version_1_is_read(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "manifest-1", tmp_path / "m")
    manifest = Manifest.open(str(tmp_path / "m"))
    assert [row.name for row in manifest] == NAMES
    assert (manifest.fingerprint, manifest.bucket, manifest.listed_at) == (FINGERPRINT, "a-bucket", LISTED_AT)


@pytest.mark.parametrize(
    "kind", ["whole", "shards", "shards_of_0.1", "inline", "inline_shards", "inline_shards_of_0.1"]
)
def test_a_reference_of_version_1_is_read(tmp_path: Path, kind: str) -> None:
    shutil.copytree(GOLDEN / "manifest-1", tmp_path / "m")
    written = moved(json.loads((GOLDEN / "references-1.json").read_text("utf-8"))[kind], tmp_path / "m")
    opened = [Manifest.from_reference(one) for one in (written if isinstance(written, list) else [written])]
    assert [row.name for one in opened for row in one] == (NAMES[:2] if "inline" in kind else NAMES)


def test_a_manifest_that_is_written_now_has_the_same_fingerprint(tmp_path: Path) -> None:
    assert publish_rows(tmp_path, [batch(NAMES[:3]), batch(NAMES[3:])]).fingerprint == FINGERPRINT


if __name__ == "__main__":
    write()
