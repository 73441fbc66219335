"""A shard is what Python's `tarfile` writes, and every reader finds the members in it."""

from __future__ import annotations

import io
import tarfile

from hypothesis import example, given
from hypothesis import strategies as st

from airflow_dataflux.core.packing.tar_format import (
    archive_bytes,
    end_of_archive,
    header_bytes,
    member_bytes,
    member_header,
    padding,
    unfit_reason,
)

LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n")
NAMES = st.one_of(
    st.text(LETTERS, min_size=1, max_size=40),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=60, max_size=300),
    st.text(LETTERS, min_size=80, max_size=250),
).filter(lambda name: unfit_reason(name, 1) is None)
MEMBERS = st.dictionaries(NAMES, st.binary(max_size=1500), max_size=6)


def by_hand(members: dict[str, bytes]) -> bytes:
    parts = [member_header(name, len(data)) + data + padding(len(data)) for name, data in members.items()]
    body = b"".join(parts)
    return body + end_of_archive(len(body))


def by_tarfile(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


@given(MEMBERS)
@example({"a" * 100: b"", "a" * 101: b"x", "b" * 1024: b"y" * 512})
def test_tarfile_reads_every_member_with_its_whole_name(members: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=io.BytesIO(by_hand(members)), mode="r:") as archive:
        found = {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]
    assert found == members


@given(MEMBERS)
def test_ascii_names_give_the_very_bytes_that_tarfile_writes(members: dict[str, bytes]) -> None:
    ascii_only = {name: data for name, data in members.items() if name.isascii()}
    assert by_hand(ascii_only) == by_tarfile(ascii_only)


@given(MEMBERS)
def test_lengths_are_known_before_a_byte_is_there(members: dict[str, bytes]) -> None:
    total = sum(member_bytes(name, len(data)) for name, data in members.items())
    assert archive_bytes(total) == len(by_hand(members)) == len(by_tarfile(members))


@given(NAMES, st.integers(0, 5 * 2**40))
def test_the_header_of_an_object_of_any_size_says_its_size(name: str, size: int) -> None:
    header = member_header(name, size)
    assert len(header) == header_bytes(name, size)
    # `tarfile` stops at the end of the file, so it is told of the members before it looks for their bytes.
    with tarfile.open(fileobj=io.BytesIO(header), mode="r:") as archive:
        info = archive.next()
    assert info is not None
    assert (info.name, info.size, info.type, info.mode, info.mtime) == (name, size, tarfile.REGTYPE, 0o644, 0)
