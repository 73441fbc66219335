"""The sweeper deletes composites, and nothing else whatever its name."""

from __future__ import annotations

from datetime import timedelta

import pytest
from staging_site import BUCKET, PREFIX, Site

from airflow_dataflux.core.config import RunIdentity
from airflow_dataflux.core.errors import BucketNotFoundError, InvalidRequestError
from airflow_dataflux.core.gcs.store import ObjectVersion
from airflow_dataflux.core.staging import SweepResult, sweep_composites
from airflow_dataflux.core.staging.composites import CompositeNames

ATTEMPT = "0123456789abcdef"


def names(**identity: object) -> CompositeNames:
    return CompositeNames(composite_prefix=PREFIX, identity=RunIdentity(**identity), attempt=ATTEMPT)  # type: ignore[arg-type]


def leave(site: Site, name: str, metadata: dict[str, str] | None) -> None:
    site.server.put(BUCKET, name, b"left", metadata=metadata or {})


def sweep(
    site: Site, *, older_than: timedelta = timedelta(0), dry_run: bool = False, prefix: str = PREFIX
) -> SweepResult:
    return sweep_composites(BUCKET, composite_prefix=prefix, older_than=older_than, dry_run=dry_run, store=site.store)


def test_only_objects_with_both_our_name_and_our_mark_are_deleted(site: Site) -> None:
    ours = names()
    leave(site, ours.name(1, 0), dict(ours.metadata))
    leave(site, ours.name(2, 0), None)
    leave(site, ours.name(3, 0), {"dataflux-composite": "1", "dataflux-attempt": "f" * 16})
    leave(site, ours.name(4, 0), {"dataflux-attempt": ATTEMPT})
    leave(site, f"{PREFIX}notes.txt", dict(ours.metadata))
    leave(site, f"{PREFIX}dag/run/task/-1/1/{ATTEMPT}-5", dict(ours.metadata))
    leave(site, f"{PREFIX}deeper/dag/run/task/-1/1/{ATTEMPT}-5-0", dict(ours.metadata))
    leave(site, f"elsewhere/{ours.name(6, 0)}", dict(ours.metadata))
    before = set(site.server.names(BUCKET))
    result = sweep(site)
    assert result == SweepResult(found=(ours.name(1, 0),), deleted=1)
    assert before - set(site.server.names(BUCKET)) == {ours.name(1, 0)}


def test_a_dry_run_finds_and_deletes_nothing(site: Site) -> None:
    ours = names()
    leave(site, ours.name(1, 0), dict(ours.metadata))
    assert sweep(site, dry_run=True) == SweepResult(found=(ours.name(1, 0),))
    assert site.composites() == [ours.name(1, 0)]


def test_young_composites_may_belong_to_a_living_run_and_stay(site: Site) -> None:
    ours = names()
    leave(site, ours.name(1, 0), dict(ours.metadata))
    assert sweep(site, older_than=timedelta(hours=1)) == SweepResult()
    assert site.composites() == [ours.name(1, 0)]


def test_what_cannot_be_deleted_is_returned_with_its_reason(site: Site) -> None:
    ours = names()
    for batch in range(3):
        leave(site, ours.name(batch, 0), dict(ours.metadata))
    fault = site.server.fail("status", operation="delete", status=403, times=1)
    result = sweep(site)
    assert site.server.faults()[fault].hits == 1
    assert (len(result.found), result.deleted, len(result.failures)) == (3, 2, 1)
    assert "403" in result.failures[0].reason
    assert site.composites() == [result.failures[0].version.name]


def test_many_pages_of_leftovers_are_all_swept(site: Site) -> None:
    site.server.configure(page_cap=7)
    for map_index in range(30):
        ours = names(map_index=map_index)
        leave(site, ours.name(0, 0), dict(ours.metadata))
    assert sweep(site).deleted == 30
    assert site.composites() == []


def test_a_real_composite_of_any_identity_is_found_by_the_sweep(site: Site) -> None:
    site.put_numbered(2)
    sources = [ObjectVersion(name=row.name, generation=row.generation) for row in site.manifest(prefix="train/")]
    ours = names(dag="d/1 ü", run="r" * 300, task="..", map_index=3, try_number=12)
    site.store.compose(BUCKET, ours.name(7, 1), sources, metadata=ours.metadata, storage_class="STANDARD")
    assert sweep(site).deleted == 1


@pytest.mark.parametrize("prefix", ["", "no-slash"])
def test_a_prefix_that_is_none_is_refused(site: Site, prefix: str) -> None:
    with pytest.raises(InvalidRequestError, match="composite_prefix"):
        sweep(site, prefix=prefix)


def test_a_negative_age_is_refused(site: Site) -> None:
    with pytest.raises(InvalidRequestError, match="older_than"):
        sweep(site, older_than=timedelta(seconds=-1))


def test_a_missing_bucket_is_an_error(site: Site) -> None:
    site.server.reset()
    with pytest.raises(BucketNotFoundError):
        sweep(site)
