"""The plugin as each of Airflow's lines loads it."""

from __future__ import annotations

import pytest
from dag_runs import AIRFLOW_3, AIRFLOW_3_0


@pytest.mark.usefixtures("airflow_database")
def test_the_plugin_loads_without_an_error() -> None:
    from airflow import plugins_manager

    info = {one["name"]: one for one in plugins_manager.get_plugin_info()}
    assert "dataflux" in info
    told = getattr(plugins_manager, "get_import_errors", None)  # 3.2 on
    assert (plugins_manager.import_errors if told is None else told()) == {}
    if not AIRFLOW_3:
        return
    assert [one["url_prefix"] for one in info["dataflux"]["fastapi_apps"]] == ["/dataflux"]
    if AIRFLOW_3_0:
        return  # plugins have no entries in the menu
    assert [(one["href"], one["destination"]) for one in info["dataflux"]["external_views"]] == [("dataflux/", "nav")]
