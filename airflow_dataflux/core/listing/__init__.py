"""Fast, exact listing. `list_objects` is the whole of its interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dataflux.lazy_exports import on_first_use

if TYPE_CHECKING:
    from airflow_dataflux.core.listing.lister import list_objects as list_objects

__all__ = ["list_objects"]


__getattr__, __dir__ = on_first_use(__name__, {"list_objects": "airflow_dataflux.core.listing.lister"})
