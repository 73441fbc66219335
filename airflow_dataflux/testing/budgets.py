"""Request budgets of each bucket: a token bucket for reads, writes and lists, above which the answer is 429."""

from __future__ import annotations

import time

from airflow_dataflux.testing.orders import Settings
from airflow_dataflux.testing.refusals import Refusal
from airflow_dataflux.testing.routes import WRITES


class _Allowance:
    """Refills steadily up to a burst."""

    __slots__ = ("_left", "_most", "_rate", "_when")

    def __init__(self, rate: float, burst_s: float) -> None:
        self._rate = rate
        self._most = max(1.0, rate * burst_s)
        self._left = self._most
        self._when = time.monotonic()

    def take(self) -> bool:
        """Take one, if there is one."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._when) * self._rate)
        self._when = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Budgets:
    """The allowances of all buckets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._allowances: dict[tuple[str, str], _Allowance] = {}

    def spend(self, operation: str, bucket: str) -> None:
        """Take one request from a bucket's budgets. Raises Refusal (429) if one of them is used up."""
        settings = self._settings
        if operation == "batch":
            return  # its calls are counted one by one
        kinds: list[tuple[str, float | None]] = (
            [("writes", settings.writes_per_s)] if operation in WRITES else [("reads", settings.reads_per_s)]
        )
        if operation == "list":
            kinds.append(("lists", settings.lists_per_s))
        for kind, rate in kinds:
            if rate is None:
                continue
            allowance = self._allowances.get((bucket, kind))
            if allowance is None:
                allowance = self._allowances[bucket, kind] = _Allowance(rate, settings.budget_burst_s)
            if not allowance.take():
                after = settings.retry_after_s
                raise Refusal(
                    429,
                    "rateLimitExceeded",
                    f"The bucket {bucket} exceeded its rate of {kind}. Please reduce your request rate.",
                    headers={} if after is None else {"Retry-After": f"{after:g}"},
                )
