"""Addresses of this package's own pages in Airflow's UI (pure): what links of tasks and the pages themselves share.

Guarantee: every address is relative. The UI resolves one against its <base>, which is the path of `[api] base_url`, so
that links hold below whatever path a proxy serves Airflow at.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlencode

PAGES = "dataflux"
"""Where the API server has the pages, below its base."""

Document = Literal["report", "manifest", "receipt"]
"""What is shown of a task instance. The task tells where it is under the XCom key of `document_key`."""


def document_key(document: Document) -> str:
    """Return the XCom key under which a task tells of a document: a dictionary with its `uri`."""
    return f"dataflux_{document}"


def document_address(document: Document, *, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
    """Return where a document of a task instance is shown, relative to the pages."""
    fields = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
    return f"{document}?{urlencode(fields)}"
