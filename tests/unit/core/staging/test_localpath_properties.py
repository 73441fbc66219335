"""Whatever Cloud Storage can hold becomes distinct paths inside the destination, or is refused."""

from __future__ import annotations

import os
import posixpath

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_dataflux.core.errors import UnsafeNameError
from airflow_dataflux.core.staging.localpath import FileSystemTraits, NameCheck, refusal_of

HOSTILE_SEGMENTS = st.sampled_from(
    ["", ".", "..", "a", "A", "b", "é", "e\u0301", "ß", "ss", ".dataflux", ".Dataflux", "a\x00", "x" * 256, "ü" * 128]
)
SEGMENTS = st.one_of(
    HOSTILE_SEGMENTS, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), max_size=6)
)
NAMES = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join).filter(lambda name: 0 < len(name.encode()) <= 1024)


def check(
    names: list[str], *, strip_prefix: str = "", sizes: list[int] | None = None, **traits: object
) -> dict[str, str]:
    """Return the refusals of names, which must be sorted, by name."""
    looking = NameCheck("/data/set", strip_prefix, FileSystemTraits(**traits))  # type: ignore[arg-type]
    middle = len(names) // 2
    sizes = sizes or [1] * len(names)
    for part, part_sizes in ((names[:middle], sizes[:middle]), (names[middle:], sizes[middle:])):
        looking.look(pa.array(part, pa.string()), pa.array(part_sizes, pa.int64()))
    return {one.name: one.reason for one in looking.refusals}


@given(st.lists(NAMES, unique=True, max_size=12))
@example(["a", "a-", "a/b"])
@example(["a", "a/", "a//b"])
def test_accepted_names_are_distinct_files_inside_the_destination(names: list[str]) -> None:
    names = sorted(names, key=str.encode)
    refused = check(names)
    accepted = [name for name in names if name not in refused]
    for name in accepted:
        joined = posixpath.normpath(posixpath.join("/data/set", name))
        assert joined == "/data/set/" + name
        assert not name.startswith("/")
        segments = name.split("/")
        assert all(0 < len(segment.encode()) <= 255 and segment not in (".", "..") for segment in segments)
        assert segments[0].lower() != ".dataflux"
        assert "\x00" not in name
    files = set(accepted)
    directories = {name[:at] for name in accepted for at, letter in enumerate(name) if letter == "/"}
    assert not files & directories


@given(st.lists(NAMES, unique=True, max_size=12))
def test_ordinary_names_are_never_refused(names: list[str]) -> None:
    ordinary = sorted(
        {
            f"d{index}/" + "".join(c for c in name if c.isalnum() and c.isascii())[:200] + "f"
            for index, name in enumerate(names)
        }
    )
    assert check(ordinary) == {}


@given(st.lists(NAMES, unique=True, max_size=12))
def test_on_a_folding_file_system_no_two_accepted_names_are_one_file(names: list[str]) -> None:
    names = sorted(names, key=str.encode)
    refused = check(names, case_sensitive=False, keeps_normalisation=False)
    fold = FileSystemTraits(case_sensitive=False, keeps_normalisation=False).fold
    accepted = [fold(name) for name in names if name not in refused]
    assert len(accepted) == len(set(accepted))
    directories = {name[:at] for name in accepted for at, letter in enumerate(name) if letter == "/"}
    assert not set(accepted) & directories


@given(st.lists(NAMES, unique=True, max_size=12))
def test_the_fast_check_of_a_batch_agrees_with_the_slow_check_of_each_name(names: list[str]) -> None:
    names = sorted(names, key=str.encode)
    refused = check(names)
    for name in names:
        if refusal_of(name) is not None:
            assert name in refused


@given(NAMES, NAMES)
def test_strip_prefix_is_removed_from_names_that_have_it_and_others_are_refused(name: str, prefix: str) -> None:
    refused = check([name], strip_prefix=prefix)
    if not name.startswith(prefix):
        assert "strip_prefix" in refused[name]
    elif len(name) > len(prefix):
        assert (name in refused) == bool(check([name[len(prefix) :]]))
    elif not name.endswith("/"):  # else it is the placeholder of the prefix, and the destination itself
        assert "nothing is left" in refused[name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../up", "'..'"),
        ("a/../b", "'..'"),
        ("/etc/passwd", "absolute"),
        ("a//b", "'//'"),
        ("a/./b", "'.'"),
        ("a/", "ends in '/' but holds 1 bytes"),
        ("new\x07line", "control"),
        ("n" * 256, "256 bytes"),
        ("é" * 128, "256 bytes"),
        (".dataflux/receipt.json", "belongs to the receipts"),
        (".DATAFLUX", "belongs to the receipts"),
    ],
)
def test_each_kind_of_hostile_name_is_refused_with_its_reason(name: str, reason: str) -> None:
    assert reason in check([name])[name]


def test_an_empty_object_that_ends_in_a_slash_stands_for_a_directory() -> None:
    assert check(["a/", "a/b"], sizes=[0, 1]) == {}


def test_a_file_beside_a_directory_of_its_name_is_refused_although_other_names_lie_between() -> None:
    refused = check(["a", "a b", "a-c", "a.d/e", "a/b", "a0"])
    assert list(refused) == ["a/b"]
    assert "'a'" in refused["a/b"]


def test_directories_that_differ_in_case_only_are_no_clash_but_files_are() -> None:
    assert check(["Dir/x", "dir/y"], case_sensitive=False) == {}
    assert list(check(["Dir/x", "dir/X"], case_sensitive=False)) == ["dir/X"]
    assert list(check(["A", "a/b"], case_sensitive=False)) == ["a/b"]


def test_one_error_names_every_refused_name_with_its_bucket() -> None:
    looking = NameCheck("/data/set")
    looking.look(pa.array(["../a", "/b", "fine"]), pa.array([1, 1, 1]))
    with pytest.raises(UnsafeNameError) as caught:
        looking.raise_if_refused("photos")
    assert set(caught.value.names) == {"../a", "/b"}
    assert "gs://photos/../a" in str(caught.value)
    assert "nothing was fetched" in str(caught.value)


def test_a_path_beyond_the_systems_limit_is_refused() -> None:
    deep = "/".join(["d" * 100] * 10)
    looking = NameCheck("/" + "p" * (4096 - len(deep) - 2))
    looking.look(pa.array([deep]), pa.array([1]))
    assert "4096 bytes" in looking.refusals[0].reason
    assert os.pathconf("/", "PC_PATH_MAX") == 4096
