"""The only module that knows Airflow's versions: 2.11 and 3.x behind one set of names.

Most names are those of `airflow.providers.common.compat.sdk`, which resolves each on first use, so that a DAG file
pays only for what it needs. What is written out here is what that package does not cover.
"""

from __future__ import annotations

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
    Stats,
    XCom,
    conf,
    get_current_context,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    "XCom",
    "count_metric",
    "google_credentials",
    "max_map_length",
    "note_lineage",
    "running_context",
]


def max_map_length() -> int:
    """Return how many instances this deployment lets one mapped task have."""
    return int(conf.getint("core", "max_map_length", fallback=1024))


def count_metric(name: str, value: int) -> None:
    """Add to a counter of this deployment's metrics; nothing happens where none are collected."""
    Stats.incr(name, value)


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
