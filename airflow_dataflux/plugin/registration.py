"""The plugin as Airflow finds it (entry point `airflow.plugins`).

Guarantee: loading it costs three small modules. Every Airflow process loads plugins, the one that parses DAGs too, so
the web application is made when the API server asks for it, and nowhere else. Airflow 2.11 never asks.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_dataflux.addresses import PAGES
from airflow_dataflux.plugin import failed_tasks

URL_PREFIX = f"/{PAGES}"

log = logging.getLogger(__name__)


class DatafluxPlugin(AirflowPlugin):
    """Adds "Dataflux" to the menu "Browse", and a last line to the log of a task that failed with one of our errors."""

    name = "dataflux"
    listeners = [failed_tasks]  # noqa: RUF012 - Airflow's own declaration

    # Relative to the UI's <base>, so it holds below whatever path a proxy serves Airflow at.
    external_views = [  # noqa: RUF012 - Airflow's own declaration
        {
            "name": "Dataflux",
            "href": f"{PAGES}/",
            "destination": "nav",
            "category": "browse",
            "url_route": "dataflux",
        }
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # a class variable in Airflow
        """The web application, made on first use."""
        try:
            from airflow_dataflux.plugin.app import make_app
        except ImportError:
            # An API server without this page is better than none.
            log.exception("This version of Airflow cannot show the page Dataflux")
            return []
        return [{"app": make_app(), "url_prefix": URL_PREFIX, "name": "Dataflux"}]
