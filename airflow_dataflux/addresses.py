"""Addresses that a browser opens (pure): what links of tasks and this package's own pages share.

Guarantee: every address of an own page is relative. Airflow's UI resolves one against its <base>, which is the path of
`[api] base_url`, so that links hold below whatever path a proxy serves Airflow at.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote, urlencode

PAGES = "dataflux"
"""Where the API server has the pages, below its base."""

_CONSOLE = "https://console.cloud.google.com/storage/browser"

Document = Literal["report", "manifest", "receipt"]
"""What is shown of a task instance. The task tells where it is under the XCom key of `document_key`."""


PROGRESS_KEY = "dataflux_progress"
"""Key under which a running task tells how far it is: in Airflow's store of task states (3.3), else an XCom."""

ERROR_KEY = "dataflux_error"
"""XCom key under which a task that fails tells why: a dictionary with its `error`."""


def document_key(document: Document) -> str:
    """Return the XCom key under which a task tells of a document: a dictionary with its `uri`."""
    return f"dataflux_{document}"


def document_address(document: Document, *, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
    """Return where a document of a task instance is shown, relative to the pages."""
    fields = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
    return f"{document}?{urlencode(fields)}"


def bucket_address(bucket: str, prefix: str = "") -> str:
    """Return the console's page of a bucket, opened at `prefix`."""
    directory, slash, rest = prefix.rpartition("/")
    page = f"{_CONSOLE}/{quote(bucket)}" + (f"/{quote(directory)}" if slash else "") + ";tab=objects"
    return page + (f"?prefix={quote(rest, safe='')}" if rest else "")


def file_address(uri: str, name: str) -> str:
    """Return where a person opens the file `name` of the directory `uri`: the console for gs://, else its URI."""
    directory = uri.rstrip("/")
    if directory.startswith("gs://"):
        bucket, _, path = directory.removeprefix("gs://").partition("/")
        return f"{_CONSOLE}/_details/{quote(bucket)}/{quote(f'{path}/{name}'.lstrip('/'))}"
    if directory.startswith("/"):
        directory = f"file://{quote(directory)}"
    return f"{directory}/{name}"
