"""What mapped instances over the shards of a manifest are called in Airflow's UI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_dataflux.core.manifest import Manifest


class LabelledByShard:
    """An operator that works on a manifest or a shard of one."""

    manifest: Mapping[str, Any] | str

    @property
    def shard_label(self) -> str:
        """A label for the manifest or shard, made from its reference alone, so it is known before the task starts.

        Airflow renders `map_index_template` when a task begins, and so shows it while the task runs. Empty for a URI.
        """
        reference = self.manifest
        if not isinstance(reference, Mapping):
            return ""
        shard = reference.get("shard")
        try:
            if shard is None:
                return _label(None, int(reference["object_count"]), int(reference["total_bytes"]))
            place = (int(shard["index"]), int(shard["count"]))
            return _label(place, int(shard["object_count"]), int(shard["total_bytes"]))
        except (KeyError, TypeError, ValueError):
            return ""  # what is wrong with the reference is told by `execute`


def shard_label(manifest: Manifest) -> str:
    """Return a label for people: the number of the shard, its objects and its size."""
    shard = manifest.shard_info
    place = None if shard is None else (shard.index, shard.count)
    return _label(place, len(manifest), manifest.total_bytes)


def _label(place: tuple[int, int] | None, object_count: int, total_bytes: int) -> str:
    from airflow_dataflux.core.report.formatting import plural, size

    part = "" if place is None else f"shard {place[0] + 1} of {place[1]}: "
    return f"{part}{plural(object_count, 'object')}, {size(total_bytes)}"
