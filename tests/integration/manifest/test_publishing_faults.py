"""What is left of a manifest when its publication fails, or seems to: nothing that was published is ever destroyed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations
from manifest_samples import LISTED_AT, numbered, publish_rows, write_parts

from airflow_dataflux.core.config import ListRequest, SelectRequest
from airflow_dataflux.core.errors import (
    CancelledError,
    InvalidRequestError,
    ManifestConflictError,
    ManifestError,
    PermissionDeniedError,
    UnavailableError,
)
from airflow_dataflux.core.gcs.http_store import StoreConfig, open_store
from airflow_dataflux.core.gcs.retry import RetryPolicy
from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.listing import list_objects
from airflow_dataflux.core.manifest import Manifest, ManifestDraft, ManifestFiles, inline, join
from airflow_dataflux.core.manifest.deriving import select, unite
from airflow_dataflux.core.manifest.files import StoredFile
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.testing import GCSServer

URI = "gs://manifests/daily"
INDEX = "daily/manifest.json"


class Timeout(BaseException):
    """What an execution_timeout raises into the main thread."""


@pytest.fixture
def store(gcs_server: GCSServer) -> Iterator[Store]:
    gcs_server.create_bucket("manifests")
    gcs_server.create_bucket("data")
    gcs_server.synthesize("data", count=12_000, size=10)
    store = open_store(StoreConfig(endpoint=gcs_server.endpoint), AnonymousTokens(), connections=4)
    yield store
    store.close()


def listed(server: GCSServer, **more: object) -> Manifest:
    request = ListRequest(**{"bucket": "data", "manifest_uri": URI, **more})  # type: ignore[arg-type]
    return list_objects(
        request, store_config=StoreConfig(endpoint=server.endpoint), tokens=AnonymousTokens(), isolated=False
    )


def drafted(files: ManifestFiles, run: str, count: int) -> Manifest:
    """Publish so many rows as a listing does."""
    with ManifestDraft(files, URI, run) as draft:
        parts = write_parts(files, URI, [numbered(count)], prefix=run)
        return draft.publish(
            bucket="a-bucket", prefixes=["train/"], parts=parts, listed_at=LISTED_AT, stats={}, request={}
        )


def parts_in(server: GCSServer) -> list[str]:
    return [name for name in server.names("manifests") if name.endswith(".parquet")]


@pytest.mark.parametrize("earlier", [False, True])
def test_a_lost_answer_to_the_index_upload_is_no_failure(gcs_server: GCSServer, store: Store, earlier: bool) -> None:
    if earlier:
        listed(gcs_server)
    fault = gcs_server.fail("lose_answer", operation="upload", prefix=INDEX, times=1)
    manifest = listed(gcs_server)
    assert gcs_server.faults()[fault].hits == 1
    assert Manifest.open(URI, store=store).to_arrow().num_rows == len(manifest) == 12_000


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 503}, {"kind": "reset"}, {"kind": "lose_answer"}])
def test_one_fault_while_a_part_or_the_index_is_written_is_repeated(
    gcs_server: GCSServer, store: Store, fault: dict[str, object]
) -> None:
    rules = [gcs_server.fail(**fault, operation="upload", bucket="manifests", nth=nth) for nth in (1, 3)]  # type: ignore[arg-type]
    manifest = listed(gcs_server)
    assert [gcs_server.faults()[rule].hits for rule in rules] == [1] * len(rules)
    assert Manifest.open(URI, store=store).to_arrow().num_rows == len(manifest) == 12_000
    # Nothing was written twice: what is there is the index and the parts that it names.
    assert len(gcs_server.names("manifests")) == 1 + len(manifest.index.parts)


@pytest.mark.parametrize("which", ["replace", "delete"])
def test_an_interruption_after_the_index_was_written_leaves_the_manifest(
    gcs_server: GCSServer, store: Store, which: str
) -> None:
    class Interrupted(ManifestFiles):
        armed = False

        def replace(self, uri: str, data: bytes, seen: StoredFile | None) -> None:
            super().replace(uri, data, seen)
            self.armed = True
            if which == "replace":
                raise Timeout("after the index was written, before anybody knew")

        def delete(self, uri: str) -> None:
            if which == "delete" and self.armed:
                raise Timeout("while the replaced manifest is deleted")
            super().delete(uri)

    drafted(ManifestFiles(store), "old", 10)
    with pytest.raises(Timeout):
        drafted(Interrupted(store), "new", 20)
    assert Manifest.open(URI, store=store).to_arrow().num_rows == 20


def test_a_join_of_inline_manifests_that_is_interrupted_after_publishing_stays(
    gcs_server: GCSServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [
        inline("a-bucket", ["train/"], [numbered(10, start=start)], listed_at=LISTED_AT, stats={}) for start in (0, 10)
    ]
    replace = ManifestFiles.replace

    def interrupted(self: ManifestFiles, uri: str, data: bytes, seen: StoredFile | None) -> None:
        replace(self, uri, data, seen)
        raise Timeout

    monkeypatch.setattr(ManifestFiles, "replace", interrupted)
    with pytest.raises(Timeout):
        join(pieces, manifest_uri=URI, store=store)
    assert Manifest.open(URI, store=store).to_arrow().num_rows == 20


def test_what_fails_before_the_index_is_sent_leaves_no_part(gcs_server: GCSServer, store: Store) -> None:
    drafted(ManifestFiles(store), "old", 10)
    files = ManifestFiles(store)

    def interrupted() -> None:
        with ManifestDraft(files, URI, "new"):
            write_parts(files, URI, [numbered(20)], prefix="new")
            raise Timeout

    with pytest.raises(Timeout):
        interrupted()
    assert parts_in(gcs_server) == ["daily/part-old-0-00000.parquet"]
    assert len(list(Manifest.open(URI, store=store))) == 10


def test_an_index_that_is_surely_refused_leaves_no_part(gcs_server: GCSServer, store: Store) -> None:
    drafted(ManifestFiles(store), "old", 10)
    gcs_server.fail("status", operation="upload", prefix=INDEX, status=403)
    with pytest.raises(PermissionDeniedError):
        drafted(ManifestFiles(store), "new", 20)
    assert parts_in(gcs_server) == ["daily/part-old-0-00000.parquet"]


def test_parts_stay_and_are_named_while_their_index_may_still_arrive(
    gcs_server: GCSServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    hasty = open_store(
        StoreConfig(endpoint=gcs_server.endpoint),
        AnonymousTokens(),
        connections=2,
        policy=RetryPolicy(attempts=3, first_delay_s=0.01),
    )
    drafted(ManifestFiles(store), "old", 10)
    fault = gcs_server.fail("reset", operation="upload", prefix=INDEX)
    with pytest.raises(UnavailableError):
        drafted(ManifestFiles(hasty), "new", 20)
    hasty.close()
    assert gcs_server.faults()[fault].hits == 3
    assert parts_in(gcs_server) == ["daily/part-new-0-00000.parquet", "daily/part-old-0-00000.parquet"]
    assert "parts part-new-* are kept" in caplog.text
    assert len(list(Manifest.open(URI, store=store))) == 10


class _Meeting(ManifestFiles):
    """Files of which the first index meets that of somebody else, who looked before it was there."""

    def __init__(self, store: Store, other: Callable[[], object]) -> None:
        super().__init__(store)
        self._other: Callable[[], object] | None = other

    def replace(self, uri: str, data: bytes, seen: StoredFile | None) -> None:
        other, self._other = self._other, None
        if other is not None:
            other()
        super().replace(uri, data, seen)


def test_of_two_that_publish_at_once_the_later_replaces_the_earlier_whole(gcs_server: GCSServer, store: Store) -> None:
    files = _Meeting(store, lambda: drafted(ManifestFiles(store), "one", 10))
    assert len(drafted(files, "two", 20)) == 20
    assert parts_in(gcs_server) == ["daily/part-two-0-00000.parquet"]
    assert len(list(Manifest.open(URI, store=store))) == 20


def test_an_index_that_was_perhaps_replaced_already_is_not_published_again(gcs_server: GCSServer, store: Store) -> None:
    # 1. Ours is written, its answer lost. 2. Somebody replaces it and deletes its parts. 3. Ours is sent again.
    fault = gcs_server.fail("lose_answer", operation="upload", prefix=INDEX, times=1)
    gcs_server.change_later("manifests", INDEX, b"{}", operation="upload", after=2)
    with pytest.raises(ManifestConflictError, match="at the same time"):
        drafted(ManifestFiles(store), "ours", 20)
    assert (gcs_server.faults()[fault].hits, gcs_server.changes_made()) == (1, 1)
    assert gcs_server.find("manifests", INDEX) is not None
    assert parts_in(gcs_server) == []


def test_a_cancel_is_heard_while_a_manifest_is_written_and_its_parts_go(gcs_server: GCSServer, store: Store) -> None:
    cancel = CancelToken()
    fault = gcs_server.fail("status", operation="upload", bucket="manifests", status=429, retry_after_s=60)

    def cancel_when_refused() -> None:
        deadline = time.monotonic() + 30
        while gcs_server.faults()[fault].hits == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        cancel.cancel("the test")

    canceller = threading.Thread(target=cancel_when_refused)
    canceller.start()
    began_at = time.monotonic()
    with pytest.raises(CancelledError):
        list_objects(
            ListRequest(bucket="data", manifest_uri=URI),
            store_config=StoreConfig(endpoint=gcs_server.endpoint),
            tokens=AnonymousTokens(),
            isolated=False,
            cancel=cancel,
        )
    canceller.join()
    assert time.monotonic() - began_at < 30  # half of the Retry-After
    assert gcs_server.names("manifests") == []


def test_a_cancel_is_heard_while_the_upload_of_an_index_is_stalled_and_nothing_is_guessed(
    gcs_server: GCSServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    cancel = CancelToken()
    fault = gcs_server.fail("stall", operation="upload", prefix=INDEX, stall_s=90)

    def cancel_when_stalled() -> None:
        deadline = time.monotonic() + 60
        while gcs_server.faults()[fault].hits == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        cancel.cancel("the test")

    canceller = threading.Thread(target=cancel_when_stalled)
    canceller.start()
    began_at = time.monotonic()
    with pytest.raises(CancelledError):
        list_objects(
            ListRequest(bucket="data", manifest_uri=URI),
            store_config=StoreConfig(endpoint=gcs_server.endpoint),
            tokens=AnonymousTokens(),
            isolated=False,
            cancel=cancel,
        )
    canceller.join()
    assert time.monotonic() - began_at < 45  # half of the stall: it was not waited out
    # The server may still carry the upload out: an index that arrives late finds its parts.
    assert "may have been published" in caplog.text
    assert parts_in(gcs_server) != []


@pytest.mark.parametrize("how", ["retention", "hold"])
def test_a_manifest_that_cannot_be_replaced_is_refused_before_anything_is_listed(
    gcs_server: GCSServer, store: Store, how: str
) -> None:
    bucket = f"kept-by-{how}"
    if how == "retention":
        gcs_server.create_bucket(bucket, retention_s=86_400)
    else:
        gcs_server.create_bucket(bucket, default_event_based_hold=True)
    publish_rows(f"gs://{bucket}/m", [numbered(10)], files=ManifestFiles(store))
    gcs_server.forget_requests()
    with pytest.raises(ManifestError, match=r"cannot be replaced: it is .*\{\{ run_id \}\}"):
        list_objects(
            ListRequest(bucket="data", manifest_uri=f"gs://{bucket}/m"),
            store_config=StoreConfig(endpoint=gcs_server.endpoint),
            tokens=AnonymousTokens(),
            isolated=False,
        )
    assert gcs_server.requests().operations.get("list", 0) == 0
    assert len(list(Manifest.open(f"gs://{bucket}/m", store=store))) == 10


FOREIGN = b'{"dataset": "mine", "format": "coco"}'


def test_a_file_of_somebody_else_is_not_replaced_by_an_index(
    gcs_server: GCSServer, store: Store, tmp_path: Path
) -> None:
    gcs_server.put("manifests", "daily/manifest.json", FOREIGN)
    gcs_server.forget_requests()
    with pytest.raises(
        ManifestError, match=r"gs://manifests/daily/manifest\.json is there already, and it is no manifest"
    ):
        list_objects(
            ListRequest(bucket="data", manifest_uri=URI),
            store_config=StoreConfig(endpoint=gcs_server.endpoint),
            tokens=AnonymousTokens(),
            isolated=False,
        )
    assert gcs_server.requests().operations.get("list", 0) == 0, "before anything is listed"
    (tmp_path / "manifest.json").write_bytes(FOREIGN)
    for uri in (URI, tmp_path.as_uri()):
        with pytest.raises(ManifestError, match="is no manifest, so it is not replaced"):
            publish_rows(uri, [numbered(10)], files=ManifestFiles(store))
    assert ManifestFiles(store).read(f"{URI}/manifest.json") == (tmp_path / "manifest.json").read_bytes() == FOREIGN


@pytest.mark.parametrize(
    ("place", "kind"),
    [("file", "foreign"), ("file", "directory"), ("file", "pipe"), ("file", "file above"), ("memory", "foreign")],
)
def test_what_keeps_an_index_from_its_place_is_told_before_anything_is_listed(
    gcs_server: GCSServer, store: Store, tmp_path: Path, kind: str, place: str
) -> None:
    index = tmp_path / "manifest.json"
    if place == "memory":
        MemoryFileSystem().pipe_file(f"{tmp_path}/manifest.json", FOREIGN)
    elif kind == "foreign":
        index.write_bytes(FOREIGN)
    elif kind == "directory":
        index.mkdir()
    elif kind == "pipe":
        os.mkfifo(index)
    else:
        tmp_path.rmdir()
        tmp_path.touch()
    uri = f"{place}://{tmp_path}"
    before = publish_rows("memory://elsewhere", [numbered(10)], files=ManifestFiles(store))
    gcs_server.forget_requests()
    actions = [
        lambda: listed(gcs_server, manifest_uri=uri),
        lambda: select(before, SelectRequest(manifest_uri=uri)),
        lambda: unite([before], manifest_uri=uri),
        lambda: join([before], manifest_uri=uri),
    ]
    for action in actions:
        with pytest.raises(ManifestError, match=f"{uri}/manifest.json .* a directory of its own as manifest_uri, or"):
            action()
    assert gcs_server.requests().operations == {}
    assert kind == "file above" or sorted(os.listdir(tmp_path)) in ([], ["manifest.json"])


@pytest.mark.parametrize(("scheme", "told"), [("shelf", "Install shelf-fs to access shelves"), ("none", "not known")])
def test_a_scheme_whose_package_is_not_installed_is_told_before_anything_is_listed(
    gcs_server: GCSServer, store: Store, monkeypatch: pytest.MonkeyPatch, scheme: str, told: str
) -> None:
    shelf = {"class": "no_such_package.ShelfFileSystem", "err": "Install shelf-fs to access shelves"}
    monkeypatch.setitem(known_implementations, "shelf", shelf)
    gcs_server.forget_requests()
    with pytest.raises(InvalidRequestError, match=f"{told}.*on every worker, or use gs:// or file://"):
        listed(gcs_server, manifest_uri=f"{scheme}://place/of/manifests")
    assert gcs_server.requests().operations == {}


@pytest.mark.parametrize("found", [b"", b'{"form', b'{"format":"dataflux-manifest/9","more":1}'])
def test_an_index_that_was_cut_short_or_is_newer_is_replaced(gcs_server: GCSServer, store: Store, found: bytes) -> None:
    gcs_server.put("manifests", "daily/manifest.json", found)
    publish_rows(URI, [numbered(10)], files=ManifestFiles(store))
    assert len(list(Manifest.open(URI, store=store))) == 10


def test_where_permissions_cannot_be_asked_for_writing_tells(gcs_server: GCSServer, store: Store) -> None:
    for status in (403, 404, 405, 501):
        fault = gcs_server.fail("status", operation="permissions", status=status)
        ManifestFiles(store).check_writable(URI)
        assert gcs_server.faults()[fault].hits == 1
        gcs_server.stop_failing(fault)
    assert gcs_server.names("manifests") == []
