"""Manifests: durable, sorted, unique lists of objects pinned by generation.

A manifest is Parquet parts and a JSON index in one directory (or rows in a reference, for small listings). Writers
use `PartWriter` and `publish`, readers `Manifest`. Names are resolved on first use: a writer does not import the
reader, and Parquet itself is imported when the first part is written or read.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    from airflow_dataflux.core.manifest.manifest import Shard as Shard
    from airflow_dataflux.core.manifest.parts import PartInfo as PartInfo
    from airflow_dataflux.core.manifest.parts import PartWriter as PartWriter
    from airflow_dataflux.core.manifest.publishing import inline as inline
    from airflow_dataflux.core.manifest.publishing import publish as publish
    from airflow_dataflux.core.manifest.schema import FORMAT as FORMAT

_MODULES = {
    "DiffCounts": "diff",
    "Digest": "fingerprint",
    "FORMAT": "schema",
    "INLINE_MAX_BYTES": "inlining",
    "InlineCollector": "inlining",
    "Manifest": "manifest",
    "ManifestDiff": "diff",
    "ManifestFiles": "files",
    "PartInfo": "parts",
    "PartWriter": "parts",
    "Shard": "manifest",
    "inline": "publishing",
    "join": "joining",
    "join_ranges": "joining",
    "publish": "publishing",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Import the module that holds `name` on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
