"""The core library: listing, manifests and staging, without Airflow.

`list_objects` makes a `Manifest`, `stage` puts a manifest's objects on local disk and returns a `Receipt`,
`sweep_composites` deletes leftovers of killed stagings. docs/reference/core.md describes every name. A name is imported
on first use, so a program that only reads a manifest loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dataflux.lazy_exports import on_first_use

if TYPE_CHECKING:
    from airflow_dataflux.core.config import Filters as Filters
    from airflow_dataflux.core.config import ListRequest as ListRequest
    from airflow_dataflux.core.config import PackRequest as PackRequest
    from airflow_dataflux.core.config import StageRequest as StageRequest
    from airflow_dataflux.core.errors import DatafluxError as DatafluxError
    from airflow_dataflux.core.gcs.auth import default_store_config as default_store_config
    from airflow_dataflux.core.gcs.auth import default_tokens as default_tokens
    from airflow_dataflux.core.gcs.http_store import StoreConfig as StoreConfig
    from airflow_dataflux.core.gcs.http_store import open_store as open_store
    from airflow_dataflux.core.listing import list_objects as list_objects
    from airflow_dataflux.core.manifest import Manifest as Manifest
    from airflow_dataflux.core.model import Row as Row
    from airflow_dataflux.core.packing import PackResult as PackResult
    from airflow_dataflux.core.packing import pack as pack
    from airflow_dataflux.core.report.report_info import ReportInfo as ReportInfo
    from airflow_dataflux.core.runtime.cancel import CancelToken as CancelToken
    from airflow_dataflux.core.runtime.progress import Progress as Progress
    from airflow_dataflux.core.runtime.progress import RunStatistics as RunStatistics
    from airflow_dataflux.core.staging import Receipt as Receipt
    from airflow_dataflux.core.staging import SweepResult as SweepResult
    from airflow_dataflux.core.staging import stage as stage
    from airflow_dataflux.core.staging import staged_files as staged_files
    from airflow_dataflux.core.staging import sweep_composites as sweep_composites

_LAZY = {
    "CancelToken": "airflow_dataflux.core.runtime.cancel",
    "DatafluxError": "airflow_dataflux.core.errors",
    "Filters": "airflow_dataflux.core.config",
    "ListRequest": "airflow_dataflux.core.config",
    "Manifest": "airflow_dataflux.core.manifest",
    "PackRequest": "airflow_dataflux.core.config",
    "PackResult": "airflow_dataflux.core.packing",
    "Progress": "airflow_dataflux.core.runtime.progress",
    "ReportInfo": "airflow_dataflux.core.report.report_info",
    "RunStatistics": "airflow_dataflux.core.runtime.progress",
    "Receipt": "airflow_dataflux.core.staging",
    "Row": "airflow_dataflux.core.model",
    "StageRequest": "airflow_dataflux.core.config",
    "StoreConfig": "airflow_dataflux.core.gcs.http_store",
    "SweepResult": "airflow_dataflux.core.staging",
    "default_store_config": "airflow_dataflux.core.gcs.auth",
    "default_tokens": "airflow_dataflux.core.gcs.auth",
    "list_objects": "airflow_dataflux.core.listing",
    "open_store": "airflow_dataflux.core.gcs.http_store",
    "pack": "airflow_dataflux.core.packing",
    "stage": "airflow_dataflux.core.staging",
    "staged_files": "airflow_dataflux.core.staging",
    "sweep_composites": "airflow_dataflux.core.staging",
}

__all__ = sorted(_LAZY)

__getattr__, __dir__ = on_first_use(__name__, _LAZY)
