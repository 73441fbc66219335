"""What an error of the core means to Airflow: skip, try again, or fail at once.

Guarantee: the core's error stays the cause of the raised exception, with all its details. What is not an error of the
core passes unchanged: Airflow's own exceptions, its time-out, and plain bugs.
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_dataflux.addresses import ERROR_KEY
from airflow_dataflux.compat import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    has_plugin_pages,
    running_context,
)
from airflow_dataflux.core.errors import CancelledError, DatafluxError, SkippedError
from airflow_dataflux.short_errors import LINE_CHARACTERS

_log = logging.getLogger(__name__)

_KEPT_CHARACTERS = 2000
"""Of an error, for the page Dataflux: an XCom is a row of the database."""


@contextmanager
def airflow_outcomes() -> Iterator[None]:
    """Turn errors of the core into Airflow's outcomes.

    Raises:
        AirflowSkipException: the request asked for that where there is nothing to do.
        AirflowFailException: doing the same again cannot help; the task fails without a retry.
        AirflowException: it can; the task's `retries` decide. A cancelled task is of this kind: where its end was
            wanted (marked as failed, cleared) Airflow knows the state already, and where it was not (a worker that
            shuts down) the next try goes on.
    """
    try:
        yield
    except SkippedError as error:
        raise AirflowSkipException(str(error)) from error
    except DatafluxError as error:
        again = error.retryable or isinstance(error, CancelledError)
        sentence = f"{type(error).__name__}: {error}"
        _tell(sentence)
        raise (AirflowException if again else AirflowFailException)(sentence) from error


def _tell(sentence: str) -> None:
    """Log why the task fails as one entry, and keep it for the page.

    Airflow's own entry with its traceback follows, and a last line (`plugin.failed_tasks`).
    """
    words = " ".join(sentence.split())
    if has_plugin_pages():
        words = textwrap.fill(words, LINE_CHARACTERS, break_long_words=False, break_on_hyphens=False)
    _log.error("%s", words)
    context = running_context()
    if context is None or not has_plugin_pages():
        return
    try:
        context["ti"].xcom_push(key=ERROR_KEY, value={"error": sentence[:_KEPT_CHARACTERS]})
    except Exception:  # noqa: BLE001 - whatever it is, the error itself is what the task must end with
        _log.debug("The error could not be kept for the page Dataflux", exc_info=True)
