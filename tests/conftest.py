"""What holds for the whole suite."""

from __future__ import annotations

import pytest
from hypothesis import settings

from airflow_dataflux.core.listing.messages import HandOver

# A property is about results. How long an example takes depends on imports and on what else runs on the machine.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes, so that processes that share the suite end at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture
def early_hand_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listings of more than some pages get an engine, whatever the first pages make them expect of the rest."""
    early = HandOver(after_pages=24, remaining_pages=20)
    monkeypatch.setattr("airflow_dataflux.core.listing.run.HAND_OVER", early)
