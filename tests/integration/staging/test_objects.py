"""Objects that are not like others: empty, unreadable, packed, placeholders."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from staging_site import BUCKET, Site, content, tree

from airflow_dataflux.core.errors import ObjectsChangedError, UnreadableObjectsError
from airflow_dataflux.core.staging.transfer import GzipUnpacker

STRATEGIES = pytest.mark.parametrize("strategy", ["direct", "compose", "auto"])


@STRATEGIES
def test_empty_objects_are_checked_like_others(site: Site, strategy: str) -> None:
    site.put({f"z/{number}": b"" for number in range(40)})
    manifest = site.manifest()
    site.put({"z/1": b"now full"})
    site.server.delete(BUCKET, "z/2")
    with pytest.raises(ObjectsChangedError) as caught:
        site.stage(manifest, strategy=strategy)
    assert set(caught.value.names) <= {"z/1", "z/2"}
    receipt = site.stage(manifest, strategy=strategy, on_changed_object="skip")
    assert receipt.changed == ("z/1", "z/2")
    assert sorted(tree(site.destination)) == sorted(f"z/{number}" for number in range(40) if number not in (1, 2))
    assert site.composites() == []


@pytest.mark.parametrize("there", [False, True], ids=["new", "in place"])
def test_the_placeholder_of_the_stripped_prefix_is_the_destination(site: Site, there: bool) -> None:
    site.put({"train/": b"", "train/a": b"1", "train/below/": b""})
    if there:
        site.destination.mkdir()
    manifest = site.manifest()
    receipt = site.stage(manifest, strip_prefix="train/")
    assert receipt.downloaded + receipt.reused == 3
    site.check_tree({"a": b"1"})
    assert (site.destination / "below").is_dir()
    site.server.forget_requests()
    assert site.stage(manifest, strip_prefix="train/").reused == 3
    assert site.operations() == {}


@STRATEGIES
@pytest.mark.parametrize("status", [400, 403])
def test_an_unreadable_object_is_named_with_advice_or_left_out(site: Site, strategy: str, status: int) -> None:
    site.put_numbered(200)
    manifest = site.manifest()
    unreadable = site.server.fail("status", status=status, operation="read", prefix="train/001/00050.bin")
    with pytest.raises(UnreadableObjectsError, match=r"train/001/00050.bin.*on_unreadable_object") as caught:
        site.stage(manifest, strategy="direct")
    assert list(caught.value.names) == ["train/001/00050.bin"]
    assert not caught.value.retryable
    fault = site.server.fail("status", status=status, operation="compose", nth=2, times=1)
    receipt = site.stage(manifest, strategy=strategy, on_unreadable_object="skip", on_changed_object="skip")
    site.server.stop_failing(fault)
    left_out = list(receipt.unreadable)
    assert left_out in ([], ["train/001/00050.bin"])
    if strategy == "direct":
        assert left_out == ["train/001/00050.bin"]
    expected = {name: data for name, data in site.objects.items() if name not in left_out}
    site.check_tree(expected)
    assert site.composites() == []
    # Once it can be read, the next staging fetches it and it alone.
    site.server.stop_failing(unreadable)
    again = site.stage(manifest)
    assert again.downloaded == len(left_out)
    site.check_tree()


def test_where_no_object_at_all_can_be_read_none_is_left_out(site: Site) -> None:
    site.put_numbered(50)
    site.server.fail("status", status=403, operation="read")
    with pytest.raises(UnreadableObjectsError, match="no object at all"):
        site.stage(site.manifest(), strategy="direct", on_unreadable_object="skip")


@pytest.mark.parametrize("status", [400, 403, 409, 413])
def test_composes_that_are_refused_are_no_end_and_after_three_no_more_are_tried(site: Site, status: int) -> None:
    site.put_numbered(640)
    site.server.fail("status", status=status, operation="compose")
    receipt = site.stage(site.manifest(), strategy="compose", max_in_flight=2)
    assert receipt.downloaded == 640
    site.check_tree()
    assert site.operations()["compose"] <= (10 if status != 409 else 40), "a conflict is repeated a few times"
    assert any("refused" in reason for reason in receipt.reasons), receipt.reasons


def put_packed(site: Site, objects: dict[str, bytes]) -> None:
    for name, data in objects.items():
        site.server.put(BUCKET, name, gzip.compress(data), content_type="text/plain", content_encoding="gzip")


def test_gzip_encoded_objects_are_staged_as_stored_and_said_or_unpacked(site: Site) -> None:
    logs = {f"logs/{number}.json": b'{"line": %d}\n' % number * 5000 for number in range(5)}
    put_packed(site, logs)
    site.put({"logs/plain.txt": b"plain"})
    manifest = site.manifest()
    stored = site.stage(manifest)
    assert any(
        "5 objects have the content encoding gzip" in line and "decompress=True" in line for line in stored.preflight
    )
    assert gzip.decompress((site.destination / "logs/3.json").read_bytes()) == logs["logs/3.json"]
    unpacked = site.stage(manifest, decompress=True)
    assert (unpacked.downloaded, unpacked.reused) == (5, 1)
    site.check_tree({**logs, "logs/plain.txt": b"plain"})
    site.server.forget_requests()
    assert site.stage(manifest, decompress=True).reused == 6
    assert site.operations() == {}
    (site.destination / "logs/1.json").write_bytes(b"edited")
    assert site.stage(manifest, decompress=True).downloaded == 1
    second = site.disk / "second"
    linked = site.stage(manifest, decompress=True, destination=str(second), reuse_from=(str(site.destination),))
    assert (linked.linked, linked.downloaded) == (6, 0)
    site.check_tree({**logs, "logs/plain.txt": b"plain"}, root=second)
    assert site.stage(manifest).downloaded == 5, "as stored again"


def test_what_is_not_gzip_as_its_encoding_says_cannot_be_read(site: Site) -> None:
    site.put({"ok": b"fine"})
    site.server.put(BUCKET, "lie", b"not packed", content_encoding="gzip")
    site.server.put(BUCKET, "short", gzip.compress(content(1, 5000))[:-20], content_encoding="gzip")
    receipt = site.stage(site.manifest(), decompress=True, on_unreadable_object="skip")
    assert sorted(receipt.unreadable) == ["lie", "short"]
    site.check_tree({"ok": b"fine"})


@pytest.mark.parametrize("seed", range(20))
def test_any_members_in_any_chunks_are_unpacked(seed: int) -> None:
    rng = random.Random(seed)
    members = [rng.randbytes(rng.randrange(0, 3000)) + b"\0" * rng.randrange(0, 5_000_000) for _ in range(3)]
    packed = b"".join(gzip.compress(each) + b"\0" * rng.choice((0, 0, 7)) for each in members)
    unpacker = GzipUnpacker()
    data, at = [], 0
    while at < len(packed):
        end = at + rng.randrange(1, 2000)
        data += list(unpacker.feed(packed[at:end]))
        at = end
    assert b"".join(data) == b"".join(members)
    assert unpacker.broken == ""
    assert max(map(len, data)) <= 1 << 20


def test_the_size_of_an_unpacked_bomb_is_not_held_in_memory(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(50_000_000))
    assert max(map(len, GzipUnpacker().feed(packed))) <= 1 << 20
