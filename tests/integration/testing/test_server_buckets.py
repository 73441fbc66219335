"""Buckets, permissions, batches and concurrency of the embedded server, asked by the official client."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.oauth2.credentials import Credentials

from airflow_dataflux.testing import GCSServer


def test_a_bucket_tells_what_it_is(gcs_server: GCSServer, client: storage.Client) -> None:
    gcs_server.create_bucket(
        "all",
        location="EUROPE-WEST1",
        location_type="region",
        storage_class="NEARLINE",
        versioning=True,
        soft_delete_s=604_800,
        retention_s=60,
        default_event_based_hold=True,
        autoclass=True,
        hierarchical_namespace=True,
    )
    bucket = client.get_bucket("all")
    assert (bucket.location, bucket.location_type) == ("EUROPE-WEST1", "region")
    assert bucket.storage_class == "NEARLINE"
    assert bucket.versioning_enabled
    assert bucket.soft_delete_policy.retention_duration_seconds == 604_800
    assert bucket.retention_period == 60
    assert bucket.default_event_based_hold
    assert bucket.autoclass_enabled
    assert bucket.hierarchical_namespace_enabled

    gcs_server.create_bucket("plain")
    bucket = client.get_bucket("plain")
    assert not bucket.versioning_enabled
    assert bucket.retention_period is None
    assert not bucket.requester_pays
    assert bucket.soft_delete_policy.retention_duration_seconds == 0


def test_buckets_are_created_listed_and_deleted(client: storage.Client) -> None:
    client.create_bucket("made", location="us-east1")
    with pytest.raises(Conflict):
        client.create_bucket("made")
    client.create_bucket("also")
    assert [bucket.name for bucket in client.list_buckets()] == ["also", "made"]
    client.bucket("made").blob("x").upload_from_string(b"")
    with pytest.raises(Conflict):
        client.bucket("made").delete()
    client.bucket("made").blob("x").delete()
    client.bucket("made").delete()
    assert client.lookup_bucket("made") is None
    with pytest.raises(NotFound):
        client.get_bucket("made")


def test_bucket_settings_can_be_patched(client: storage.Client, bucket: storage.Bucket) -> None:
    bucket = client.get_bucket("data")
    bucket.versioning_enabled = True
    bucket.requester_pays = True
    bucket.patch()
    again = client.bucket("data", user_project="payer")
    again.reload()
    assert again.versioning_enabled
    assert again.requester_pays


def test_requester_pays_needs_a_project_that_pays(gcs_server: GCSServer, client: storage.Client) -> None:
    gcs_server.create_bucket("pays", requester_pays=True)
    gcs_server.put("pays", "x", b"1")
    with pytest.raises(BadRequest, match="requester pays"):
        list(client.list_blobs("pays"))
    with pytest.raises(BadRequest):
        client.bucket("pays").blob("x").download_as_bytes()
    payer = client.bucket("pays", user_project="me")
    assert payer.blob("x").download_as_bytes() == b"1"
    assert [blob.name for blob in client.list_blobs(payer)] == ["x"]


def test_permissions_are_told(gcs_server: GCSServer, client: storage.Client) -> None:
    asked = ["storage.objects.get", "storage.objects.list", "storage.objects.delete"]
    gcs_server.create_bucket("open")
    gcs_server.create_bucket("half", permissions={"storage.objects.get", "storage.objects.list"})
    gcs_server.create_bucket("shut", permissions=[])
    assert client.bucket("open").test_iam_permissions(asked) == asked
    assert client.bucket("half").test_iam_permissions(asked) == asked[:2]
    assert client.bucket("shut").test_iam_permissions(asked) == []
    with pytest.raises(NotFound):
        client.bucket("nowhere").test_iam_permissions(asked)


def test_a_batch_carries_many_calls(gcs_server: GCSServer, client: storage.Client, bucket: storage.Bucket) -> None:
    names = [f"{index}/é?#" for index in range(100)]
    gcs_server.put_many("data", dict.fromkeys(names, b""))
    gcs_server.put("data", "stays", b"")
    with client.batch():
        for name in names:
            bucket.blob(name).delete()
    assert gcs_server.names("data") == ["stays"]
    counters = gcs_server.requests()
    assert counters.operations == {"delete": 100, "batch": 1}
    assert counters.statuses == {"204": 100, "200": 1}


def test_a_call_that_fails_in_a_batch_fails_alone(
    gcs_server: GCSServer, client: storage.Client, bucket: storage.Bucket
) -> None:
    kept = gcs_server.put("data", "kept", b"")
    gcs_server.put("data", "gone", b"")
    with client.batch(raise_exception=False) as batch:
        bucket.blob("gone").delete()
        bucket.blob("none").delete()
        bucket.blob("kept").delete(if_generation_match=kept.generation + 1)
        bucket.blob("kept").reload()
    assert [response.status_code for response in batch._responses] == [204, 404, 412, 200]
    assert batch._responses[1].json()["error"]["errors"][0]["reason"] == "notFound"
    assert batch._responses[3].json()["name"] == "kept"
    assert gcs_server.names("data") == ["kept"]


def test_a_scripted_fault_can_hit_one_call_of_a_batch(
    gcs_server: GCSServer, client: storage.Client, bucket: storage.Bucket
) -> None:
    gcs_server.put_many("data", {"a": b"", "b": b"", "c": b""})
    fault = gcs_server.fail("status", operation="delete", nth=2, status=429, retry_after_s=1)
    with client.batch(raise_exception=False) as batch:
        for name in "abc":
            bucket.blob(name).delete()
    assert [response.status_code for response in batch._responses] == [204, 429, 204]
    assert batch._responses[1].headers["Retry-After"] == "1"
    assert gcs_server.names("data") == ["b"]
    assert gcs_server.faults()[fault].hits == 1


def test_more_than_100_calls_in_a_batch_are_refused(client: storage.Client, bucket: storage.Bucket) -> None:
    batch = client.batch()
    with pytest.raises(BadRequest), batch:
        bucket.delete_blobs([str(index) for index in range(101)])


def test_a_hundred_requests_are_served_at_once(gcs_server: GCSServer) -> None:
    gcs_server.create_bucket("data")
    gcs_server.put("data", "x", b"1")
    gcs_server.configure(latency_s={"read": 5.0})  # on a busy machine it takes a second until all have connected
    together = threading.Barrier(100)
    url = f"{gcs_server.endpoint}/download/storage/v1/b/data/o/x?alt=media"

    def read(_: int) -> int:
        together.wait()
        return requests.get(url, timeout=60).status_code

    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(read, range(100))) == [200] * 100
    assert gcs_server.requests().in_flight_peak == 100
    assert gcs_server.requests().in_flight == 0


def test_a_caller_without_an_accepted_token_is_refused(gcs_server: GCSServer) -> None:
    gcs_server.create_bucket("data")
    gcs_server.configure(tokens={"good": None, "ended": 0.0})
    caller = storage.Client(
        project="p", credentials=Credentials("good"), client_options={"api_endpoint": gcs_server.endpoint}
    )
    assert caller.get_bucket("data").name == "data"
    url = f"{gcs_server.endpoint}/storage/v1/b/data"
    for headers, reason in (
        ({}, "required"),
        ({"Authorization": "Bearer ended"}, "authError"),
        ({"Authorization": "Bearer other"}, "authError"),
    ):
        answer = requests.get(url, headers=headers, timeout=60)
        assert answer.status_code == 401
        assert answer.json()["error"]["errors"][0]["reason"] == reason


def test_a_token_that_ended_is_renewed_at_the_servers_own_token_endpoint(gcs_server: GCSServer) -> None:
    gcs_server.create_bucket("data")
    gcs_server.configure(tokens={"ended": 0.0}, token_life_s=3600.0)
    credentials = Credentials(
        "ended",
        refresh_token="again",
        client_id="id",
        client_secret="secret",
        token_uri=f"{gcs_server.endpoint}/token",
    )
    caller = storage.Client(project="p", credentials=credentials, client_options={"api_endpoint": gcs_server.endpoint})
    assert caller.get_bucket("data").name == "data"
    gcs_server.configure(page_cap=5)  # other settings leave tokens as they are
    assert list(caller.list_blobs("data")) == []
    assert gcs_server.requests().operations["token"] == 1
    assert gcs_server.requests().statuses["401"] == 1


def test_the_fixture_starts_with_nothing_and_sends_clients_to_the_server(gcs_server: GCSServer) -> None:
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    assert client.api_endpoint == gcs_server.endpoint
    assert list(client.list_buckets()) == []


def test_the_log_tells_who_asked_for_what(gcs_server: GCSServer, bucket: storage.Bucket) -> None:
    bucket.blob("n").upload_from_string(b"123")
    list(bucket.client.list_blobs(bucket, prefix="n", max_results=5))
    upload, listing = gcs_server.log()
    assert (upload.operation, upload.status) == ("upload", 200)
    assert listing.query["prefix"] == "n"
    assert listing.query["maxResults"] == "5"
    assert "gcloud-python" in listing.user_agent
    gcs_server.forget_requests()
    assert gcs_server.log() == []


@pytest.mark.parametrize("path", ["/storage/v1/nothing", "/", "/storage/v1/b/data/o/x/explode", "/upload/storage/v1/x"])
def test_an_unknown_path_is_refused_in_the_services_shape(gcs_server: GCSServer, path: str) -> None:
    answer = requests.post(gcs_server.endpoint + path, timeout=60)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == 404


def test_a_malformed_body_is_refused_in_the_services_shape(gcs_server: GCSServer, bucket: storage.Bucket) -> None:
    answer = requests.post(f"{gcs_server.endpoint}/storage/v1/b/data/o/x/compose", data=b"{nonsense", timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["errors"][0]["reason"] == "parseError"
    answer = requests.post(f"{gcs_server.endpoint}/batch/storage/v1", data=b"nonsense", timeout=60)
    assert answer.status_code == 400
