"""The only module that knows Airflow's versions: 2.11 and 3.x behind one set of names.

Most names are those of `airflow.providers.common.compat.sdk`, which resolves each on first use, so that a DAG file
pays only for what it needs. What is written out here is what that package does not cover.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
    Asset,
    AssetAlias,
    BaseHook,
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    PokeReturnValue,
    Stats,
    XCom,
    conf,
    get_current_context,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context as Context
    from airflow.providers.common.compat.sdk import TaskInstanceKey as TaskInstanceKey

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSkipException",
    "Asset",
    "AssetAlias",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "PokeReturnValue",
    "XCom",
    "add_partitions",
    "count_metric",
    "google_credentials",
    "has_plugin_pages",
    "is_asset",
    "max_map_length",
    "note_lineage",
    "openlineage",
    "running_context",
    "show_progress",
    "task_states",
    "time_metric",
]


_log = logging.getLogger(__name__)


def has_plugin_pages() -> bool:
    """Return whether this Airflow's API server shows the pages of this package's plugin: 3.x, which has an SDK."""
    return find_spec("airflow.sdk") is not None


def show_progress(context: Context, value: dict[str, Any], key: str) -> None:
    """Keep a small dictionary that says how far a running task is, where Airflow's UI or this package's page shows it.

    That is the store of task states where there is one (3.3), else an XCom. 2.11 shows it nowhere. What goes wrong is
    a line at DEBUG: a task does not fail because it could not say how far it is.
    """
    if not has_plugin_pages():
        return
    store: Any = context.get("task_state_store")
    try:
        if store is None:
            context["ti"].xcom_push(key=key, value=value)
        else:
            store.set(key, value, retention=timedelta(days=1))
    except Exception:  # noqa: BLE001 - the supervisor or the API server may be out of reach for a moment
        _log.debug("The progress of this task could not be shown", exc_info=True)


def task_states(context: Context, run_id: str, task_ids: Collection[str]) -> dict[str, list[str | None]] | None:
    """Return the states of tasks in a run of this DAG, those of all instances of a mapped one; None if nobody tells.

    A task that the run does not have is left out. Costs one request to the API server in 3.x, a query in 2.11.
    """
    ti: Any = context["ti"]
    states: dict[str, list[str | None]] = {}
    if not task_ids:
        return states
    try:
        if has_plugin_pages():
            found = ti.get_task_states(dag_id=ti.dag_id, task_ids=sorted(task_ids), run_ids=[run_id])
            for name, state in found.get(run_id, {}).items():
                # An instance of a mapped task has its index behind its name.
                states.setdefault(name if name in task_ids else name.rpartition("_")[0], []).append(state)
        else:
            find_runs: Any = type(context["dag_run"]).find  # type: ignore[attr-defined]  # a model there
            for run in find_runs(dag_id=ti.dag_id, run_id=run_id):
                for instance in run.get_task_instances():
                    states.setdefault(instance.task_id, []).append(instance.state)
    except Exception as error:  # noqa: BLE001 - each line has its own errors, and a refusal is no reason to fail
        _log.warning("The states of the tasks of run %s of DAG %s could not be read: %s", run_id, ti.dag_id, error)
        return None
    return states


def max_map_length() -> int:
    """Return how many instances this deployment lets one mapped task have."""
    return int(conf.getint("core", "max_map_length", fallback=1024))


def count_metric(name: str, value: int, tags: Mapping[str, str]) -> None:
    """Add to a counter of this deployment's metrics; nothing happens where none are collected."""
    Stats.incr(name, value, tags=dict(tags))


def time_metric(name: str, seconds: float, tags: Mapping[str, str]) -> None:
    """Record a duration in this deployment's metrics."""
    Stats.timing(name, timedelta(seconds=seconds), tags=dict(tags))


def is_asset(outlet: object) -> bool:
    """Return whether an outlet is an asset or, in 3.x, a reference to one by its name or URI. An alias is neither."""
    try:
        from airflow.sdk.definitions.asset import AssetRef
    except ImportError:  # 2.11
        return isinstance(outlet, Asset)
    return isinstance(outlet, Asset | AssetRef)


def add_partitions(event: Any, partitions: Sequence[str]) -> bool:
    """Tell an outlet's event which partitions changed; return whether this Airflow knows partitions (3.3 and later).

    Raises ValueError for what Airflow does not take as the key of a partition: white space, or over 250 characters.
    """
    if not hasattr(event, "add_partitions"):
        return False
    event.add_partitions(list(partitions))
    return True


@dataclass(frozen=True, kw_only=True)
class OpenLineage:
    """The classes of OpenLineage that facets are made of."""

    OperatorLineage: Any
    InputDataset: Any
    OutputDataset: Any
    input_statistics: Any
    output_statistics: Any
    version: Any


def openlineage() -> OpenLineage | None:
    """Return OpenLineage's classes; None where its provider is not installed.

    Two of the facets are not among those that `common.compat.openlineage.facet` passes on, so their own modules are
    asked: they have been there since clients are generated from the specification (1.15).
    """
    try:
        from airflow.providers.common.compat.openlineage import facet

        generated = "openlineage.client.generated."
        return OpenLineage(
            # By name, because it is no requirement: only its own listener ever calls for facets.
            OperatorLineage=import_module("airflow.providers.openlineage.extractors").OperatorLineage,
            InputDataset=facet.InputDataset,
            OutputDataset=facet.OutputDataset,
            input_statistics=import_module(
                f"{generated}input_statistics_input_dataset"
            ).InputStatisticsInputDatasetFacet,
            output_statistics=facet.OutputStatisticsOutputDatasetFacet,
            version=import_module(f"{generated}dataset_version_dataset").DatasetVersionDatasetFacet,
        )
    except ImportError:
        return None


def note_lineage(hook: BaseHook, *, inputs: Iterable[str] = (), outputs: Iterable[str] = ()) -> None:
    """Tell Airflow's hook lineage which URIs a hook read and wrote."""
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
    for uri in inputs:
        collector.add_input_asset(hook, uri=uri)
    for uri in outputs:
        collector.add_output_asset(hook, uri=uri)


def running_context() -> Context | None:
    """Return the context of the task that runs in this process, None outside a task."""
    try:
        return get_current_context()
    except (RuntimeError, AirflowException):  # 3.x and 2.11 in turn
        return None


def google_credentials(gcp_conn_id: str, impersonation_chain: str | Sequence[str] | None) -> Any:
    """Return the google.auth credentials of an Airflow connection. This imports the Google provider: a second."""
    from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

    return GoogleBaseHook(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain).get_credentials()
