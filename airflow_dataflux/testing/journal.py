"""What happened: counters of requests, and a log of the last of them, for tests to assert on."""

from __future__ import annotations

from collections import deque

from airflow_dataflux.testing.orders import RequestCounters, RequestRecord

_KEPT = 20_000
"""Requests in the log; about 20 MB."""


class Journal:
    """Counters and log of one server."""

    def __init__(self) -> None:
        self.counters = RequestCounters()
        self._log: deque[RequestRecord] = deque(maxlen=_KEPT)

    def begin(self) -> None:
        """Count an HTTP request that is being served."""
        self.counters.in_flight += 1
        self.counters.in_flight_peak = max(self.counters.in_flight_peak, self.counters.in_flight)

    def end(self) -> None:
        """Count it as served."""
        self.counters.in_flight -= 1

    def note(self, record: RequestRecord, rows: int = 0) -> None:
        """Count and log an answer."""
        counters = self.counters
        counters.operations[record.operation] = counters.operations.get(record.operation, 0) + 1
        status = str(record.status)
        counters.statuses[status] = counters.statuses.get(status, 0) + 1
        counters.bytes_sent += record.bytes_sent
        counters.rows += rows
        self._log.append(record)

    def forget(self) -> None:
        """Start counting anew."""
        in_flight = self.counters.in_flight
        self.counters = RequestCounters(in_flight=in_flight, in_flight_peak=in_flight)
        self._log.clear()

    def log(self, operation: str | None) -> list[RequestRecord]:
        """Return the logged requests, oldest first."""
        return [record for record in self._log if operation in (None, record.operation)]
