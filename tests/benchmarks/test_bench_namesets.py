"""The name sets of the benchmark are the same everywhere, and such as Cloud Storage accepts."""

from __future__ import annotations

import itertools

import pytest
from dataflux_bench.namesets import CONVENTIONS, HARD, TREES, names_of


@pytest.mark.parametrize("name", [*CONVENTIONS, *HARD])
def test_a_name_set_has_about_the_size_that_was_asked_for_and_valid_names(name: str) -> None:
    names = names_of(name, 10_000)
    assert 9_000 <= len(names) <= 10_000
    assert all(one < other for one, other in itertools.pairwise(names))
    assert all(1 <= len(each.encode()) <= 1024 and not {"\r", "\n", "\0"} & set(each) for each in names)
    assert names_of(name, 10_000) == names


def test_a_real_tree_is_what_is_installed() -> None:
    names = names_of("environment", 2_000)
    assert set(TREES) == {"environment", "usr"}
    assert len(names) == 2_000
    assert any(name.endswith(".py") for name in names)
