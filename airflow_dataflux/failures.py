"""What an error of the core means to Airflow: try again, or fail at once.

Guarantee: the core's error stays the cause of the raised exception, with all its details. What is not an error of the
core passes unchanged: Airflow's own exceptions, its time-out, and plain bugs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_dataflux.compat import AirflowException, AirflowFailException
from airflow_dataflux.core.errors import CancelledError, DatafluxError


@contextmanager
def airflow_outcomes() -> Iterator[None]:
    """Turn errors of the core into Airflow's outcomes.

    Raises:
        AirflowFailException: doing the same again cannot help; the task fails without a retry.
        AirflowException: it can; the task's `retries` decide. A cancelled task is of this kind: where its end was
            wanted (marked as failed, cleared) Airflow knows the state already, and where it was not (a worker that
            shuts down) the next try goes on.
    """
    try:
        yield
    except DatafluxError as error:
        again = error.retryable or isinstance(error, CancelledError)
        raise (AirflowException if again else AirflowFailException)(f"{type(error).__name__}: {error}") from error
