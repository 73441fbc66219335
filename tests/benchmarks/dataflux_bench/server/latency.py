"""How long the service lets a caller wait, and how many requests it accepts."""

from __future__ import annotations

import random
from dataclasses import dataclass

from airflow_dataflux.testing.faults import TokenBucket


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Modelled latency and limits. The numbers are those of the issue that asked for this benchmark.

    Attributes:
        list_s, list_per_1000_rows_s: a listing page.
        read_s: first byte of a read.
        compose_s, compose_per_source_s: a compose.
        delete_s: a delete, and a batch of deletes.
        batch_per_call_s: each call of a batch besides.
        other_s: metadata of objects and buckets, permissions.
        bytes_per_s: bandwidth of one connection for contents.
        jitter: every latency varies evenly by this fraction to either side.
        page_cap: most rows of a listing page.
        lists_per_s, reads_per_s, writes_per_s: budgets, above which the answer is 429; None is unlimited. A list is a
            read, too; a compose and a delete are writes.
        stalls: this part of the answers takes `stall_s` longer.
        burst_s: an idle budget holds this many seconds' worth.
        seed: of the jitter.
    """

    list_s: float = 0.040
    list_per_1000_rows_s: float = 0.025
    read_s: float = 0.040
    compose_s: float = 0.120
    compose_per_source_s: float = 0.003
    delete_s: float = 0.030
    batch_per_call_s: float = 0.003
    other_s: float = 0.040
    bytes_per_s: float = 80e6
    jitter: float = 0.2
    page_cap: int = 1000
    lists_per_s: float | None = None
    reads_per_s: float | None = None
    writes_per_s: float | None = None
    burst_s: float = 0.25
    stalls: float = 0.0
    stall_s: float = 2.0
    seed: int = 0

    def page_s(self, rows: int) -> float:
        """Return the mean latency of a listing page."""
        return self.list_s + self.list_per_1000_rows_s * rows / 1000


class Service:
    """A model at work: draws latencies and keeps the budgets."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._random = random.Random(model.seed)
        self._budgets = {
            kind: TokenBucket(per_s, model.burst_s)
            for kind, per_s in (
                ("list", model.lists_per_s),
                ("read", model.reads_per_s),
                ("write", model.writes_per_s),
            )
            if per_s is not None
        }

    def jittered(self, mean_s: float) -> float:
        """Return a latency drawn around its mean; now and then one that is much longer."""
        model = self.model
        stalled_s = model.stall_s if model.stalls and self._random.random() < model.stalls else 0.0
        return mean_s * (1 - model.jitter + 2 * model.jitter * self._random.random()) + stalled_s

    def admits(self, operation: str) -> bool:
        """Return whether the budgets let this request in, or this call of a batch."""
        if not self._budgets:
            return True
        kinds = {
            "list": ("list", "read"),
            "read": ("read",),
            "stat": ("read",),
            "compose": ("write",),
            "delete": ("write",),
        }.get(operation, ())
        return all(self._budgets[kind].take() for kind in kinds if kind in self._budgets)
