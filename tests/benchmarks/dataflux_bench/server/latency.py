"""How long the service lets a caller wait, and how many requests it accepts."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field


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
    seed: int = 0

    def page_s(self, rows: int) -> float:
        """Return the mean latency of a listing page."""
        return self.list_s + self.list_per_1000_rows_s * rows / 1000


@dataclass(slots=True)
class Budget:
    """A bucket of tokens that fills at `per_s`."""

    per_s: float
    burst_s: float
    clock: Callable[[], float] = time.monotonic
    _tokens: float = field(init=False)
    _filled_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = max(1.0, self.per_s * self.burst_s)
        self._filled_at = self.clock()

    def take(self, cost: float = 1.0) -> bool:
        """Return whether the budget allows a request of this cost, and if so, spend it."""
        now = self.clock()
        most = max(1.0, self.per_s * self.burst_s)
        self._tokens = min(most, self._tokens + (now - self._filled_at) * self.per_s)
        self._filled_at = now
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True


class Service:
    """A model at work: draws latencies and keeps the budgets."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._random = random.Random(model.seed)
        self._budgets = {
            kind: Budget(per_s, model.burst_s)
            for kind, per_s in (
                ("list", model.lists_per_s),
                ("read", model.reads_per_s),
                ("write", model.writes_per_s),
            )
            if per_s is not None
        }

    def jittered(self, mean_s: float) -> float:
        """Return a latency drawn around its mean."""
        jitter = self.model.jitter
        return mean_s * (1 - jitter + 2 * jitter * self._random.random())

    def admits(self, operation: str, calls: int = 1) -> bool:
        """Return whether the budgets let this request in."""
        if not self._budgets:
            return True
        kinds = {
            "list": ("list", "read"),
            "read": ("read",),
            "stat": ("read",),
            "compose": ("write",),
            "delete": ("write",),
            "batch": ("write",),
        }.get(operation, ())
        return all(self._budgets[kind].take(calls) for kind in kinds if kind in self._budgets)
