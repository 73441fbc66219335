"""Stagings whose composes, batches or questions are refused: all objects arrive, with the reason, and nothing is left.

What each request makes of each answer is in `tests/integration/gcs/answer_table.py`.
"""

from __future__ import annotations

import threading

import pytest
from staging_site import BUCKET, Site

from airflow_dataflux.core.errors import CancelledError, PermissionDeniedError
from airflow_dataflux.core.runtime.cancel import CancelToken

COMPOSITES = 20


@pytest.fixture
def small(site: Site) -> Site:
    site.put_numbered(32 * COMPOSITES, size=200)
    return site


@pytest.mark.parametrize("status", [400, 405, 409, 413, 501])
def test_a_compose_that_is_refused_once_is_replaced_by_direct_reads(small: Site, status: int) -> None:
    manifest = small.manifest()
    fault = small.server.fail("answer", operation="compose", status=status, nth=5)
    receipt = small.stage(manifest, strategy="compose")
    assert small.server.faults()[fault].hits == 1
    small.check_tree()
    assert small.composites() == []
    refused = {reason: count for reason, count in receipt.reasons.items() if reason.startswith("compose was refused")}
    if status == 409:  # asked again
        assert receipt.composites == COMPOSITES
    else:
        assert receipt.composites == COMPOSITES - 1
        assert refused == {f"compose was refused ({status} )": 32}


@pytest.mark.parametrize("status", [400, 405, 413, 501])
def test_no_more_composes_are_asked_for_after_a_few_refusals(small: Site, status: int) -> None:
    manifest = small.manifest()
    small.server.fail("answer", operation="compose", status=status)
    receipt = small.stage(manifest, strategy="compose", max_in_flight=2)
    small.check_tree()
    assert receipt.composites == 0
    assert small.operations()["compose"] <= 3 + 2 * 2  # what was handed out before the third answer
    assert f"compose was refused ({status} )" in receipt.reasons


def test_a_cancel_is_heard_while_composes_stay_out_and_what_they_made_is_deleted(small: Site) -> None:
    manifest = small.manifest()
    cancel = CancelToken()
    fault = small.server.fail("stall", operation="compose", stall_s=6)  # they are carried out after that
    ended: list[BaseException] = []

    def stage() -> None:
        try:
            small.stage(manifest, strategy="compose", cancel=cancel)
        except CancelledError as error:
            ended.append(error)

    thread = threading.Thread(target=stage)
    thread.start()
    while not small.server.faults()[fault].hits:
        assert thread.is_alive()
    cancel.cancel("the test says so")
    thread.join(timeout=60)
    assert ended
    assert small.operations()["compose"] == small.server.faults()[fault].hits  # none was sent again
    assert small.composites() == []


@pytest.mark.parametrize("status", [404, 501, 413])
def test_composites_are_deleted_one_by_one_where_batches_are_refused(small: Site, status: int) -> None:
    manifest = small.manifest()
    small.server.fail("answer", operation="batch", status=status)
    receipt = small.stage(manifest, strategy="compose")
    small.check_tree()
    assert (receipt.composites, small.composites(), receipt.leftovers) == (COMPOSITES, [], ())


@pytest.mark.parametrize(
    ("status", "operations"),
    [
        *((status, ("permissions",)) for status in (401, 403, 404, 405, 501)),
        *((status, ("bucket", "permissions")) for status in (401, 403, 405, 501)),
    ],
)
def test_where_nobody_tells_what_may_be_done_it_is_found_out_by_doing_it(
    small: Site, status: int, operations: tuple[str, ...]
) -> None:
    manifest = small.manifest()
    for operation in operations:
        small.server.fail("answer", operation=operation, status=status, body=b'{"error":{"message":"no"}}')
    receipt = small.stage(manifest, strategy="compose")
    small.check_tree()
    assert receipt.composites == COMPOSITES
    assert small.composites() == []
    assert any("the bucket does not tell them" in line for line in receipt.preflight)


def test_a_bucket_that_tells_nothing_and_lets_nothing_be_read_is_an_error(small: Site) -> None:
    manifest = small.manifest()
    small.server.change_bucket(BUCKET, permissions=[])
    small.server.fail("answer", operation="permissions", status=403)
    with pytest.raises(PermissionDeniedError, match=r"storage\.objects\.get"):
        small.stage(manifest)
    assert not small.destination.exists()


def test_a_first_composite_whose_answer_is_lost_for_good_is_deleted(small: Site) -> None:
    manifest = small.manifest()
    rights = [f"storage.objects.{right}" for right in ("get", "create", "delete", "list")]
    small.server.change_bucket(BUCKET, permissions=rights)  # the bucket's settings may not be read
    small.server.fail("answer", operation="compose", status=200, body=b"<html>", after_work=True, times=1)
    small.server.fail("answer", operation="compose", status=400)
    receipt = small.stage(manifest, strategy="compose")
    small.check_tree()
    assert (receipt.composites, small.composites()) == (0, [])
