"""The last line of a failed task's log: which object, why, and what to do.

Airflow logs the error of a task with its traceback, which fills a window. After that it tells its listeners, of which
this is one. Airflow calls it for every failed task of the deployment: it does nothing for an error that is not ours.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow_dataflux.core.errors import DatafluxError

_log = logging.getLogger(__name__)


@hookimpl
def on_task_instance_failed(error: object) -> None:
    """Log an error of the core, or one that was made of it, as one short line."""
    errors = sys.modules.get("airflow_dataflux.core.errors")
    if errors is None:  # nothing in this process can have raised one
        return
    for each in (error, getattr(error, "__cause__", None)):
        if isinstance(each, errors.DatafluxError):
            _tell(each)
            return


def _tell(error: DatafluxError) -> None:
    from airflow_dataflux.compat import has_plugin_pages
    from airflow_dataflux.short_errors import short_line

    if has_plugin_pages():  # Airflow 3 is in a group by now, and its UI shows groups collapsed
        _log.info("::endgroup::")
    _log.error("%s", short_line(error))
