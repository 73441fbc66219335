"""What every Store does, whatever answers it: memory, the embedded server, or real Cloud Storage (conftest.py)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import google_crc32c
import pytest

from airflow_dataflux.core.arrow import ROW_SCHEMA
from airflow_dataflux.core.errors import (
    BucketNotFoundError,
    InvalidRequestError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StoreError,
)
from airflow_dataflux.core.gcs.store import MAX_COMPONENTS, ObjectVersion, PageRequest

NAMES_FROM_HELL = [
    "plain",
    "a/b/c.txt",
    "..",
    "a/../b",
    "/leading",
    "trailing/",
    "double//slash",
    "quest?ion",
    "hash#tag",
    "per%cent",
    "per%2Fcent",
    "plus+and space",
    "star*",
    "colon:and;semicolon",
    "amp&equals=",
    "quote\"and'",
    "back\\slash",
    "tab\tand\x01control",
    "Umlaut-\u00fc",
    "Umlaut-u\u0308",
    "\u8a13\u7df4",
    "\uffee-below-the-astral-in-bytes",
    "\U0001f600-beyond-the-bmp",
    "x" * 900,
]


def version(stored) -> ObjectVersion:
    return ObjectVersion(name=stored.row.name, generation=stored.row.generation)


def content(place, pinned, **bounds) -> bytes:
    with place.store.read(place.bucket, pinned, **bounds) as body:
        return b"".join(body.chunks())


class TestListing:
    def test_start_is_inclusive_and_end_is_exclusive(self, place):
        for name in "abcd":
            place.put(name)
        assert place.names(start=place.prefix + "b", end=place.prefix + "d") == ["b", "c"]

    def test_names_come_in_the_order_of_their_utf8_bytes(self, place):
        for name in ["\U0001f600", "\uffee", "z", "Z", "a", "a/b", "a!"]:
            place.put(name)
        listed = place.names()
        assert listed == sorted(listed, key=lambda name: name.encode())
        assert listed.index("\uffee") < listed.index("\U0001f600")

    def test_pages_follow_one_another_without_gap_or_overlap(self, place):
        for number in range(7):
            place.put(f"n{number}")
        seen, token, pages = [], None, 0
        while True:
            page = place.store.list_page(
                place.bucket, PageRequest(prefix=place.prefix, max_results=3, page_token=token)
            )
            seen += page.rows.column("name").to_pylist()
            pages += 1
            token = page.next_page_token
            if token is None:
                break
        assert seen == [f"{place.prefix}n{number}" for number in range(7)]
        assert pages >= 3

    def test_nothing_to_list_is_an_empty_page_in_the_schema(self, place):
        page = place.store.list_page(place.bucket, PageRequest(prefix=place.prefix))
        assert page.rows.num_rows == 0
        assert page.rows.schema == ROW_SCHEMA
        assert page.next_page_token is None

    def test_a_glob_is_evaluated_by_the_server(self, place):
        for name in ["a.jpg", "b.png", "deep/c.jpg"]:
            place.put(name)
        assert place.names(match_glob=place.prefix + "**.jpg") == ["a.jpg", "deep/c.jpg"]

    def test_a_delimiter_names_the_directories_below_the_prefix(self, place):
        for name in ["a", "b/1", "b/2", "c/d/1", "é/1", "z"]:
            place.put(name)

        def directories(**request):
            page = place.store.list_page(place.bucket, PageRequest(prefix=place.prefix, delimiter="/", **request))
            return [name.removeprefix(place.prefix) for name in page.directories], page.next_page_token is not None

        assert directories() == (["b/", "c/", "é/"], False)
        assert directories(start=place.prefix + "b0", end=place.prefix + "z") == (["c/"], False)
        assert directories(max_results=2)[1]

    def test_a_listed_row_is_what_stat_says(self, place):
        place.put("one", b"hello")
        page = place.store.list_page(place.bucket, PageRequest(prefix=place.prefix))
        (listed,) = page.rows.to_pylist()
        row = place.store.stat(place.bucket, place.prefix + "one").row
        assert listed == {field: getattr(row, field) for field in ROW_SCHEMA.names}
        assert row.size == 5
        assert row.crc32c == google_crc32c.value(b"hello")
        assert row.content_type == "text/plain"
        assert row.content_encoding is None
        assert abs(datetime.now(UTC) - row.updated) < timedelta(minutes=10)

    def test_a_bucket_that_is_not_there_is_named(self, place):
        missing = f"{place.bucket}-that-is-not-there"
        with pytest.raises(BucketNotFoundError, match=f"gs://{missing}") as caught:
            place.store.list_page(missing, PageRequest())
        assert caught.value.status == 404

    @pytest.mark.parametrize("name", NAMES_FROM_HELL)
    def test_any_legal_name_is_written_listed_read_and_deleted(self, place, name):
        stored = place.put(name, b"odd")
        assert stored.row.name == place.prefix + name
        assert place.names() == [name]
        assert place.names(start=place.prefix + name) == [name]
        assert content(place, version(stored)) == b"odd"
        place.store.delete(place.bucket, version(stored))
        assert place.names() == []

    def test_half_a_surrogate_pair_is_refused_before_it_is_sent(self, place):
        with pytest.raises(InvalidRequestError, match="surrogate"):
            place.store.stat(place.bucket, "half-\ud83d")


class TestReading:
    def test_a_whole_object_comes_with_its_length_and_hash(self, place):
        data = bytes(range(256)) * 40
        pinned = version(place.put("whole", data))
        with place.store.read(place.bucket, pinned) as body:
            assert body.length == len(data)
            assert body.crc32c == google_crc32c.value(data)
            assert b"".join(body.chunks(1000)) == data

    @pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 10), (3, 7), (9, 10), (4, None), (0, None)])
    def test_a_range_is_half_open_and_carries_the_hash_of_the_whole(self, place, start, end):
        data = b"0123456789"
        pinned = version(place.put("ranged", data))
        with place.store.read(place.bucket, pinned, start=start, end=end) as body:
            assert body.crc32c == google_crc32c.value(data)
            assert body.length == len(data[start:end])
            assert b"".join(body.chunks()) == data[start:end]

    def test_a_range_of_nothing_sends_no_request(self, place):
        pinned = version(place.put("some"))
        before = place.store.counts()
        assert content(place, pinned, start=3, end=3) == b""
        assert place.store.counts() == before

    def test_an_empty_object_has_an_empty_body(self, place):
        assert content(place, version(place.put("empty", b""))) == b""

    def test_a_buffer_is_filled_from_its_front_and_zero_means_the_end(self, place):
        pinned = version(place.put("buffered", b"abcdefgh"))
        buffer, read = memoryview(bytearray(5)), b""
        with place.store.read(place.bucket, pinned) as body:
            while count := body.readinto(buffer):
                read += bytes(buffer[:count])
            assert body.readinto(buffer) == 0
        assert read == b"abcdefgh"

    def test_a_body_may_be_left_before_its_end_and_the_store_goes_on(self, place):
        pinned = version(place.put("large", b"x" * 3_000_000))
        with place.store.read(place.bucket, pinned) as body:
            assert body.readinto(memoryview(bytearray(10))) > 0
        assert len(content(place, pinned)) == 3_000_000

    def test_a_generation_that_is_gone_is_named(self, place):
        old = version(place.put("pinned", b"old"))
        place.put("pinned", b"new")
        with (
            pytest.raises(ObjectNotFoundError, match=f"{old.name}#{old.generation}"),
            place.store.read(place.bucket, old),
        ):
            pass

    def test_a_range_backwards_is_refused(self, place):
        with (
            pytest.raises(InvalidRequestError),
            place.store.read(place.bucket, ObjectVersion(name="x", generation=1), start=2, end=1),
        ):
            pass


class TestComposing:
    def compose(self, place, name, sources, metadata=None):
        return place.store.compose(
            place.bucket, place.prefix + name, sources, metadata=metadata or {"run": "1"}, storage_class="STANDARD"
        )

    def test_sources_are_concatenated_in_their_order(self, place):
        sources = [version(place.put(f"s{number}", str(number).encode() * 3)) for number in range(4)]
        made = self.compose(place, "all", [sources[2], sources[0], sources[3]])
        assert content(place, version(made)) == b"222000333"
        assert made.row.crc32c == google_crc32c.value(b"222000333")
        assert dict(made.metadata) == {"run": "1"}
        assert dict(place.store.stat(place.bucket, made.row.name).metadata) == {"run": "1"}

    def test_the_most_sources_are_accepted_and_one_more_is_refused(self, place):
        source = version(place.put("s", b"ab"))
        assert self.compose(place, "most", [source] * MAX_COMPONENTS).row.size == 2 * MAX_COMPONENTS
        with pytest.raises(InvalidRequestError, match="33"):
            self.compose(place, "more", [source] * (MAX_COMPONENTS + 1))

    def test_an_object_that_is_in_place_is_never_replaced_even_with_the_same_metadata(self, place):
        source = version(place.put("s"))
        self.compose(place, "made", [source])
        with pytest.raises(PreconditionFailedError):
            self.compose(place, "made", [source])

    def test_a_source_that_changed_is_an_error(self, place):
        old = version(place.put("s", b"old"))
        place.put("s", b"new")
        with pytest.raises((ObjectNotFoundError, PreconditionFailedError)):
            self.compose(place, "made", [old])
        with pytest.raises(ObjectNotFoundError):
            place.store.stat(place.bucket, place.prefix + "made")


class TestWritingAndDeleting:
    def test_an_upload_replaces(self, place):
        first, second = place.put("o", b"1"), place.put("o", b"22")
        assert second.row.generation != first.row.generation
        assert content(place, version(second)) == b"22"

    def test_a_precondition_protects_what_is_there(self, place):
        first = place.put("o", b"1")
        upload = {"content_type": "text/plain"}
        with pytest.raises(PreconditionFailedError, match="gs://"):
            place.store.upload(place.bucket, first.row.name, b"2", **upload, if_generation_match=0)
        replaced = place.store.upload(
            place.bucket, first.row.name, b"2", **upload, if_generation_match=first.row.generation
        )
        assert content(place, version(replaced)) == b"2"

    def test_a_deleted_object_is_gone_and_may_be_deleted_again(self, place):
        pinned = version(place.put("o"))
        place.store.delete(place.bucket, pinned)
        place.store.delete(place.bucket, pinned)
        with pytest.raises(ObjectNotFoundError):
            place.store.stat(place.bucket, pinned.name)

    def test_deleting_an_old_generation_spares_the_new_one(self, place):
        old = version(place.put("o", b"old"))
        new = version(place.put("o", b"new"))
        place.store.delete(place.bucket, old)
        assert place.store.delete_many(place.bucket, [old]) == []
        assert content(place, new) == b"new"

    def test_many_are_deleted_in_batches_and_what_is_gone_is_no_failure(self, place):
        pinned = [version(place.put(f"o{number:03d}/\u00fc ?#")) for number in range(120)]
        place.store.delete(place.bucket, pinned[5])
        assert place.store.delete_many(place.bucket, pinned) == []
        assert place.names() == []

    def test_deleting_nothing_sends_nothing(self, place):
        before = place.store.counts()
        assert place.store.delete_many(place.bucket, []) == []
        assert place.store.counts() == before

    def test_metadata_of_what_is_not_there_is_an_error_that_names_it(self, place):
        with pytest.raises(ObjectNotFoundError, match="nothing-here") as caught:
            place.store.stat(place.bucket, place.prefix + "nothing-here")
        assert (caught.value.status, caught.value.retryable) == (404, False)


class TestStreams:
    def begin(self, place, name, if_generation_match=0):
        return place.store.begin_upload(
            place.bucket,
            place.prefix + name,
            content_type="application/x-tar",
            metadata={"made": "by a test"},
            if_generation_match=if_generation_match,
        )

    def test_an_object_appears_when_its_stream_is_finished_and_not_before(self, place):
        data = bytes(range(256)) * 5000
        upload = self.begin(place, "streamed")
        for start in range(0, len(data), 300_000):
            upload.append(data[start : start + 300_000])
        assert place.names() == []
        made = upload.finish(google_crc32c.value(data))
        assert (made.row.size, made.row.content_type, made.metadata["made"]) == (
            len(data),
            "application/x-tar",
            "by a test",
        )
        assert content(place, version(made)) == data

    def test_a_stream_that_is_abandoned_leaves_nothing(self, place):
        upload = self.begin(place, "abandoned")
        upload.append(b"half of it")
        upload.abandon()
        assert place.names() == []

    def test_a_stream_whose_checksum_is_another_makes_no_object(self, place):
        upload = self.begin(place, "wrong")
        upload.append(b"these bytes")
        with pytest.raises(StoreError):
            upload.finish(google_crc32c.value(b"other bytes"))
        assert place.names() == []

    def test_a_stream_does_not_replace_what_came_meanwhile(self, place):
        upload = self.begin(place, "raced")
        upload.append(b"late")
        first = place.put("raced", b"first")
        with pytest.raises(PreconditionFailedError):
            upload.finish(google_crc32c.value(b"late"))
        assert content(place, version(first)) == b"first"


class TestBuckets:
    def test_settings_are_read(self, place):
        info = place.store.bucket_info(place.bucket)
        assert info.name == place.bucket
        assert info.storage_class

    def test_permissions_that_do_not_exist_are_refused_or_left_out(self, place):
        held = place.store.test_permissions(place.bucket, ["storage.objects.get", "storage.objects.list"])
        assert held <= {"storage.objects.get", "storage.objects.list"}
        assert held

    def test_settings_of_a_missing_bucket_are_an_error(self, place):
        with pytest.raises((BucketNotFoundError, StoreError)):
            place.store.bucket_info(f"{place.bucket}-that-is-not-there")

    def test_requests_are_counted_by_what_they_cost(self, place):
        before = place.store.counts()
        pinned = version(place.put("o"))  # class A
        place.names()  # class A
        content(place, pinned)  # class B
        place.store.stat(place.bucket, pinned.name)  # class B
        place.store.delete_many(place.bucket, [pinned])  # free
        after = place.store.counts()
        assert (
            after.class_a - before.class_a,
            after.class_b - before.class_b,
            after.free - before.free,
            after.retries - before.retries,
        ) == (2, 2, 1, 0)
