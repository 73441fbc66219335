"""The slicer gives back the components, however the stream is cut into chunks."""

from __future__ import annotations

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataflux.core.errors import VerificationError
from airflow_dataflux.core.staging.checksum import combine, crc32c, extend
from airflow_dataflux.core.staging.slicer import Slice, Slicer

COMPONENTS = st.lists(st.binary(max_size=40), max_size=33)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, position = [], 0
    for size in sizes:
        if position >= len(data):
            break
        chunks.append(data[position : position + size])
        position += size
    if position < len(data):
        chunks.append(data[position:])
    return chunks


def slices_of(components: list[bytes], chunks: list[bytes]) -> list[Slice]:
    slicer = Slicer([len(component) for component in components])
    found = [piece for chunk in chunks for piece in slicer.feed(chunk)]
    return found + list(slicer.finish())


@given(COMPONENTS, st.lists(st.integers(1, 100), max_size=60))
def test_slices_joined_are_the_components_in_order_with_their_checksums(
    components: list[bytes], sizes: list[int]
) -> None:
    slices = slices_of(components, cut(b"".join(components), sizes))
    joined: dict[int, bytes] = {}
    finished: list[int] = []
    for piece in slices:
        assert piece.component not in finished
        assert piece.offset == len(joined.get(piece.component, b""))
        joined[piece.component] = joined.get(piece.component, b"") + piece.data
        assert piece.crc32c == google_crc32c.value(joined[piece.component])
        if piece.last:
            finished.append(piece.component)
    assert finished == list(range(len(components)))
    assert [joined[index] for index in finished] == components


@given(COMPONENTS, st.binary(min_size=1, max_size=9))
def test_bytes_beyond_the_last_component_are_an_error(components: list[bytes], beyond: bytes) -> None:
    with pytest.raises(VerificationError, match="longer"):
        slices_of(components, [b"".join(components) + beyond])


@given(COMPONENTS.filter(any), st.data())
def test_missing_bytes_are_an_error(components: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(components)
    kept = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(VerificationError, match="ended after"):
        slices_of(components, [whole[:kept]] if kept else [])


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_checksums_of_adjacent_pieces_combine_to_that_of_the_whole(first: bytes, second: bytes) -> None:
    assert combine(crc32c(first), crc32c(second), len(second)) == crc32c(first + second)
    assert extend(crc32c(first), second) == crc32c(first + second)


def test_checksums_combine_over_lengths_beyond_a_machine_word() -> None:
    # 5 TiB of zeros appended: by squaring, compared with appending a sixth of it six times.
    length = 5 << 40
    part = length // 5
    crc = crc32c(b"dataflux")
    zeros_part = combine(0, 0, part)
    stepwise = crc
    for _ in range(5):
        stepwise = combine(stepwise, zeros_part, part)
    assert stepwise == combine(crc, 0, length)
