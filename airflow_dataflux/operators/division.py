"""What an operator that makes a manifest returns: its reference, or the references of shards to map over.

Airflow maps only over return values, so shards are returned as a list, and the whole reference is left under the XCom
key ``manifest``. More shards than a deployment maps over would fail the task after all of its work: they are refused
before it, or made larger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dataflux.compat import max_map_length
from airflow_dataflux.core.errors import InvalidRequestError

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.manifest import Manifest

Division = tuple[int | None, int | None]
"""Number of shards and bytes of a shard, of which one at most is set."""


def checked_division(shards: int | str | None, shard_bytes: int | str | None) -> Division:
    """Return what the two parameters ask for. Raises InvalidRequestError for both at once, and for too many."""
    from airflow_dataflux.hooks import parameters

    count = parameters.positive_count(shards, "shards")
    size_bytes = parameters.positive_count(shard_bytes, "shard_bytes")
    if count is not None and size_bytes is not None:
        raise InvalidRequestError(
            f"shards={count} and shard_bytes={size_bytes} were both given: set the number of shards or their size."
        )
    if count is not None and count > max_map_length():
        raise InvalidRequestError(
            f"shards={count} is more than this deployment maps one task over ({max_map_length()}): ask for fewer, "
            "or raise [core] max_map_length."
        )
    return count, size_bytes


def returned(context: Context, manifest: Manifest, division: Division) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the task's return value, and push the whole reference beside a list of shards."""
    reference = manifest.reference()
    shards = _divided(manifest, *division)
    if shards is None:
        return reference
    context["ti"].xcom_push(key="manifest", value=reference)
    return [shard.reference() for shard in shards]


def _divided(manifest: Manifest, count: int | None, size_bytes: int | None) -> list[Manifest] | None:
    if count is not None:
        return manifest.shards(count)
    if size_bytes is None:
        return None
    # Larger shards rather than a failure after the work is done.
    smallest_bytes = -(-manifest.total_bytes // max_map_length())
    shards = manifest.shards_of(max(size_bytes, smallest_bytes))
    return shards if len(shards) <= max_map_length() else manifest.shards(max_map_length())
