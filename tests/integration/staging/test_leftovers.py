"""What is left in a destination's own directory when a staging has ended well: what is needed, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from half_writer import kill_half_writer, start_half_writer
from staging_site import BUCKET, Site

from airflow_dataflux.core.config import RunIdentity
from airflow_dataflux.core.errors import ObjectsChangedError
from airflow_dataflux.core.gcs.store import ObjectVersion
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.staging.composites import CompositeNames
from airflow_dataflux.core.staging.destination import AttemptRecord, Place, Workspace, open_workspace
from airflow_dataflux.core.staging.localfile import DestinationTree
from airflow_dataflux.core.staging.receipt import ProgressFile, ReceiptFiles

pytestmark = pytest.mark.in_memory


@pytest.fixture(params=["anonymous", "named"])
def files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without a file system that has anonymous files."""
    if request.param == "named":
        monkeypatch.setattr(DestinationTree, "_try_anonymous", lambda self: False)
    return str(request.param)


def own_files(own: Path) -> list[str]:
    return sorted(re.sub("-[0-9a-f]{8}\\.parquet", "", path.relative_to(own).as_posix()) for path in own.rglob("*"))


@contextmanager
def killed_staging(site: Site, scope: str) -> Iterator[Workspace]:
    """Leave what a staging of a scope has made when it is killed behind its first composite, once the block ends."""
    place = Place(destination=str(site.destination), scope=scope, key="killed")
    names = CompositeNames(composite_prefix="tmp/", identity=RunIdentity(dag="d", run="r", task="t"))
    with open_workspace(place, CancelToken()) as workspace:
        workspace.record(AttemptRecord(bucket=BUCKET, composite_prefix="tmp/", attempt_prefix=names.attempt_prefix))
        row = site.store.stat(BUCKET, next(iter(site.objects))).row
        source = ObjectVersion(name=row.name, generation=row.generation)
        site.store.compose(BUCKET, names.name(1, 0), [source], metadata=names.metadata, storage_class="STANDARD")
        progress = ProgressFile(workspace.tree, scope, place.key)
        list(progress.records())
        progress.close()
        ReceiptFiles(workspace.tree, scope).write_objects(iter(()))
        yield workspace


def test_only_what_is_needed_is_left(site: Site, files: str) -> None:
    site.put_numbered(60)
    site.stage(site.manifest())
    assert own_files(site.destination / ".dataflux") == ["lock", "objects", "receipt.json"]
    site.put({"train/000/00001.bin": b"changed"})
    manifest = site.manifest("second")
    site.stage(manifest)
    assert own_files(site.destination / ".dataflux") == ["lock", "objects", "receipt.json"]
    assert site.stage(manifest, report=True).reused == 60
    (report,) = (site.destination / ".dataflux/reports").iterdir()
    report.unlink()
    assert own_files(site.destination / ".dataflux") == ["lock", "objects", "receipt.json", "reports"]


def test_what_a_worker_left_that_was_killed_meanwhile_is_gone_at_the_end(site: Site) -> None:
    site.put_numbered(20)
    killed = []

    def kill_one(_progress: object) -> None:
        if not killed:
            (partial,) = site.disk.glob(".staged.dataflux-partial-*")
            killed.append(start_half_writer(partial))
            kill_half_writer(killed[0])
            assert len(own_files(partial / ".dataflux")) > 3

    site.on_progress = kill_one
    site.stage(site.manifest())
    assert killed
    assert own_files(site.destination / ".dataflux") == ["lock", "objects", "receipt.json"]


def test_the_same_for_shards_and_for_receipts_elsewhere(site: Site, files: str) -> None:
    site.put_numbered(60)
    receipts = site.disk / "receipts"
    for shard in site.manifest().shards(2):
        site.stage(shard, receipt_directory=str(receipts))
    assert own_files(receipts) == [
        f"{name}-0000{number}-of-00002{end}"
        for name, end in (("lock", ""), ("objects", ""), ("receipt", ".json"))
        for number in range(2)
    ]
    site.check_tree()


@pytest.mark.parametrize(("scope", "by_shard"), [("00001-of-00004", False), ("00001-of-00004", True), ("", True)])
def test_what_a_killed_staging_of_another_division_left_goes_with_its_composites(
    site: Site, scope: str, by_shard: bool
) -> None:
    site.put_numbered(60)
    site.destination.mkdir()
    manifest = site.manifest()
    with killed_staging(site, scope):
        pass
    assert site.server.names(BUCKET, "tmp/")
    for shard in manifest.shards(2) if by_shard else [manifest]:
        site.stage(shard, strategy="direct")
    assert site.server.names(BUCKET, "tmp/") == []
    left = own_files(site.destination / ".dataflux")
    assert [name for name in left if name.startswith(("progress", "writer", "unfinished"))] == []
    assert [name for name in left if scope and scope in name] == ([f"lock-{scope}"] if scope else [])
    site.check_tree()


def test_what_a_living_staging_has_stays(site: Site) -> None:
    site.put_numbered(60)
    site.destination.mkdir()
    with killed_staging(site, "00001-of-00004"):
        site.stage(site.manifest(), strategy="direct")
        assert len(site.server.names(BUCKET, "tmp/")) == 1
        left = own_files(site.destination / ".dataflux")
        assert [name for name in left if "00001" in name] == [
            f"{name}-00001-of-00004" for name in ("lock", "objects", "progress")
        ]


def test_a_shard_leaves_what_other_shards_of_its_division_need(site: Site) -> None:
    site.put_numbered(60)
    site.destination.mkdir()
    shards = site.manifest().shards(2)
    with killed_staging(site, "00001-of-00002"):
        pass
    site.stage(shards[0], strategy="direct")
    assert len(site.server.names(BUCKET, "tmp/")) == 1
    assert "progress-00001-of-00002" in own_files(site.destination / ".dataflux")
    site.stage(shards[1], strategy="direct")
    assert site.server.names(BUCKET, "tmp/") == []
    assert "progress-00001-of-00002" not in own_files(site.destination / ".dataflux")
    site.check_tree()


def test_a_staging_that_was_killed_behind_its_receipt_is_tidied_up_by_one_that_has_nothing_to_do(site: Site) -> None:
    site.put_numbered(20)
    manifest = site.manifest()
    site.stage(manifest)
    with killed_staging(site, ""):
        pass
    receipt = site.stage(manifest)
    assert (receipt.reused, receipt.downloaded) == (20, 0)
    assert own_files(site.destination / ".dataflux") == ["lock", "objects", "receipt.json"]
    assert site.server.names(BUCKET, "tmp/") == []
    site.server.forget_requests()
    assert site.stage(manifest).reused == 20
    assert site.operations() == {}


def test_what_a_trial_to_rename_left_beside_a_destination_goes(site: Site) -> None:
    site.put_numbered(5)
    manifest = site.manifest()
    site.server.delete(BUCKET, "train/000/00001.bin")
    with pytest.raises(ObjectsChangedError):
        site.stage(manifest)
    (earlier,) = site.disk.glob(".staged.dataflux-partial-*")
    trials = [f"{earlier}-try", f"{earlier}-tried", str(site.disk / ".staged.dataflux-partial-0123456789abcdef-try")]
    for trial in trials:
        Path(trial).mkdir()
    mine = Path(f"{trials[0]}/mine")
    site.stage(site.manifest("second"))
    assert [path.name for path in site.disk.iterdir() if "partial" in path.name] == []
    Path(trials[0]).mkdir()
    mine.touch()
    site.put({"train/new.bin": b"new"})
    site.stage(site.manifest("third"))
    assert mine.exists()
