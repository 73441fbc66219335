"""What the service is asked about directories, and what its answers are worth."""

from __future__ import annotations

import pyarrow as pa
import pytest

from airflow_dataflux.core.arrow import ROW_SCHEMA
from airflow_dataflux.core.errors import StoreError
from airflow_dataflux.core.gcs.store import Page, PageRequest
from airflow_dataflux.core.listing.known_names import KnownNames
from airflow_dataflux.core.listing.messages import Probe, Probed
from airflow_dataflux.core.listing.probing import (
    Question,
    bounds_above,
    bounds_doubling,
    directory_questions,
    tail_questions,
)
from airflow_dataflux.core.listing.splitting import Outlook
from airflow_dataflux.core.listing.stream import answer_probe
from airflow_dataflux.core.namerange import NameRange


def test_each_directory_is_asked_for_what_follows_the_part_of_it_that_is_being_listed() -> None:
    asked = list(directory_questions("data/train/cat/7.jpg", None, "", unlisted=False))
    assert asked == [
        Question(NameRange("data0", None), "", directories=True),
        Question(NameRange("data/train0", "data0"), "data/", directories=True),
        Question(NameRange("data/train/cat0", "data/train0"), "data/train/", directories=True),
    ]


def test_directories_above_what_the_range_shares_are_not_asked_for() -> None:
    asked = list(directory_questions("data/train/cat/7.jpg", "data/train/dog/", "data/", unlisted=False))
    assert asked == [Question(NameRange("data/train/cat0", "data/train/dog/"), "data/train/", directories=True)]


def test_a_directory_that_is_not_listed_yet_is_asked_for_all_that_it_holds() -> None:
    (asked,) = directory_questions("data/val/", "data/val0", "", unlisted=True)
    assert asked == Question(NameRange("data/val/", "data/val0"), "data/val/", directories=True)


def test_bounds_above_a_character_go_twice_as_far_each_time_and_stay_in_its_range_and_out_of_surrogates() -> None:
    assert bounds_doubling("a/x", 2, "a0") == ["a/y", "a/z", "a/|"]  # and no further in ASCII
    assert bounds_doubling("a/x", 2, "a/z") == ["a/y"]
    bounds = bounds_doubling("写真/あ", 3, "写真0")
    assert bounds[:4] == ["写真/ぃ", "写真/い", "写真/う", "写真/お"]
    assert bounds == sorted(bounds)
    assert all(bound < "\ud800" or bound > "\udfff" for bound in bounds_doubling("\ud000", 0, None))
    assert bounds_doubling("a/", 2, None) == []


def test_kinds_of_characters_are_known_in_ascii_only() -> None:
    assert bounds_above("IMG_0001.jpg", 4, None) == ["IMG_:"]
    assert bounds_above("データ", 0, None) == bounds_doubling("データ", 0, None)


@pytest.mark.parametrize(
    "letters", ["abcdefghij", "абвгдежзик", "あいうえおかきくけこ", "一二三四五六七八九十", "가나다라마바사아자차"]
)
def test_where_one_answer_names_too_few_directories_a_few_rows_show_how_far_they_reach(letters: str) -> None:
    parent = f"photos/{letters[0]}/"
    names = sorted(f"{parent}{a}{b}{c}{d}/" for a in letters for b in letters for c in letters for d in letters)
    questions = tail_questions(parent, names[:1000], None)
    assert len(questions) <= 40
    assert all(question.parent == parent and not question.directories for question in questions)
    found = {next((name for name in names if name >= question.names.start), None) for question in questions}
    begun = {name[len(parent)] for name in found if name is not None}
    assert len(begun) >= 4
    assert max(begun) >= sorted(letters)[6]


def test_directories_that_one_answer_does_not_name_are_divided_by_the_model_and_the_named_ones_as_they_are() -> None:
    known = KnownNames()
    found = [f"user_{number:05}/" for number in range(100, 1000)]
    known.saw_directories("", NameRange("user_00100", None), found, more=True)
    outlook = Outlook.of(known, "", "user_00099/7.jpg", None, lambda directory: 1.0)
    points = outlook.points(15, known)
    assert set(points) & set(found)
    assert points[-1] > "user_01"


def test_known_directories_are_where_they_were_asked_for_and_no_further() -> None:
    known = KnownNames()
    known.saw_directories("", NameRange("a", None), ["b/", "c/"], more=True)
    assert known.level("").known_until("a", None) == "c/"
    known.saw_directories("", NameRange("c/", None), ["c/", "d/"], more=False)
    assert known.level("").known_until("c/", None) is None
    assert known.level("").between("b/", None) == ["c/", "d/"]


@pytest.mark.parametrize(("alone", "end"), [(True, "test0"), (False, "train/")])
def test_nothing_is_looked_for_between_directories_unless_objects_may_be_there(alone: bool, end: str) -> None:
    known = KnownNames()
    known.saw_directories("", NameRange("test0", None), ["train/", "validation/"], more=False, alone=alone)
    assert known.bounds("test/5.jpg", "train/") == ("test/5.jpg", end)
    assert known.bounds("test/5.jpg", "validation/") == ("test/5.jpg", "validation/")
    assert all(point < end for point in known.split("test/5.jpg", "train/", 10))


def test_what_is_behind_the_last_directory_of_a_tree_is_empty_only_if_every_level_says_so() -> None:
    known = KnownNames()
    known.saw_directories("a/", NameRange("a/x/", "a0"), ["a/x/"], more=False, alone=True)
    assert known.bounds("a/x/5", None) == ("a/x/5", None)
    known.saw_directories("", NameRange("a0", None), [], more=False, alone=True)
    assert known.bounds("a/x/5", None) == ("a/x/5", "a/x0")


def test_directories_that_were_passed_tell_how_large_the_others_are() -> None:
    known = KnownNames()
    hours = [f"day/{hour:02}/" for hour in range(24)]
    known.saw_directories("day/", NameRange("day/", "day0"), hours, more=False)
    outlook = Outlook.of(known, "day/00/a", "day/11/z", "day0", lambda directory: 1.0 if directory == "day/" else 0.0)
    assert 0.5 < outlook.pages < 2


class Answering:
    """A store that answers every page alike, and remembers what it was asked."""

    def __init__(self, answer: Page | StoreError) -> None:
        self.answer = answer
        self.requests: list[PageRequest] = []

    def list_page(self, bucket: str, request: PageRequest) -> Page:
        self.requests.append(request)
        if isinstance(self.answer, StoreError):
            raise self.answer
        return self.answer


def test_a_probe_for_directories_is_one_request_with_a_delimiter() -> None:
    rows = pa.RecordBatch.from_pylist([], schema=ROW_SCHEMA)
    store = Answering(Page(rows=rows, next_page_token="x", directories=("a/b/", "a/c/")))
    probe = Probe(1, NameRange("a/b", "a0"), "a/", directories=True)
    answer = answer_probe(probe, store, "bucket")  # type: ignore[arg-type]
    assert answer == Probed(1, ("a/b/", "a/c/"), more=True, only_directories=True)
    assert store.requests == [PageRequest(prefix="a/", start="a/b", delimiter="/")]


def test_an_answer_about_directories_tells_whether_objects_are_beside_them() -> None:
    row = {"name": "a/b.txt", "size": 1, "generation": 1, "metageneration": 1, "storage_class": "STANDARD"}
    rows = pa.RecordBatch.from_pylist([{**dict.fromkeys(ROW_SCHEMA.names), **row}], schema=ROW_SCHEMA)
    store = Answering(Page(rows=rows, next_page_token=None, directories=("a/c/",)))
    answer = answer_probe(Probe(1, NameRange("a/b", "a0"), "a/", directories=True), store, "bucket")  # type: ignore[arg-type]
    assert answer == Probed(1, ("a/c/",), more=False, only_directories=False)


@pytest.mark.parametrize("status", [400, 403, 501])
def test_a_service_that_knows_no_delimiter_is_listed_without(status: int) -> None:
    refused = StoreError("no", operation="list", resource="gs://b/", status=status, reason="")
    answer = answer_probe(Probe(1, NameRange("", None), "", directories=True), Answering(refused), "b")  # type: ignore[arg-type]
    assert answer == Probed(1, (), more=True)


def test_what_fails_for_good_is_not_taken_for_a_missing_delimiter() -> None:
    failed = StoreError("no", operation="list", resource="gs://b/", status=404, reason="")
    with pytest.raises(StoreError):
        answer_probe(Probe(1, NameRange("", None), "", directories=True), Answering(failed), "b")  # type: ignore[arg-type]
