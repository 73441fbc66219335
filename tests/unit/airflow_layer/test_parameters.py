"""What DAG authors and templates write, and what the core gets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.hooks import parameters

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


@given(st.integers(min_value=0))
def test_a_number_is_the_same_after_rendering(number: int) -> None:
    assert parameters.optional_count(str(number), "p") == parameters.optional_count(number, "p") == number


@pytest.mark.parametrize("wrong", ["ten", "-1", "1.5", "1e3", 1.5, True, [1], "10MB"])
def test_what_is_no_whole_number_is_refused_with_the_parameters_name(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="shards"):
        parameters.positive_count(wrong, "shards")


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
    assert parameters.optional_time("2026-03-01", "p") == datetime(2026, 3, 1, tzinfo=UTC)


def test_a_time_becomes_the_standard_librarys_whatever_class_it_had() -> None:
    class Elsewhere(datetime):
        pass

    moment = parameters.optional_time(Elsewhere(2026, 3, 1, 12, tzinfo=UTC), "p")
    assert type(moment) is datetime
    assert moment == datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("wrong", ["yesterday", "2026-03-01T10:00:00", datetime(2026, 3, 1), 1234])  # noqa: DTZ001
def test_a_time_without_a_zone_or_a_meaning_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="updated_after"):
        parameters.optional_time(wrong, "updated_after")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("", ("",)), (None, ("",)), ("a/", ("a/",)), (["a/", "b/"], ("a/", "b/")), ("[a]", ("[a]",)), ([], ())],
)
def test_prefixes_are_one_text_or_several(written: object, meant: tuple[str, ...]) -> None:
    assert parameters.prefixes(written) == meant


@pytest.mark.parametrize("wrong", [5, {"a": 1}, ["a", 1], b"a"])
def test_other_prefixes_are_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="prefix must be text or a list of texts"):
        parameters.prefixes(wrong)


@pytest.mark.parametrize("written", ["standard, nearline", ["STANDARD", "NEARLINE"], ("Standard", " nearline")])
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


@pytest.mark.parametrize("written", [timedelta(hours=2), 7200, "7200"])
def test_a_duration_is_a_timedelta_or_seconds(written: object) -> None:
    assert parameters.duration(written, "older_than") == timedelta(hours=2)
