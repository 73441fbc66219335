"""How the HTTP store behaves when things go wrong; each scripted fault is counted by the server itself."""

from __future__ import annotations

import socket
import threading
import time

import google_crc32c
import pytest

from airflow_dataflux.core.errors import (
    AuthenticationError,
    CancelledError,
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreError,
    ThrottledError,
    UnavailableError,
)
from airflow_dataflux.core.gcs.auth import default_store_config
from airflow_dataflux.core.gcs.http_store import StoreConfig, open_store
from airflow_dataflux.core.gcs.retry import RetryPolicy
from airflow_dataflux.core.gcs.store import NotWantedError, ObjectVersion, PageRequest, StoreOptions
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import AnonymousTokens, Token

IMPATIENT = RetryPolicy(first_delay_s=0.001, max_delay_s=0.01)

PASSING_FAULTS = [
    ("status", {"status": 408}),
    ("status", {"status": 429}),
    ("status", {"status": 500}),
    ("status", {"status": 502}),
    ("status", {"status": 503}),
    ("status", {"status": 504}),
    ("reset", {}),
    ("lose_answer", {}),
]


def hits(server, fault: int) -> int:
    return server.faults()[fault].hits


@pytest.fixture
def closed_port():
    """A port on which nobody listens, kept from others while the test runs."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def pin(stored) -> ObjectVersion:
    return ObjectVersion(name=stored.name, generation=stored.generation)


@pytest.mark.parametrize(("kind", "rule"), [*PASSING_FAULTS, ("truncate", {}), ("reset_body", {})])
def test_a_page_survives_a_passing_fault(embedded, kind, rule):
    server, store = embedded
    server.put_many("b", {f"n{number}": b"" for number in range(50)})
    fault = server.fail(kind, operation="list", times=2, **rule)
    page = store.list_page("b", PageRequest())
    assert page.rows.num_rows == 50
    assert hits(server, fault) == 2
    assert store.counts().retries == 2
    assert store.counts().throttled == (2 if rule.get("status") == 429 else 0)


@pytest.mark.parametrize(("kind", "rule"), PASSING_FAULTS)
def test_opening_a_read_survives_a_passing_fault(embedded, kind, rule):
    server, store = embedded
    pinned = pin(server.put("b", "o", b"content"))
    fault = server.fail(kind, operation="read", times=2, **rule)
    with store.read("b", pinned) as body:
        assert b"".join(body.chunks()) == b"content"
    assert hits(server, fault) == 2


@pytest.mark.parametrize("kind", ["truncate", "reset_body"])
def test_a_body_that_breaks_off_is_an_error_that_says_where_and_can_be_read_on(embedded, kind):
    server, store = embedded
    data = bytes(range(256)) * 4000
    pinned = pin(server.put("b", "o", data))
    fault = server.fail(kind, operation="read", times=1, after_bytes=300_000)
    read = bytearray()

    def read_on(body) -> None:
        for chunk in body.chunks(50_000):
            read.extend(chunk)

    with store.read("b", pinned) as body, pytest.raises(UnavailableError, match=f"gs://b/o#{pinned.generation}") as c:
        read_on(body)
    assert hits(server, fault) == 1
    assert c.value.received_bytes == len(read) <= 300_000  # a reset also loses what is still on its way
    if kind == "truncate":
        assert len(read) == 300_000
    with store.read("b", pinned, start=len(read)) as body:
        read_on(body)
    assert read == data


def test_a_flipped_byte_is_delivered_beside_the_right_hash(embedded):
    server, store = embedded
    pinned = pin(server.put("b", "o", b"content"))
    fault = server.fail("flip", operation="read", times=1)
    with store.read("b", pinned) as body:
        assert body.crc32c == google_crc32c.value(b"content")
        assert google_crc32c.value(b"".join(body.chunks())) != body.crc32c
    assert hits(server, fault) == 1


def test_gzip_encoded_objects_come_as_stored(embedded):
    import gzip

    server, store = embedded
    stored = gzip.compress(b"text " * 1000)
    pinned = pin(server.put("b", "o", stored, content_encoding="gzip"))
    with store.read("b", pinned) as body:
        assert body.length == len(stored)
        assert b"".join(body.chunks()) == stored


@pytest.mark.parametrize(("kind", "rule"), PASSING_FAULTS)
def test_compose_makes_one_object_whatever_is_lost_on_the_way(embedded, kind, rule):
    server, store = embedded
    sources = [pin(server.put("b", f"s{number}", b"x" * number)) for number in (1, 2, 3)]
    fault = server.fail(kind, operation="compose", times=1, **rule)
    made = store.compose("b", "made", sources, metadata={"run": "mine"}, storage_class="STANDARD")
    assert hits(server, fault) == 1
    assert (made.row.size, made.row.generation) == (6, server.find("b", "made").generation)


def test_a_compose_whose_answer_was_lost_does_not_take_anothers_object_for_its_own(embedded):
    server, store = embedded
    source = pin(server.put("b", "s", b"x"))
    fault = server.fail("lose_answer", operation="compose", times=1)
    # 1. Our compose is carried out and its answer lost. 2. Somebody else replaces the object. 3. We try again.
    server.change_later("b", "made", b"theirs", operation="compose", after=1)
    with pytest.raises(PreconditionFailedError):
        store.compose("b", "made", [source], metadata={"run": "mine"}, storage_class="STANDARD")
    assert (hits(server, fault), server.changes_made()) == (1, 1)
    assert server.find("b", "made").size == len(b"theirs")


@pytest.mark.parametrize(("kind", "rule"), PASSING_FAULTS)
def test_an_upload_with_a_precondition_survives_a_passing_fault(embedded, kind, rule):
    server, store = embedded
    fault = server.fail(kind, operation="upload", times=1, **rule)
    made = store.upload("b", "o", b"data" * 1000, content_type="text/plain", if_generation_match=0)
    assert hits(server, fault) == 1
    assert made.row.generation == server.find("b", "o").generation
    assert made.row.crc32c == google_crc32c.value(b"data" * 1000)


@pytest.mark.parametrize(("kind", "rule"), [("reset", {}), ("lose_answer", {}), ("status", {"status": 503})])
def test_an_upload_without_a_precondition_is_not_repeated_when_it_may_have_been_carried_out(embedded, kind, rule):
    server, store = embedded
    fault = server.fail(kind, operation="upload", times=1, **rule)
    with pytest.raises(UnavailableError):
        store.upload("b", "o", b"data", content_type="text/plain")
    assert hits(server, fault) == 1
    assert server.requests().operations["upload"] == 1


def test_an_upload_without_a_precondition_is_repeated_when_it_was_surely_refused(embedded):
    server, store = embedded
    fault = server.fail("status", status=429, operation="upload", times=1)
    assert store.upload("b", "o", b"data", content_type="text/plain").row.size == 4
    assert hits(server, fault) == 1


@pytest.mark.parametrize(("kind", "rule"), PASSING_FAULTS)
def test_a_delete_survives_a_passing_fault(embedded, kind, rule):
    server, store = embedded
    pinned = pin(server.put("b", "o", b""))
    fault = server.fail(kind, operation="delete", times=1, **rule)
    store.delete("b", pinned)
    assert hits(server, fault) == 1
    assert server.find("b", "o") is None


@pytest.mark.parametrize(("kind", "rule"), [*PASSING_FAULTS, ("truncate", {})])
def test_a_batch_survives_a_passing_fault_as_a_whole(embedded, kind, rule):
    server, store = embedded
    pinned = [pin(server.put("b", f"o{number}", b"")) for number in range(10)]
    fault = server.fail(kind, operation="batch", times=1, **rule)
    assert store.delete_many("b", pinned) == []
    assert hits(server, fault) == 1
    assert server.names("b") == []


def test_parts_of_a_batch_that_failed_are_sent_again_alone(embedded):
    server, store = embedded
    pinned = [pin(server.put("b", f"o{number}", b"")) for number in range(10)]
    fault = server.fail("status", status=503, operation="delete", times=3)
    assert store.delete_many("b", pinned) == []
    assert hits(server, fault) == 3
    assert server.requests().operations["delete"] == 13
    assert (store.counts().free, store.counts().retries) == (13, 3)


def test_parts_of_a_batch_that_keep_failing_are_returned_with_the_reason(embedded):
    server, store = embedded
    pinned = [pin(server.put("b", name, b"")) for name in ("good", "stuck")]
    fault = server.fail("status", status=503, operation="delete", prefix="stuck")
    (failure,) = store.delete_many("b", pinned)
    assert failure.version == pinned[1]
    assert "503" in failure.reason
    assert hits(server, fault) == IMPATIENT.attempts
    assert server.names("b") == ["stuck"]


@pytest.mark.parametrize("status", [400, 403, 404, 405, 413, 501, 503])
def test_where_batches_are_refused_as_a_whole_objects_are_deleted_one_by_one(embedded, status):
    server, store = embedded
    pinned = [pin(server.put("b", f"o{number:03d}", b"")) for number in range(120)]
    fault = server.fail("status", status=status, operation="batch")
    assert store.delete_many("b", pinned[:110]) == []
    assert server.requests().operations["delete"] == 110
    asked = hits(server, fault)
    assert asked == (IMPATIENT.attempts if status == 503 else 1)
    assert store.delete_many("b", pinned[110:]) == []
    assert server.names("b") == []
    # What cannot pass is not asked for again.
    assert hits(server, fault) == (2 * asked if status == 503 else asked)


def test_an_outage_of_all_deletions_returns_everything_as_not_deleted_after_one_object(embedded):
    server, store = embedded
    pinned = [pin(server.put("b", f"o{number:03d}", b"")) for number in range(150)]
    fault = server.fail("status", status=503, operation="batch")
    single = server.fail("status", status=503, operation="delete")
    failures = store.delete_many("b", pinned)
    assert [failure.version for failure in failures] == pinned
    assert (hits(server, fault), hits(server, single)) == (IMPATIENT.attempts, IMPATIENT.attempts)


def test_what_a_batch_deleted_before_it_failed_as_a_whole_is_not_called_a_failure(embedded):
    server, store = embedded
    pinned = [pin(server.put("b", f"o{number:03d}", b"")) for number in range(110)]
    part = server.fail("status", status=503, operation="delete", times=1)
    # The batch is sent; one part of it is sent again, and from then on nothing gets through.
    first = server.fail("status", status=400, operation="batch", nth=2)
    alone = server.fail("status", status=403, operation="delete", prefix="o10")
    failures = store.delete_many("b", pinned)
    assert (hits(server, part), hits(server, first)) == (1, 1)
    assert sorted(failure.version.name for failure in failures) == server.names("b")
    assert hits(server, alone) == len(failures) == 10  # the batch that was not begun; the part could be deleted alone


def test_a_held_object_is_a_failure_and_its_neighbours_are_deleted(embedded):
    server, store = embedded
    held = pin(server.put("b", "held", b"", temporary_hold=True))
    free = pin(server.put("b", "free", b""))
    (failure,) = store.delete_many("b", [held, free])
    assert failure.version == held
    assert "403" in failure.reason
    assert server.names("b") == ["held"]


def test_a_fault_that_stays_ends_in_an_error_after_all_attempts(embedded):
    server, store = embedded
    fault = server.fail("status", status=503, operation="list")
    with pytest.raises(UnavailableError, match="after 10 attempts") as caught:
        store.list_page("b", PageRequest(prefix="p/"))
    assert hits(server, fault) == IMPATIENT.attempts == 10
    assert "gs://b/p/" in str(caught.value)
    assert caught.value.retryable


def test_throttling_that_stays_is_told_from_an_outage(embedded):
    server, store = embedded
    fault = server.fail("status", status=429, operation="list")
    with pytest.raises(ThrottledError, match="request rate"):
        store.list_page("b", PageRequest())
    assert hits(server, fault) == store.counts().throttled + 1 == IMPATIENT.attempts


def test_retry_after_is_waited_for_and_not_beyond_the_deadline(embedded):
    server, _ = embedded
    policy = RetryPolicy(first_delay_s=0.001, max_delay_s=0.001, deadline_s=30.0)
    store = open_store(default_store_config(), AnonymousTokens(), connections=1, policy=policy)
    short = server.fail("status", status=503, retry_after_s=1, operation="list", times=1)
    began = time.monotonic()
    store.list_page("b", PageRequest())
    assert time.monotonic() - began >= 1.0
    long = server.fail("status", status=503, retry_after_s=3600, operation="list", times=1)
    with pytest.raises(UnavailableError):
        store.list_page("b", PageRequest())
    assert (hits(server, short), hits(server, long)) == (1, 1)
    store.close()


def test_a_stalled_page_is_given_up_from_observed_latency_and_asked_for_again(embedded):
    server, store = embedded
    server.put("b", "o", b"")
    for _ in range(20):  # enough to know how long a page takes
        store.list_page("b", PageRequest())
    fault = server.fail("stall", operation="list", times=1, stall_s=60)
    began = time.monotonic()
    assert store.list_page("b", PageRequest()).rows.num_rows == 1
    assert hits(server, fault) == 1
    assert time.monotonic() - began < 30  # half of the stall: it was not waited out


def test_a_page_that_stalls_in_its_body_is_asked_for_again(embedded):
    server, store = embedded
    server.put_many("b", {f"n{number}": b"" for number in range(50)})
    for _ in range(20):
        store.list_page("b", PageRequest())
    fault = server.fail("stall_body", operation="list", times=1, stall_s=60)
    assert store.list_page("b", PageRequest()).rows.num_rows == 50
    assert hits(server, fault) == 1
    assert store.counts().retries == 1


def test_a_compose_on_a_connection_that_a_read_has_given_back_outlives_a_cancel_of_reads(embedded):
    server, _ = embedded
    cancel = CancelToken()
    reading = default_store_config().open(AnonymousTokens(), StoreOptions(connections=1, cancel=cancel))
    composing = default_store_config().open(
        AnonymousTokens(), StoreOptions(connections=1, cancel_composes=cancel, beside=reading)
    )
    source = pin(reading.upload("b", "source", b"content", content_type="text/plain").row)
    server.configure(latency_s={"compose": 0.3})
    server.forget_requests()
    made = []

    def compose() -> None:
        made.append(composing.compose("b", "made", [source], metadata={}, storage_class="STANDARD"))

    thread = threading.Thread(target=compose)
    with reading.read("b", source) as body:
        assert next(body.chunks()) == b"content"
        thread.start()
        while not server.requests().in_flight:
            time.sleep(0.001)
        cancel.cancel("the test says so")
        thread.join()
    assert [stored.row.name for stored in made] == ["made"]
    reading.close()
    composing.close()


@pytest.mark.parametrize("wanted", [True, False])
def test_a_compose_that_was_refused_is_given_up_if_it_is_not_wanted_any_more(embedded, wanted):
    server, store = embedded
    source = pin(store.upload("b", "source", b"content", content_type="text/plain").row)
    fault = server.fail("status", operation="compose", status=429, times=1)
    asked = []

    def compose():
        return store.compose(
            "b", "made", [source], metadata={}, storage_class="STANDARD", still_wanted=lambda: asked.append(1) or wanted
        )

    if wanted:
        assert compose().row.size == 7
    else:
        with pytest.raises(NotWantedError, match=r"gs://b/made was given up after a refusal"):
            compose()
        with pytest.raises(ObjectNotFoundError):
            store.stat("b", "made")
    assert (hits(server, fault), len(asked)) == (1, 1)


def test_a_compose_that_may_have_been_carried_out_is_never_given_up(embedded, monkeypatch):
    """Also not while it waits for its turn: the composite of one that was given up there stayed in the bucket."""
    server, store = embedded
    budget, could_be_given_up = store._transport._budgets.of("write"), []
    acquire = budget.acquire

    def noted(count, cancel, still_wanted=None):
        could_be_given_up.append(still_wanted is not None)
        return acquire(count, cancel, still_wanted)

    monkeypatch.setattr(budget, "acquire", noted)
    source = pin(store.upload("b", "source", b"content", content_type="text/plain").row)
    lost = server.fail("reset", operation="compose", times=1)
    refused = server.fail("status", operation="compose", status=429, times=1)
    told: list[int] = []
    made = store.compose(
        "b", "made", [source], metadata={}, storage_class="STANDARD", still_wanted=lambda: False,
        answer_lost=lambda: told.append(1),
    )  # fmt: skip
    assert made.row.size == 7
    assert told == [1]  # for the reset, and not for the refusal
    assert (hits(server, lost), hits(server, refused)) == (1, 1)
    assert could_be_given_up == [False, True, False, False]  # the upload, and three attempts of the compose


def test_a_cancel_ends_a_back_off_at_once(embedded):
    server, _ = embedded
    cancel = CancelToken()
    patient = RetryPolicy(first_delay_s=3600, max_delay_s=3600, deadline_s=100_000)
    store = open_store(default_store_config(), AnonymousTokens(), connections=1, cancel=cancel, policy=patient)
    fault = server.fail("status", status=503, retry_after_s=3600, operation="list")
    ended: list[BaseException] = []

    def listen() -> None:
        try:
            store.list_page("b", PageRequest())
        except CancelledError as error:
            ended.append(error)

    thread = threading.Thread(target=listen)
    thread.start()
    while hits(server, fault) == 0:
        pass
    cancel.cancel("the test says so")
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert "the test says so" in str(ended[0])
    store.close()


def test_a_server_that_is_not_there_is_an_error_that_names_the_object(gcs_server, closed_port):
    config = StoreConfig(endpoint=f"http://127.0.0.1:{closed_port}")
    store = open_store(config, AnonymousTokens(), connections=1, policy=IMPATIENT)
    with pytest.raises(UnavailableError, match="gs://b/o"):
        store.stat("b", "o")


def test_idle_connections_that_the_server_closed_are_replaced(embedded):
    server, store = embedded
    endpoint_port = int(server.endpoint.rsplit(":", 1)[1])
    server.put("b", "o", b"")
    store.list_page("b", PageRequest())
    server.stop()
    server._port = endpoint_port
    server.start()
    server.create_bucket("b")
    assert store.list_page("b", PageRequest()).rows.num_rows == 0
    server._port = 0


class TestRefusals:
    def test_a_missing_permission_is_named_with_what_to_grant(self, embedded):
        server, store = embedded
        server.change_bucket("b", permissions=["storage.objects.get"])
        with pytest.raises(PermissionDeniedError, match=r"Grant storage\.objects\.list on the bucket") as caught:
            store.list_page("b", PageRequest())
        assert (caught.value.status, caught.value.retryable) == (403, False)
        assert server.requests().operations["list"] == 1

    def test_permissions_held_are_returned(self, embedded):
        server, store = embedded
        server.change_bucket("b", permissions=["storage.objects.get", "storage.objects.delete"])
        asked = ["storage.objects.get", "storage.objects.create", "storage.objects.delete"]
        assert store.test_permissions("b", asked) == {"storage.objects.get", "storage.objects.delete"}

    def test_requester_pays_says_to_set_user_project(self, embedded):
        server, store = embedded
        server.change_bucket("b", requester_pays=True)
        with pytest.raises(StoreError, match="Set user_project"):
            store.list_page("b", PageRequest())

    def test_user_project_goes_with_every_request(self, embedded):
        server, _ = embedded
        server.change_bucket("b", requester_pays=True)
        store = open_store(default_store_config("payer"), AnonymousTokens(), connections=2, policy=IMPATIENT)
        made = store.upload("b", "o", b"abc", content_type="text/plain")
        pinned = ObjectVersion(name="o", generation=made.row.generation)
        store.list_page("b", PageRequest())
        store.stat("b", "o")
        store.bucket_info("b")
        store.test_permissions("b", ["storage.objects.get"])
        with store.read("b", pinned) as body:
            assert b"".join(body.chunks()) == b"abc"
        composed = store.compose("b", "c", [pinned], metadata={}, storage_class="STANDARD")
        store.delete("b", pinned)
        assert store.delete_many("b", [ObjectVersion(name="c", generation=composed.row.generation)]) == []
        assert {record.query.get("userProject") for record in server.log()} == {"payer"}
        store.close()

    def test_a_bucket_with_everything_set_is_reported_as_it_is(self, embedded):
        server, store = embedded
        server.create_bucket(
            "full", soft_delete_s=604800, versioning=True, retention_s=60, default_event_based_hold=True,
            autoclass=True, hierarchical_namespace=True, location="EUROPE-WEST4", location_type="region",
            storage_class="NEARLINE",
        )  # fmt: skip
        info = store.bucket_info("full")
        assert (info.soft_delete_s, info.retention_s, info.versioning) == (604800, 60, True)
        assert (info.default_event_based_hold, info.autoclass, info.hierarchical_namespace) == (True, True, True)
        assert (info.location, info.location_type, info.storage_class) == ("EUROPE-WEST4", "region", "NEARLINE")
        assert not info.requester_pays
        assert not info.hard_delete_paused
        server.change_bucket("full", hard_delete_paused=True)
        assert store.bucket_info("full").hard_delete_paused
        plain = store.bucket_info("b")
        assert (plain.soft_delete_s, plain.retention_s, plain.versioning, plain.autoclass) == (0, 0, False, False)

    def test_composing_a_class_other_than_the_buckets_works_because_it_is_named(self, embedded):
        server, store = embedded
        cold = pin(server.put("b", "cold", b"c", storage_class="NEARLINE"))
        made = store.compose("b", "made", [cold], metadata={}, storage_class="NEARLINE")
        assert made.row.storage_class == "NEARLINE"

    def test_a_component_that_is_gone_is_an_error_without_retries(self, embedded):
        server, store = embedded
        gone = ObjectVersion(name="gone", generation=5)
        with pytest.raises(ObjectNotFoundError, match="gs://b/made"):
            store.compose("b", "made", [gone], metadata={}, storage_class="STANDARD")
        assert server.requests().operations["compose"] == 1


class TestTokens:
    class Source:
        def __init__(self, *values: str | None, valid_for_s: float | None = 3600) -> None:
            self.values = list(values)
            self.valid_for_s = valid_for_s
            self.fetched = 0

        def fetch(self) -> Token | None:
            value = self.values[min(self.fetched, len(self.values) - 1)]
            self.fetched += 1
            return None if value is None else Token(value=value, valid_for_s=self.valid_for_s)

    @pytest.fixture
    def guarded(self, embedded, monkeypatch):
        """A server that checks tokens, reached as Cloud Storage is: not as an emulator."""
        server, _ = embedded
        monkeypatch.delenv("STORAGE_EMULATOR_HOST")
        server.configure(tokens={"good": None})
        yield server
        server.configure(tokens=None)

    def store(self, server, source):
        return open_store(StoreConfig(endpoint=server.endpoint), source, connections=2, policy=IMPATIENT)

    def test_one_token_serves_many_requests(self, guarded):
        source = self.Source("good")
        store = self.store(guarded, source)
        for _ in range(5):
            store.list_page("b", PageRequest())
        assert source.fetched == 1

    def test_a_refused_token_is_replaced_once(self, guarded):
        source = self.Source("stale", "good")
        store = self.store(guarded, source)
        store.list_page("b", PageRequest())
        assert source.fetched == 2
        assert guarded.requests().statuses["401"] == 1

    def test_a_second_refusal_is_an_error(self, guarded):
        store = self.store(guarded, self.Source("stale", "stale too"))
        with pytest.raises(AuthenticationError, match="credentials"):
            store.list_page("b", PageRequest())
        assert guarded.requests().statuses["401"] == 2

    def test_anonymous_access_that_is_refused_is_an_error_at_once(self, guarded):
        store = self.store(guarded, AnonymousTokens())
        with pytest.raises(AuthenticationError):
            store.list_page("b", PageRequest())
        assert guarded.requests().statuses["401"] == 1

    def test_an_emulator_never_gets_a_token(self, embedded):
        server, _ = embedded
        source = self.Source("secret")
        store = self.store(server, source)
        store.list_page("b", PageRequest())
        assert source.fetched == 0

    def test_no_token_goes_over_plain_http_to_another_machine(self, monkeypatch):
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        config = StoreConfig(endpoint="http://storage.example")
        store = open_store(config, self.Source("secret"), connections=1, policy=IMPATIENT)
        with pytest.raises(AuthenticationError, match="plain HTTP"):
            store.list_page("b", PageRequest())


def test_every_request_introduces_itself(embedded):
    import airflow_dataflux

    server, store = embedded
    store.list_page("b", PageRequest())
    assert server.log()[0].user_agent.startswith(f"airflow-dataflux/{airflow_dataflux.__version__}")


def test_a_tight_list_budget_is_kept_with_few_refusals(embedded):
    server, _ = embedded
    server.configure(lists_per_s=200, first_byte_s=0.02)
    store = open_store(default_store_config(), AnonymousTokens(), connections=32)

    def work() -> None:
        for _ in range(30):
            store.list_page("b", PageRequest())

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers = server.requests().statuses
    assert answers["200"] == 960
    assert 0 < answers["429"] == store.counts().throttled <= 48  # 5 %
    store.close()
