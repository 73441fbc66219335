"""Manifests: durable, sorted, unique lists of objects pinned by generation.

A manifest is Parquet parts and a JSON index in one directory (or rows in a reference, for small listings). Writers
use `PartWriter` and `ManifestDraft`, readers `Manifest`. Names are resolved on first use: a writer does not import the
reader, and Parquet itself is imported when the first part is written or read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dataflux.lazy_exports import on_first_use

if TYPE_CHECKING:
    from airflow_dataflux.core.manifest.diff import DiffCounts as DiffCounts
    from airflow_dataflux.core.manifest.diff import ManifestDiff as ManifestDiff
    from airflow_dataflux.core.manifest.files import ManifestFiles as ManifestFiles
    from airflow_dataflux.core.manifest.fingerprint import Digest as Digest
    from airflow_dataflux.core.manifest.inlining import INLINE_MAX_BYTES as INLINE_MAX_BYTES
    from airflow_dataflux.core.manifest.inlining import InlineCollector as InlineCollector
    from airflow_dataflux.core.manifest.joining import join as join
    from airflow_dataflux.core.manifest.joining import join_ranges as join_ranges
    from airflow_dataflux.core.manifest.manifest import Manifest as Manifest
    from airflow_dataflux.core.manifest.parts import PartInfo as PartInfo
    from airflow_dataflux.core.manifest.parts import PartWriter as PartWriter
    from airflow_dataflux.core.manifest.publishing import ManifestDraft as ManifestDraft
    from airflow_dataflux.core.manifest.publishing import inline as inline
    from airflow_dataflux.core.manifest.publishing import publish as publish
    from airflow_dataflux.core.manifest.schema import FORMAT as FORMAT
    from airflow_dataflux.core.manifest.sharding import Shard as Shard

_LAZY = {
    "DiffCounts": "airflow_dataflux.core.manifest.diff",
    "Digest": "airflow_dataflux.core.manifest.fingerprint",
    "FORMAT": "airflow_dataflux.core.manifest.schema",
    "INLINE_MAX_BYTES": "airflow_dataflux.core.manifest.inlining",
    "InlineCollector": "airflow_dataflux.core.manifest.inlining",
    "Manifest": "airflow_dataflux.core.manifest.manifest",
    "ManifestDiff": "airflow_dataflux.core.manifest.diff",
    "ManifestDraft": "airflow_dataflux.core.manifest.publishing",
    "ManifestFiles": "airflow_dataflux.core.manifest.files",
    "PartInfo": "airflow_dataflux.core.manifest.parts",
    "PartWriter": "airflow_dataflux.core.manifest.parts",
    "Shard": "airflow_dataflux.core.manifest.sharding",
    "inline": "airflow_dataflux.core.manifest.publishing",
    "join": "airflow_dataflux.core.manifest.joining",
    "join_ranges": "airflow_dataflux.core.manifest.joining",
    "publish": "airflow_dataflux.core.manifest.publishing",
}

__all__ = sorted(_LAZY)

__getattr__, __dir__ = on_first_use(__name__, _LAZY)
