"""Fast, exact listing and verified staging of Google Cloud Storage data inside Apache Airflow.

Importing this package imports neither Airflow nor Google's libraries. A name below is imported on first use, so a DAG
file loads only what it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dataflux._version import __version__
from airflow_dataflux.lazy_exports import on_first_use

if TYPE_CHECKING:
    from airflow_dataflux.client import Client as Client
    from airflow_dataflux.core.manifest import Manifest as Manifest
    from airflow_dataflux.hooks.dataflux import DatafluxHook as DatafluxHook
    from airflow_dataflux.operators.changed_partitions import ChangedPartitionsOperator as ChangedPartitionsOperator
    from airflow_dataflux.operators.compose_download import ComposeDownloadOperator as ComposeDownloadOperator
    from airflow_dataflux.operators.compose_pack import ComposePackOperator as ComposePackOperator
    from airflow_dataflux.operators.fast_list import FastListOperator as FastListOperator
    from airflow_dataflux.operators.join_manifests import JoinManifestsOperator as JoinManifestsOperator
    from airflow_dataflux.operators.join_packs import JoinPacksOperator as JoinPacksOperator
    from airflow_dataflux.operators.name_ranges import NameRangesOperator as NameRangesOperator
    from airflow_dataflux.operators.prune_staged import PruneStagedOperator as PruneStagedOperator
    from airflow_dataflux.operators.select import SelectOperator as SelectOperator
    from airflow_dataflux.operators.sweep_composites import SweepCompositesOperator as SweepCompositesOperator
    from airflow_dataflux.sensors.prefix import PrefixSensor as PrefixSensor

_LAZY = {
    "ChangedPartitionsOperator": "airflow_dataflux.operators.changed_partitions",
    "Client": "airflow_dataflux.client",
    "ComposeDownloadOperator": "airflow_dataflux.operators.compose_download",
    "ComposePackOperator": "airflow_dataflux.operators.compose_pack",
    "DatafluxHook": "airflow_dataflux.hooks.dataflux",
    "FastListOperator": "airflow_dataflux.operators.fast_list",
    "JoinManifestsOperator": "airflow_dataflux.operators.join_manifests",
    "JoinPacksOperator": "airflow_dataflux.operators.join_packs",
    "Manifest": "airflow_dataflux.core.manifest",
    "NameRangesOperator": "airflow_dataflux.operators.name_ranges",
    "SelectOperator": "airflow_dataflux.operators.select",
    "PrefixSensor": "airflow_dataflux.sensors.prefix",
    "PruneStagedOperator": "airflow_dataflux.operators.prune_staged",
    "SweepCompositesOperator": "airflow_dataflux.operators.sweep_composites",
}

__all__ = ["__version__", *sorted(_LAZY)]

__getattr__, __dir__ = on_first_use(__name__, _LAZY)
