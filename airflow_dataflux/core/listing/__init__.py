"""Fast, exact listing. `list_objects` is the whole of its interface."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_dataflux.core.listing.lister import list_objects as list_objects

__all__ = ["list_objects"]


def __getattr__(name: str) -> Any:
    """Import the lister on first use (PEP 562)."""
    if name != "list_objects":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.lister").list_objects
