"""Errors on their way to another process: any exception becomes one that is sure to arrive."""

from __future__ import annotations

import logging
import pickle

from airflow_dataflux.core.errors import EngineError

logger = logging.getLogger(__name__)


def portable_error(error: BaseException) -> BaseException:
    """Return `error` if it survives pickling, else an EngineError that quotes it; log its traceback at DEBUG."""
    logger.debug("Sending an error to the parent process", exc_info=error)
    try:
        arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes, made one call earlier
    except Exception:  # noqa: BLE001 - whatever a foreign exception's pickling raises, the answer is the same
        arrived = None
    if type(arrived) is type(error):
        return error
    return EngineError(f"{type(error).__name__}: {error}")
