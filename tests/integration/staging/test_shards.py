"""Shards of one manifest in one destination: refused where the whole would be, whatever their order."""

from __future__ import annotations

import pytest
from staging_site import Site

from airflow_dataflux.core.errors import UnsafeNameError
from airflow_dataflux.core.staging import run
from airflow_dataflux.core.staging.localpath import FileSystemTraits

pytestmark = pytest.mark.in_memory


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a/b.txt", "a/b/c", "a/b/d")])
def test_a_file_beside_what_would_lie_below_it_is_refused_by_every_shard(
    site: Site, names: tuple[str, ...], number: int
) -> None:
    site.put(dict.fromkeys(names, b"file"))
    manifest = site.manifest()
    with pytest.raises(UnsafeNameError, match="is a file"):
        site.stage(manifest)
    site.server.forget_requests()
    with pytest.raises(UnsafeNameError, match="is a file"):
        site.stage(manifest.shards(2)[number])
    assert "read" not in site.operations()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_names_that_a_file_system_holds_for_one_are_refused_by_every_shard(
    site: Site, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    folding = FileSystemTraits(case_sensitive=False)
    monkeypatch.setattr(run, "look_at_file_system", lambda _tree: folding)
    site.put({"A.jpg": b"upper", "m.jpg": b"middle", "a.jpg": b"lower"})
    with pytest.raises(UnsafeNameError, match="case or Unicode"):
        site.stage(site.manifest().shards(3)[number])


def test_shards_of_names_that_do_not_clash_are_staged(site: Site) -> None:
    site.put(dict.fromkeys(("a", "a.b", "ab/c", "ab/d", "b/c", "b0"), b"file"))
    for shard in site.manifest().shards(6):
        site.stage(shard)
    site.check_tree()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_what_clashes_across_shards_is_left_out_by_the_later_one_alone(site: Site, order: tuple[int, ...]) -> None:
    site.put({"a": b"file", "a-x": b"between", "a/b": b"below"})
    shards = site.manifest().shards(3)
    receipts = {number: site.stage(shards[number], on_unsafe_name="skip") for number in order}
    assert [receipts[number].downloaded for number in range(3)] == [1, 1, 0]
    assert [sorted(receipts[number].unsafe) for number in range(3)] == [[], [], ["a/b"]]
    site.check_tree({"a": b"file", "a-x": b"between"})


def test_what_a_folding_file_system_holds_for_one_is_left_out_by_the_later_shard_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "look_at_file_system", lambda _tree: FileSystemTraits(case_sensitive=False))
    site.put({"A.jpg": b"upper", "a.jpg": b"lower", "m.jpg": b"middle"})
    receipts = [site.stage(shard, on_unsafe_name="skip") for shard in reversed(site.manifest().shards(3))]
    assert [sorted(receipt.unsafe) for receipt in receipts] == [[], ["a.jpg"], []]
    site.check_tree({"A.jpg": b"upper", "m.jpg": b"middle"})
