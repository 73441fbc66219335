"""When worker processes pay."""

from __future__ import annotations

import pickle

import pytest

from airflow_dataflux.core.config import Strategy
from airflow_dataflux.core.staging.strategy import RunConditions, engine_pays, processor_s

KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.parametrize(
    ("count", "size", "strategy", "pays"),
    [
        (1, 10 * KIB, "auto", False),
        (1111, 10 * KIB, "direct", False),
        (11_098, 10 * KIB, "auto", False),
        (11_098, 10 * KIB, "compose", False),
        (11_098, 10 * KIB, "direct", True),
        (100_000, 10 * KIB, "auto", True),
        (5000, 100 * KIB, "auto", False),
        (500, 3 * MIB, "auto", True),
        (20, 150 * MIB, "auto", True),
    ],
)
def test_an_engine_is_started_where_two_workers_save_more_than_it_costs(
    count: int, size: int, strategy: Strategy, pays: bool
) -> None:
    assert engine_pays(count, count * size, strategy) is pays


def test_an_empty_manifest_takes_nothing() -> None:
    assert processor_s(0, 0, "auto") == 0.0


def test_the_conditions_of_a_run_reach_its_worker_processes() -> None:
    conditions = RunConditions(in_flight=64, workers=2, soft_delete_s=0)
    assert pickle.loads(pickle.dumps(conditions)) == conditions
