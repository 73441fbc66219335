"""How often a staging reads its manifest. A walk over one in a bucket is as many requests as it has parts."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from staging_site import Site

from airflow_dataflux.core.manifest import reader
from airflow_dataflux.core.staging import run


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows that come from part files."""
    read: list[int] = []
    really = reader.PartedRows.batches

    def counted(self: reader.PartedRows, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        for batch in really(self, start, stop):
            read.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(reader.PartedRows, "batches", counted)
    return read


def test_a_staging_reads_each_row_of_its_manifest_once(site: Site, rows_read: list[int]) -> None:
    site.put_numbered(300)
    manifest = site.manifest()
    rows_read.clear()
    receipt = site.stage(manifest, strategy="compose", max_usd=10.0, report=True)
    assert receipt.downloaded == 300
    site.check_tree()
    assert sum(rows_read) == 300


def test_so_does_one_that_reuses_links_and_removes(site: Site, rows_read: list[int]) -> None:
    site.put_numbered(300)
    other = site.disk / "other"
    site.stage(site.manifest(prefix="train/003"), destination=str(other))
    (site.destination / "train").mkdir(parents=True)
    manifest = site.manifest()
    rows_read.clear()
    receipt = site.stage(manifest, reuse_from=[str(other)], delete_extraneous=True)
    assert (receipt.linked, receipt.downloaded) == (40, 260)
    assert sum(rows_read) == 300


def test_rows_that_are_too_many_to_be_kept_are_read_by_each_step_anew(
    site: Site, rows_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put_numbered(300)
    manifest = site.manifest()
    monkeypatch.setattr(run, "_ROWS_KEPT_BYTES", 1000)
    rows_read.clear()
    assert site.stage(manifest, strategy="compose").downloaded == 300
    site.check_tree()
    assert sum(rows_read) == 3 * 300
