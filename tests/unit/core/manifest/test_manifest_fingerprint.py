"""The fingerprint is the documented one, and stable."""

from __future__ import annotations

import base64
import hashlib

import pyarrow as pa
import pytest
from manifest_samples import batch, numbered

from airflow_dataflux.core.manifest import Digest
from airflow_dataflux.core.manifest.fingerprint import PRIME


def by_the_documentation(names: list[str], generations: list[int]) -> str:
    """docs/reference/manifest-format.md, word by word."""
    encoded = [name.encode() for name in names]
    streams = [
        b"".join(encoded),
        b"".join(len(name).to_bytes(4, "little") for name in encoded),
        b"".join(generation.to_bytes(8, "little") for generation in generations),
    ]
    remainders = [int.from_bytes(stream, "big") % (2**120 - 119) for stream in streams]
    text = ".".join(f"{number:x}" for number in (len(names), len(streams[0]), *remainders))
    digest = hashlib.sha256(f"dataflux-manifest/1 {text}".encode()).digest()[:16]
    return base64.b32encode(digest).decode().rstrip("=").lower()


@pytest.mark.parametrize("count", [0, 1, 2, 999, 30_000])
def test_it_is_what_the_documentation_says(count: int) -> None:
    rows = numbered(count)
    expected = by_the_documentation(rows["name"].to_pylist(), rows["generation"].to_pylist())
    assert Digest().extend(rows).fingerprint() == expected


def test_its_modulus_is_prime() -> None:
    # Fermat to many bases; 2**120 - 119 is a known prime.
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29))


def test_it_never_changes_between_versions() -> None:
    rows = batch(["a", "b/ü", "\U0001f600"], generations=[1, 2, 2**62])
    assert Digest().extend(rows).fingerprint() == by_the_documentation(["a", "b/ü", "\U0001f600"], [1, 2, 2**62])
    assert Digest().extend(rows).fingerprint() == "frrlqfgwvdsfarw567it3hv6ju"


def test_sliced_arrays_count_only_their_own_rows() -> None:
    rows = numbered(5000)
    part = rows.slice(1234, 2000)
    copied = pa.record_batch([pa.array(c.to_pylist(), c.type) for c in part.columns], schema=part.schema)
    assert Digest().extend(part) == Digest().extend(copied)


def test_the_state_survives_as_text() -> None:
    digest = Digest().extend(numbered(100))
    assert Digest.from_text(digest.to_text()) == digest
    with pytest.raises(ValueError, match="invalid literal"):
        Digest.from_text("no digest")


def test_generations_without_a_value_are_refused() -> None:
    rows = pa.record_batch({"name": pa.array(["a"]), "generation": pa.array([None], pa.int64())})
    with pytest.raises(TypeError, match="without nulls"):
        Digest().extend(rows)
