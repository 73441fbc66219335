"""Fast, exact listing and verified staging of Google Cloud Storage data inside Apache Airflow.

Importing this package imports neither Airflow nor Google: the names below are resolved on first use,
so that a DAG file pays only for what it names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dataflux.lazynames import on_first_use

__version__ = "0.1.0"

if TYPE_CHECKING:
    from airflow_dataflux.core.manifest import Manifest as Manifest
    from airflow_dataflux.hooks.dataflux import DatafluxHook as DatafluxHook
    from airflow_dataflux.operators.compose_download import ComposeDownloadOperator as ComposeDownloadOperator
    from airflow_dataflux.operators.fast_list import FastListOperator as FastListOperator
    from airflow_dataflux.operators.join_manifests import JoinManifestsOperator as JoinManifestsOperator
    from airflow_dataflux.operators.name_ranges import NameRangesOperator as NameRangesOperator
    from airflow_dataflux.operators.sweep_composites import SweepCompositesOperator as SweepCompositesOperator

_LAZY = {
    "ComposeDownloadOperator": "airflow_dataflux.operators.compose_download",
    "DatafluxHook": "airflow_dataflux.hooks.dataflux",
    "FastListOperator": "airflow_dataflux.operators.fast_list",
    "JoinManifestsOperator": "airflow_dataflux.operators.join_manifests",
    "Manifest": "airflow_dataflux.core.manifest",
    "NameRangesOperator": "airflow_dataflux.operators.name_ranges",
    "SweepCompositesOperator": "airflow_dataflux.operators.sweep_composites",
}

__all__ = ["__version__", *sorted(_LAZY)]

__getattr__, __dir__ = on_first_use(__name__, _LAZY)
