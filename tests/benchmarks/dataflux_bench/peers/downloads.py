"""What all download programs share: what to fetch, and where it goes."""

from __future__ import annotations

import json
import os
from typing import Any


def wanted(task: dict[str, Any]) -> list[tuple[str, int]]:
    """Return (name, size) of every object, as a listing would have handed them over."""
    with open(task["objects"], encoding="utf-8") as file:
        return [(name, size) for name, size in json.load(file)]


def path_of(task: dict[str, Any], name: str) -> str:
    """Return where an object's file goes."""
    return f"{task['destination']}/{name}"


def make_directories(task: dict[str, Any], names: list[str]) -> None:
    """Create every directory once, for programs that do not do that themselves."""
    for directory in {os.path.dirname(path_of(task, name)) for name in names}:
        os.makedirs(directory, exist_ok=True)
