"""A results page says how to measure the same again."""

from __future__ import annotations

import pytest
from dataflux_bench.commands import _make_command, _parser


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("download", "make bench-download"),
        ("list --sizes 1k --lists-per-s 200", "make bench-list SIZES=1k LISTS_PER_S=200.0"),
        ("list --sequential-most 100k --peers dataflux", "make bench-list SEQUENTIAL_MOST=100k PEERS=dataflux"),
        ("list --repeats 3 --output here --scratch there", "make bench-list"),
    ],
)
def test_the_command_has_every_option_but_the_defaults_and_where_files_lie(arguments: str, command: str) -> None:
    assert _make_command(_parser().parse_args(arguments.split())) == command
