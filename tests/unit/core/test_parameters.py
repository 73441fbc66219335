"""What DAG authors and templates write, and what the core gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core import parameters
from airflow_dataflux.core.config import ListRequest, PackRequest, StageRequest
from airflow_dataflux.core.errors import InvalidRequestError

REFERENCE = {"format": "dataflux-manifest/1", "uri": None, "objects": [], "bucket": "b", "stats": {"steals": 0}}


@pytest.mark.parametrize("absent", [None, "", "None", " "])
def test_an_empty_or_rendered_none_is_absent(absent: str | None) -> None:
    assert parameters.optional_text(absent, "p") is None
    assert parameters.optional_count(absent, "p") is None
    assert parameters.optional_time(absent, "p") is None
    assert parameters.storage_classes(absent) is None
    assert parameters.reference(absent, "p") is None
    with pytest.raises(InvalidRequestError, match="destination is empty"):
        parameters.required_text(absent, "destination")


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_a_number_is_the_same_after_rendering(number: int) -> None:
    assert parameters.optional_count(str(number), "p") == parameters.optional_count(number, "p") == number


@pytest.mark.parametrize("written", ["5.0", 5.0, " 5 "])
def test_a_whole_number_may_come_out_of_a_division(written: object) -> None:
    assert parameters.optional_count(written, "p") == 5


@pytest.mark.parametrize("wrong", ["ten", "-1", "1.5", "1e3", 1.5, True, [1], "10MB", "[1]"])
def test_what_is_no_whole_number_is_refused_with_the_parameters_name(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="shards"):
        parameters.positive_count(wrong, "shards")


@pytest.mark.parametrize(
    "large", [2**63, str(2**63), 1e300, "9" * 5000, 10**5000], ids=["int", "text", "float", "long text", "long int"]
)
def test_a_number_that_no_size_can_be_is_refused_with_the_parameters_name(large: object) -> None:
    with pytest.raises(InvalidRequestError, match="min_bytes must be at most 9223372036854775807"):
        parameters.optional_count(large, "min_bytes")


@pytest.mark.parametrize("long", [10**15, "999999999 days, 0:00:00", "9999999999 days, 0:00:00", timedelta.max])
def test_a_duration_that_reaches_back_before_all_dates_is_refused(long: object) -> None:
    with pytest.raises(InvalidRequestError, match="older_than must be at most 365000 days"):
        parameters.duration(long, "older_than")


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_that_is_in_no_year_of_utc_is_refused(time: str) -> None:
    with pytest.raises(InvalidRequestError, match="updated_after is not in the years 1 to 9999"):
        parameters.optional_time(time, "updated_after")


@pytest.mark.parametrize("text", ["a\ud800", "\udcff"])
def test_a_text_that_utf_8_cannot_express_is_refused(text: str) -> None:
    for read in (parameters.optional_text, parameters.texts, parameters.storage_classes):
        for written in (text, [text]) if read is not parameters.optional_text else (text,):
            with pytest.raises(InvalidRequestError, match="p holds half of a surrogate pair"):
                read(written, "p")


def test_zero_is_not_positive() -> None:
    with pytest.raises(InvalidRequestError, match="workers must be 1 or more, got 0"):
        parameters.positive_count(0, "workers")


@pytest.mark.parametrize(
    ("written", "meant"), [(True, True), ("True", True), ("false", False), ("0", False), (1, True)]
)
def test_a_truth_value_is_the_same_after_rendering(written: object, meant: bool) -> None:
    assert parameters.flag(written, "dry_run") is meant


def test_what_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="dry_run must be true or false, got 'maybe'"):
        parameters.flag("maybe", "dry_run")


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_a_time_is_the_same_after_rendering(moment: datetime) -> None:
    # pendulum prints a time as str() does, ISO 8601 with a space or a T.
    try:
        expected = moment.astimezone(UTC)
    except OverflowError:
        return
    for text in (str(moment), moment.isoformat()):
        assert parameters.optional_time(text, "p") == expected


def test_a_bare_date_is_the_begin_of_that_day_in_utc() -> None:
    for day in ("2026-03-01", "20260301", 20260301, date(2026, 3, 1)):
        assert parameters.optional_time(day, "p") == datetime(2026, 3, 1, tzinfo=UTC)


def test_a_time_becomes_the_standard_librarys_whatever_class_it_had() -> None:
    class Elsewhere(datetime):
        pass

    moment = parameters.optional_time(Elsewhere(2026, 3, 1, 12, tzinfo=UTC), "p")
    assert type(moment) is datetime
    assert moment == datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("wrong", ["yesterday", "2026-03-01T10:00:00", datetime(2026, 3, 1), 1234, ["2026-03-01"]])  # noqa: DTZ001
def test_a_time_without_a_zone_or_a_meaning_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="updated_after"):
        parameters.optional_time(wrong, "updated_after")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", ("",)),
        (None, ("",)),
        ("None", ("",)),
        ("a/", ("a/",)),
        (["a/", "b/"], ("a/", "b/")),
        ("['a/', 'b/']", ("a/", "b/")),
        ('["a/", "b/"]', ("a/", "b/")),
        ("('a/', 'b/')", ("a/", "b/")),
        ("[2025, 2026]", ("2025", "2026")),
        (20260131, ("20260131",)),
        ("20260131", ("20260131",)),
        ("[a]", ("[a]",)),
        ("(1) of", ("(1) of",)),
        ("(1)", ("(1)",)),
        (["['a']", "None"], ("['a']", "None")),
        ([], ()),
    ],
)
def test_prefixes_are_one_text_or_several(written: object, meant: tuple[str, ...]) -> None:
    assert parameters.prefixes(written) == meant


@pytest.mark.parametrize("wrong", [5.5, True, {"a": 1}, "{'a': 1}", ["a", None], "['a', True]", b"a"])
def test_other_prefixes_are_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="prefix must be text or a list of texts"):
        parameters.prefixes(wrong)


@pytest.mark.parametrize(
    "written",
    ["standard, nearline", ["STANDARD", "NEARLINE"], ("Standard", " nearline"), "['STANDARD', 'nearline']"],
)
def test_storage_classes_are_a_list_or_one_text(written: object) -> None:
    assert parameters.storage_classes(written) == {"STANDARD", "NEARLINE"}


@pytest.mark.parametrize("wrong", [["STANDARD", ""], [1], {"STANDARD": 1}, 7])
def test_other_storage_classes_are_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="storage_classes"):
        parameters.storage_classes(wrong)


@pytest.mark.parametrize("absent", [None, "", "None", " ", [], ()])
def test_no_impersonation_is_absent(absent: object) -> None:
    assert parameters.impersonation_chain(absent) is None


@pytest.mark.parametrize("written", ["a@p", " a@p ", ["a@p"], "['a@p']", '["a@p"]'])
def test_one_service_account_is_one_text(written: object) -> None:
    assert parameters.impersonation_chain(written) == "a@p"


@pytest.mark.parametrize("written", ["a@p,b@p", ("a@p", " b@p"), "['a@p', 'b@p']", '["a@p", "b@p"]'])
def test_a_chain_of_service_accounts_survives_being_rendered(written: object) -> None:
    assert parameters.impersonation_chain(written) == ["a@p", "b@p"]


@pytest.mark.parametrize("wrong", [5, {"a": 1}, ["a@p", 1], "a@p,,b@p", "[a", b"a", [""]])
def test_another_chain_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="impersonation_chain"):
        parameters.impersonation_chain(wrong)


@pytest.mark.parametrize("rendered", [REFERENCE, str(REFERENCE), json.dumps(REFERENCE), f"  {REFERENCE}\n"])
def test_a_reference_survives_being_rendered_to_text(rendered: object) -> None:
    assert parameters.reference(rendered, "manifest") == REFERENCE


def test_a_text_that_is_no_dictionary_is_a_uri() -> None:
    assert parameters.reference(" gs://b/manifests/1 ", "manifest") == "gs://b/manifests/1"


def test_a_list_of_references_is_refused_with_the_way_to_map_over_it() -> None:
    with pytest.raises(InvalidRequestError, match=r"\.expand\(manifest=lister\.output\)"):
        parameters.reference([REFERENCE, REFERENCE], "manifest")


@pytest.mark.parametrize("wrong", ["{broken", "{1, 2}", 5])
def test_what_is_no_reference_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="manifest"):
        parameters.reference(wrong, "manifest")


@pytest.mark.parametrize("written", [timedelta(hours=2), 7200, "7200", "7200.0", "2:00:00"])
def test_a_duration_is_a_timedelta_or_seconds(written: object) -> None:
    assert parameters.duration(written, "older_than") == timedelta(hours=2)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1000)))
def test_a_duration_is_the_same_after_rendering(written: timedelta) -> None:
    assert parameters.duration(str(written), "older_than") == written


@pytest.mark.parametrize("wrong", [["a"], "['a']", {"a": 1}, '{"a": 1}', True, 1.5, "('a', 'b')"])
def test_one_text_is_no_list_and_no_truth_value(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="match_glob must be one text"):
        parameters.optional_text(wrong, "match_glob")


def test_a_choice_is_one_of_its_words_and_the_first_if_nothing_was_given() -> None:
    words = ("continue", "skip")
    assert [parameters.one_of(each, "p", words) for each in (None, "None", "", "skip", " skip\n")] == [
        *["continue"] * 3,
        *["skip"] * 2,
    ]
    with pytest.raises(InvalidRequestError, match="on_empty must be one of 'continue', 'skip', got 'Skip'"):
        parameters.one_of("Skip", "on_empty", words)


@pytest.mark.parametrize(
    ("written", "meant"),
    [(True, True), ("False", False), ("even_if_empty", "even_if_empty"), (" even_if_empty ", "even_if_empty")],
)
def test_delete_extraneous_is_a_truth_value_or_even_if_empty(written: object, meant: object) -> None:
    assert parameters.deletion(written, "delete_extraneous") == meant


def test_delete_extraneous_takes_no_other_word() -> None:
    with pytest.raises(InvalidRequestError, match="even_if_empty"):
        parameters.deletion("if_empty", "delete_extraneous")


@pytest.mark.parametrize(
    ("request_type", "values"),
    [
        (ListRequest, {"bucket": "photos"}),
        (StageRequest, {"destination": "/data/set"}),
        (PackRequest, {"output": "/data/pack"}),
    ],
)
def test_what_is_no_identity_is_refused_by_the_request(
    request_type: Callable[..., object], values: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequestError, match="identity must be a RunIdentity"):
        request_type(**values, identity={"dag": "photos"})
