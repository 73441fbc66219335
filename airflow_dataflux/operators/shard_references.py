"""What an operator that makes a manifest returns: its reference, or the references of shards to map over.

Airflow maps only over return values, so shards are returned as a list, and the whole reference is left under the XCom
key ``manifest``. More shards than a deployment maps over would fail the task after all of its work: they are refused
before it, or made larger.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from airflow_dataflux.compat import max_map_length
from airflow_dataflux.core.config import Declared
from airflow_dataflux.core.errors import InvalidRequestError, ManifestTooLargeError

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.manifest import Manifest


LIST_MOST_BYTES = 1 << 20
"""A list of shards is one row of Airflow's database. 1,024 shards and a manifest_uri of 800 characters are as much."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRequest:
    """How a manifest is cut for mapped tasks: by number or by size, or, with neither, not at all."""

    shards: Annotated[
        int | None,
        Declared(
            "number of shard references to return; fewer if there are fewer objects. At most `[core] max_map_length`"
        ),
    ] = None
    shard_bytes: Annotated[int | None, Declared("return shards of about this many bytes each, instead of `shards`")] = (
        None
    )

    def __post_init__(self) -> None:
        if self.shards is not None and self.shard_bytes is not None:
            raise InvalidRequestError(
                f"shards={self.shards} and shard_bytes={self.shard_bytes} were both given: set the number of shards or "
                "their size."
            )
        if self.shards is not None and self.shards > max_map_length():
            raise InvalidRequestError(
                f"shards={self.shards} is more than the {max_map_length()} instances that this deployment allows for a "
                "mapped task: ask for fewer, or raise [core] max_map_length."
            )


def as_return_value(
    context: Context, manifest: Manifest, request: ShardRequest
) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the task's return value, and push the whole reference beside a list of shards."""
    returned = as_references(manifest, request)
    if isinstance(returned, list):
        context["ti"].xcom_push(key="manifest", value=manifest.reference())
    return returned


def as_references(manifest: Manifest, request: ShardRequest) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the manifest's reference, or those of its shards."""
    shards = _cut(manifest, request.shards, request.shard_bytes)
    if shards is None:
        return manifest.reference()
    references = [shard.reference() for shard in shards]
    size_bytes = len(json.dumps(references).encode())
    if size_bytes > LIST_MOST_BYTES:
        raise ManifestTooLargeError(
            f"The references of {len(references)} shards take {size_bytes} bytes, more than {LIST_MOST_BYTES}. They go "
            "through XCom in one piece. "
            + ("Set manifest_uri: then" if manifest.uri is None else "Ask for fewer shards, or shorten manifest_uri:")
            + " a reference takes about 210 bytes and the length of the URI.",
            limit_bytes=LIST_MOST_BYTES,
        )
    return references


def _cut(manifest: Manifest, count: int | None, size_bytes: int | None) -> list[Manifest] | None:
    if count is not None:
        return manifest.shards(count)
    if size_bytes is None:
        return None
    # Larger shards rather than a failure after the work is done.
    smallest_bytes = -(-manifest.total_bytes // max_map_length())
    shards = manifest.shards_of(max(size_bytes, smallest_bytes))
    return shards if len(shards) <= max_map_length() else manifest.shards(max_map_length())
