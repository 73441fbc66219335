"""Log records on their way from worker processes to the Airflow task.

A record is formatted where it was made (its arguments may not pickle) and handled again where it arrives, under its
own logger, so that the task's handlers, levels and filters decide what becomes of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PACKAGE_LOGGER = "airflow_dataflux"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One record that can be pickled."""

    logger: str
    level: int
    text: str


class RecordHandler(logging.Handler):
    """Gives every record of this package to `post`."""

    def __init__(self, post: Callable[[object], None]) -> None:
        super().__init__()
        self._post = post

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record, its traceback included."""
        self._post(LogLine(record.name, record.levelno, self.format(record)))

    @contextmanager
    def installed(self, level: int) -> Iterator[None]:
        """Take the place of all handlers of the package's logger while the block runs."""
        logger = logging.getLogger(PACKAGE_LOGGER)
        before = logger.handlers[:], logger.level, logger.propagate
        logger.handlers[:], logger.propagate = [self], False
        logger.setLevel(level)
        try:
            yield
        finally:
            logger.handlers[:], logger.propagate = before[0], before[2]
            logger.setLevel(before[1])


def forward_records(frame: object) -> None:
    """Log a LogLine here; ignore anything else."""
    if isinstance(frame, LogLine):
        # "%s" keeps a percent sign in the text from being read as a format.
        logging.getLogger(frame.logger).log(frame.level, "%s", frame.text)
