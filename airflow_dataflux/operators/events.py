"""What a finished task tells the rest of the deployment: asset events and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_dataflux.compat import Asset, AssetAlias, count_metric

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context


def announce(context: Context, outlets: Iterable[object], *, uri: str, extra: Mapping[str, Any], changed: bool) -> None:
    """Attach `extra` to the events of the task's outlets.

    Airflow emits an event for every Asset among the outlets of a task that succeeds. An AssetAlias emits one only for
    what is added to it, so an alias is told of `uri` only when the data changed.
    """
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            if changed:
                context["outlet_events"][outlet].add(Asset(uri=uri), extra=dict(extra))
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(extra)


def record_metrics(work: str, figures: Mapping[str, Any]) -> None:
    """Count each whole number of `figures` as the metric `dataflux.<work>.<name>`."""
    for name, value in figures.items():
        if isinstance(value, int) and not isinstance(value, bool):
            count_metric(f"dataflux.{work}.{name}", value)
