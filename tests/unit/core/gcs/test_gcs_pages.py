"""Pages: the request's URL, and JSON to rows."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from datetime import UTC, datetime
from operator import itemgetter
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core.arrow import ROW_SCHEMA
from airflow_dataflux.core.gcs.operations import page_target
from airflow_dataflux.core.gcs.pages import check_token, decode_page
from airflow_dataflux.core.gcs.store import PageRequest

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1, max_size=40)
TEXTS = st.none() | st.sampled_from(["STANDARD", "image/jpeg", "", "texte/\u00fc"])
TIMES = st.datetimes(min_value=datetime(2005, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
ROWS = st.fixed_dictionaries(
    {
        "name": NAMES,
        "size": st.integers(0, 5 << 40),
        "generation": st.integers(1, (1 << 63) - 1),
        "crc32c": st.none() | st.integers(0, (1 << 32) - 1),
        "storage_class": st.sampled_from(["STANDARD", "NEARLINE"]),
        "updated": TIMES,
        "content_type": TEXTS,
        "content_encoding": TEXTS,
    }
)


def as_item(row: dict) -> dict:
    item = {
        "name": row["name"],
        "size": str(row["size"]),
        "generation": str(row["generation"]),
        "crc32c": None if row["crc32c"] is None else base64.b64encode(row["crc32c"].to_bytes(4, "big")).decode(),
        "storageClass": row["storage_class"],
        "updated": row["updated"].isoformat().replace("+00:00", "Z"),
        "contentType": row["content_type"],
        "contentEncoding": row["content_encoding"],
    }
    return {name: value for name, value in item.items() if value is not None}


def page_of(items: list[dict], **rest: str) -> bytes:
    return json.dumps({"kind": "storage#objects", "items": items, **rest}).encode()


ITEM = as_item(
    {
        "name": "a", "size": 3, "generation": 7, "crc32c": 1, "storage_class": "STANDARD",
        "updated": datetime(2026, 9, 1, 12, 0, 0, 123000, tzinfo=UTC), "content_type": "text/plain",
        "content_encoding": None,
    }
)  # fmt: skip


@given(st.lists(ROWS, max_size=30, unique_by=itemgetter("name")), st.booleans())
def test_every_row_arrives_as_it_was_sent(rows, escaped):
    rows.sort(key=itemgetter("name"))
    body = json.dumps({"kind": "storage#objects", "items": list(map(as_item, rows))}, ensure_ascii=escaped).encode()
    page = decode_page(body)
    assert page.rows.schema == ROW_SCHEMA
    assert page.rows.to_pylist() == rows
    page.rows.validate(full=True)
    assert page.next_page_token is None


def test_an_empty_page_may_have_a_token():
    page = decode_page(b'{"kind":"storage#objects","nextPageToken":"more"}')
    assert (page.rows.num_rows, page.rows.schema, page.next_page_token) == (0, ROW_SCHEMA, "more")


def test_what_is_not_asked_for_is_ignored():
    assert decode_page(page_of([ITEM | {"etag": "x", "acl": [{}]}], etag="x")).rows.num_rows == 1


@pytest.mark.parametrize("with_crc32c", [0, 1, 2])
def test_objects_without_a_crc32c_have_null(with_crc32c):
    items = [ITEM | {"name": name} for name in "abc"]
    for item in items[with_crc32c:]:
        del item["crc32c"]
    assert decode_page(page_of(items)).rows.column("crc32c").to_pylist() == [1] * with_crc32c + [None] * (
        3 - with_crc32c
    )


@pytest.mark.parametrize("missing", ["name", "generation", "updated"])
def test_an_object_without_what_makes_a_row_is_an_error(missing):
    item = {name: value for name, value in ITEM.items() if name != missing}
    with pytest.raises(ValueError, match=missing):
        decode_page(page_of([item]))


def test_an_object_without_a_size_is_empty_because_some_servers_leave_out_what_is_zero():
    item = {name: value for name, value in ITEM.items() if name != "size"}
    assert decode_page(page_of([item, ITEM | {"name": "b"}])).rows.column("size").to_pylist() == [0, 3]


@pytest.mark.parametrize(
    "foreign",
    [
        {},
        {"message": "maintenance"},
        {"items": []},
        {"items": [ITEM]},
        {"nextPageToken": "more"},
        {"kind": "storage#buckets", "items": []},
        {"kind": "storage#object", **ITEM},
        {"kind": None},
        {"error": {"code": 503, "message": "backend"}},
    ],
)
def test_json_that_does_not_call_itself_a_page_is_an_error_and_never_an_empty_page(foreign):
    with pytest.raises(ValueError, match=r"kind|Invalid enum"):
        decode_page(json.dumps(foreign).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", "many"),
        ("size", str(1 << 63)),
        ("size", "-1"),
        ("generation", "-1"),
        ("name", "n" * 1025),
        ("contentType", "t" * 2049),
        ("storageClass", "S" * 100_000),
        ("generation", str(1 << 70)),
        ("crc32c", "AAAA"),
        ("crc32c", "AAAAAAAA"),
        ("crc32c", "!!!!!!=="),
        ("crc32c", "A==AAAAA"),
        ("crc32c", ""),
        ("updated", "yesterday"),
        ("updated", ""),
        ("updated", "2026-09-01T12:00:00.123Z\n2026-09-01T12:00:00.123Z"),
        ("name", 5),
    ],
)
def test_a_value_that_cannot_be_right_is_an_error(field, value):
    for items in ([ITEM | {field: value}], [ITEM, ITEM | {"name": "b", field: value}]):
        with pytest.raises(ValueError, match=r"."):
            decode_page(page_of(items))


@pytest.mark.parametrize("names", [("b", "a"), ("a", "a"), ("a", "c", "b"), ("\uffff", "\U0001f600", "z")])
def test_names_that_are_not_sorted_and_unique_are_no_answer(names):
    with pytest.raises(ValueError, match="not sorted and unique"):
        decode_page(page_of([ITEM | {"name": name} for name in names]))


def test_a_page_token_that_leads_to_itself_is_no_answer():
    page = decode_page(page_of([ITEM], nextPageToken="same"))
    check_token(page, None)
    check_token(page, "another")
    with pytest.raises(ValueError, match="never end"):
        check_token(page, "same")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b'{"items":[{"name"', b'{"items":[]}x', page_of([ITEM])[:-1], b"\xff"]
)
def test_what_is_not_a_page_is_an_error(body):
    with pytest.raises(ValueError, match=r"."):
        decode_page(body)


@pytest.mark.parametrize("half", [r"\ud83d", r"x\ud83dy", r"\udc00", r"a\udc00\ud83d"])
def test_half_a_surrogate_pair_is_an_error_and_never_a_wrong_name(half):
    body = page_of([ITEM]).replace(b'"name": "a"', b'"name": "' + half.encode() + b'"')
    with pytest.raises(ValueError, match=r"."):
        decode_page(body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-09-01T12:00:00Z", datetime(2026, 9, 1, 12, tzinfo=UTC)),
        ("2026-09-01T12:00:00.5Z", datetime(2026, 9, 1, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-09-01T12:00:00.123456789Z", datetime(2026, 9, 1, 12, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-09-01T14:00:00.000+02:00", datetime(2026, 9, 1, 12, tzinfo=UTC)),
    ],
)
def test_times_have_any_number_of_decimals_and_any_offset(text, expected):
    rows = decode_page(page_of([ITEM | {"updated": text}, ITEM | {"name": "b"}])).rows
    assert rows.column("updated").to_pylist()[0] == expected


def test_a_line_end_in_a_name_does_not_move_the_others():
    rows = decode_page(page_of([ITEM | {"name": "a\nb"}, ITEM | {"name": "c"}])).rows
    assert rows.column("name").to_pylist() == ["a\nb", "c"]


def test_names_with_a_line_end_and_an_empty_name_cannot_trade_places():
    rows = decode_page(page_of([ITEM | {"name": ""}, ITEM | {"name": "x"}])).rows
    assert rows.column("name").to_pylist() == ["", "x"]


@pytest.mark.parametrize(
    "names",
    [
        ("a1", "a2", "a3"),  # the same length, which is the quick way
        ("a1", "a2", "é3"),  # of characters, not of bytes
        ("é1", "é2", "é3"),
        ("a1", "a222", "a3", "a4"),  # of the first, the last and the middle one only
        ("a\n", "a1", "b\n"),
    ],
)
def test_names_of_the_same_length_are_told_apart(names):
    rows = decode_page(page_of([ITEM | {"name": name} for name in names])).rows
    assert rows.column("name").to_pylist() == list(names)


def test_pages_import_neither_pandas_nor_google_auth_nor_all_compute_functions():
    program = (
        "import sys; from airflow_dataflux.core.gcs.pages import decode_page; "
        f"decode_page({page_of([ITEM, ITEM | {'name': 'b', 'contentType': 'x/y'}])!r}); "
        "assert not {'pandas', 'google.auth', 'pyarrow.compute'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


class TestTarget:
    def parameters(self, target: str) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(target).query, strict_parsing=True).items()}

    def test_what_is_not_asked_for_is_not_sent(self):
        parameters = self.parameters(page_target("b", PageRequest(), None))
        assert parameters == {
            "projection": "noAcl",
            "prettyPrint": "false",
            "fields": "kind,items(name,size,generation,crc32c,storageClass,updated,contentType,contentEncoding)"
            ",nextPageToken",
        }

    @given(NAMES, NAMES, NAMES, NAMES)
    def test_any_text_survives_the_url(self, prefix, start, end, token):
        request = PageRequest(prefix=prefix, start=start, end=end, page_token=token, match_glob="**.j&g", max_results=5)
        parameters = self.parameters(page_target("b", request, "payer"))
        asked = (parameters["prefix"], parameters["startOffset"], parameters["endOffset"], parameters["pageToken"])
        assert asked == (prefix, start, end, token)
        assert (parameters["matchGlob"], parameters["maxResults"]) == ("**.j&g", "5")
        assert parameters["userProject"] == "payer"
