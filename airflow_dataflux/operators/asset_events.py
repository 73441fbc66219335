"""Asset events: what a finished task tells the DAGs that wait for its data.

Guarantee: an event is emitted exactly when the data changed, for every kind of outlet.

Airflow emits an event for every asset among the outlets of a task that succeeds, and neither of its lines offers a way
to say "not this time". Both read the outlets from the operator that ran, a copy made for this one try, after `execute`;
so where nothing changed the copy's assets are withdrawn. An alias emits only what is added to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_dataflux.compat import Asset, AssetAlias, is_asset

if TYPE_CHECKING:
    from airflow_dataflux.compat import BaseOperator, Context
    from airflow_dataflux.core.manifest import Manifest


def announce(operator: BaseOperator, context: Context, *, uri: str, extra: Mapping[str, Any], changed: bool) -> None:
    """Attach `extra` to the events of the operator's outlets, or have it emit none where nothing changed.

    Args:
        operator: the one that runs, inside its `execute`.
        context: of this try.
        uri: the asset that an alias among the outlets is told of.
        extra: what consumers find in `triggering_asset_events`. JSON-safe.
        changed: whether there is anything to tell.
    """
    if not changed:
        operator.outlets = [outlet for outlet in operator.outlets if not is_asset(outlet)]
        return
    for outlet in operator.outlets:
        if isinstance(outlet, AssetAlias):
            context["outlet_events"][outlet].add(Asset(uri=uri), extra=dict(extra))
        elif is_asset(outlet):
            context["outlet_events"][outlet].extra.update(extra)


def announce_manifest(operator: BaseOperator, context: Context, manifest: Manifest, *, changed: bool) -> None:
    """Do the same for a manifest that was made: its identity, its size and where it is."""
    announce(
        operator,
        context,
        uri=f"gs://{manifest.bucket}/{manifest.prefixes[0]}",
        extra={
            "fingerprint": manifest.fingerprint,
            "manifest_uri": manifest.uri,
            "objects": len(manifest),
            "bytes": manifest.total_bytes,
        },
        changed=changed,
    )
