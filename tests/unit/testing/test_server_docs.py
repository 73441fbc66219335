"""The reference page of the embedded server names everything that it has."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from airflow_dataflux.testing.control_messages import BucketSettings, FaultKind, FaultRule, NameStyle, Settings
from airflow_dataflux.testing.gcs_server import GCSServer
from airflow_dataflux.testing.routes import OPERATIONS

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "testing.md").read_text(encoding="utf-8")

METHODS = [
    name
    for name, _ in inspect.getmembers(GCSServer, inspect.isfunction)
    if not name.startswith("_") and name not in ("start", "stop", "changes_made")
]


@pytest.mark.parametrize(
    "names",
    [
        [field.name for field in msgspec.structs.fields(Settings)],
        [field.name for field in msgspec.structs.fields(BucketSettings)],
        [field.name for field in msgspec.structs.fields(FaultRule)],
        list(get_args(FaultKind)),
        list(get_args(NameStyle)),
        list(OPERATIONS),
        METHODS,
    ],
    ids=["settings", "bucket settings", "fault rules", "fault kinds", "name styles", "operations", "calls"],
)
def test_the_page_names_it(names: list[str]) -> None:
    assert [name for name in names if name not in PAGE] == []
