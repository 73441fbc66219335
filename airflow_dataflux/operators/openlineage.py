"""OpenLineage: what a task of this package read and wrote, as its facets.

Guarantee: nothing of OpenLineage is imported unless its provider asks, and where it is not installed nobody asks.

Names are those of OpenLineage's naming rules, as Airflow's own assets translate to them: a prefix is the dataset
`<prefix without its last slash>` (or `/`) in the namespace `gs://<bucket>`, a directory is its path in `file://`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_dataflux.compat import openlineage

if TYPE_CHECKING:
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.core.packing import PackResult, PackSource


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What one run read and, once it has, what it wrote.

    Attributes:
        bucket, prefixes: where the data came from.
        object_count, total_bytes, fingerprint: the data; None as long as they are not known.
        output: URI or path of what was written; None before it is there, or if nothing was.
    """

    bucket: str
    prefixes: tuple[str, ...]
    object_count: int | None = None
    total_bytes: int | None = None
    fingerprint: str | None = None
    output: str | None = None

    @classmethod
    def of(cls, manifest: Manifest, output: str | None = None) -> Lineage:
        """Return the lineage of a manifest's or shard's data."""
        return cls(
            bucket=manifest.bucket,
            prefixes=manifest.prefixes,
            object_count=len(manifest),
            total_bytes=manifest.total_bytes,
            fingerprint=manifest.fingerprint,
            output=output,
        )

    @classmethod
    def of_pack(cls, source: PackSource, result: PackResult | None = None) -> Lineage:
        """Return the lineage of a pack whose manifest was not opened; `result` once there is one."""
        return cls(
            bucket=source.bucket,
            prefixes=source.prefixes,
            object_count=None if result is None else result.object_count,
            total_bytes=None if result is None else result.total_bytes,
            fingerprint=source.fingerprint,
            output=None if result is None else result.output,
        )

    def facets(self) -> Any:
        """Return the `OperatorLineage`; None where the OpenLineage provider is not installed.

        The counts are those of the whole run: with several prefixes they stand with the output only, because how much
        came from which is not known.
        """
        kinds = openlineage()
        if kinds is None:
            return None
        version = {} if self.fingerprint is None else {"version": kinds.version(datasetVersion=self.fingerprint)}
        whole = len(self.prefixes) == 1
        counted = {} if self.object_count is None else {"fileCount": self.object_count, "size": self.total_bytes}
        inputs = [
            kinds.InputDataset(
                namespace=f"gs://{self.bucket}",
                name=prefix.strip("/") or "/",
                facets=version if whole else {},
                inputFacets={"inputStatistics": kinds.input_statistics(**counted)} if counted and whole else {},
            )
            for prefix in self.prefixes
        ]
        outputs = []
        if self.output is not None:
            namespace, name = _dataset(self.output)
            statistics = {"outputStatistics": kinds.output_statistics(**counted)} if counted else {}
            outputs.append(kinds.OutputDataset(namespace=namespace, name=name, facets=version, outputFacets=statistics))
        return kinds.OperatorLineage(inputs=inputs, outputs=outputs)


def _dataset(place: str) -> tuple[str, str]:
    """Return (namespace, name) of a URI or an absolute path."""
    scheme, separator, rest = place.partition("://")
    if not separator:
        return "file://", place.rstrip("/") or "/"
    authority, _, path = rest.partition("/")
    name = path.strip("/")
    return f"{scheme}://{authority}", f"/{name}" if scheme == "file" else name or "/"
