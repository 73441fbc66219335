"""A staging's worker in virtual time: threads, a processor, a disk and two request budgets, without a request.

What `transfer.Transfer` does with a `StrategyChooser` is done by generators, so that a regime of latencies and limits
takes milliseconds to try, and always gives the same result.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field

from airflow_dataflux.core.gcs.store import MAX_COMPONENTS, Pace
from airflow_dataflux.core.staging.helped_group import FIRST_HELPERS
from airflow_dataflux.core.staging.strategy import (
    AWAITED,
    PROBED,
    ChooserInputs,
    RunConditions,
    StrategyChooser,
    help_pays,
)

DIRECT_CPU_S, COMPOSITE_CPU_S, COMPOSED_CPU_S = 0.0007, 0.0014, 0.0001
"""Of an object read directly, of a composite's two requests, and of an object cut out of one, as measured."""


@dataclass(frozen=True, kw_only=True)
class Regime:
    """What the worker meets; the defaults are the usual ones."""

    count: int = 11_098
    size: int = 10_240
    threads: int = 160
    read_s: float = 0.040
    compose_s: float = 0.120
    writes_per_s: float | None = None
    reads_per_s: float | None = None
    file_s: float = 0.0
    busy: float = 1.0
    stalls: float = 0.0


LOOKS_EVERY_S = 0.002
"""How often a thread that has nothing to do looks whether it may help."""

REFUSAL_S, BACK_OFF_S = 0.03, 0.25
"""Until a refusal is answered, and at most until the refused request is tried again."""


class _Line:
    """What serves one after the other: a processor, a disk."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def take(self, now: float, seconds: float) -> float:
        """Return when it is done."""
        self._free_at = max(now, self._free_at) + seconds
        return self._free_at


class _Budget:
    """The rate of requests that a bucket bears, and what the client has found of it."""

    def __init__(self, per_s: float | None) -> None:
        self._per_s = per_s
        self._next_at = 0.0
        self._found_at = math.inf

    def pace(self, now: float) -> Pace:
        return Pace(
            kept_per_s=self._per_s if now >= self._found_at else None,
            turn_s=max(0.0, self._next_at - now) if now >= self._found_at else 0.0,
        )

    def refuses(self, now: float, weight: int = 1) -> bool:
        """Return whether a request is refused, because the client does not know of a limit yet."""
        if self._per_s is None or now >= self._found_at:
            return False
        refused = max(now - 0.25, self._next_at) + weight / self._per_s > now
        if refused:
            self._found_at = min(self._found_at, now + REFUSAL_S)
        return refused

    def turn(self, now: float, weight: int = 1) -> float:
        """Return when a request may begin. A queue longer than the bucket's reserve is what the client finds."""
        if self._per_s is None:
            return now
        self._next_at = max(now - 0.25, self._next_at) + weight / self._per_s
        if self._next_at > now:
            self._found_at = min(self._found_at, now)
        return max(now, self._next_at)


Steps = Generator[float | None, float, None]
"""Yields when to go on, None for: once a composite is over, or it took too long; is sent the time."""


@dataclass
class _Awaited:
    """A group whose composite is awaited: how many of its objects nobody has taken."""

    left: int


@dataclass
class Outcome:
    """How a staging went."""

    seconds: float = 0.0
    composites: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def simulate(regime: Regime, strategy: str = "auto", seed: int = 0) -> Outcome:
    """Stage as `strategy` says."""
    return _Simulation(regime, strategy, seed).run()


class _Simulation:
    def __init__(self, regime: Regime, strategy: str, seed: int) -> None:
        self.regime, self.strategy = regime, strategy
        self.random = random.Random(seed)
        self.outcome = Outcome()
        self.processor, self.disk = _Line(), _Line()
        self.writes, self.reads = _Budget(regime.writes_per_s), _Budget(regime.reads_per_s)
        choice = ChooserInputs(conditions=RunConditions(in_flight=regime.threads), count=regime.count)
        self.chooser = StrategyChooser(choice, regime.threads)
        whole, rest = divmod(regime.count, MAX_COMPONENTS)
        self.groups = [MAX_COMPONENTS] * whole + [rest] * (rest > 0)
        self.waiting: list[Steps] = []
        self.answered = False
        self.awaited = 0
        self.offers: list[_Awaited] = []

    def run(self) -> Outcome:
        """Let all threads run until nothing is left."""
        events: list[tuple[float, int, Steps]] = []
        order = 0

        def go_on(steps: Steps, now: float) -> None:
            nonlocal order
            try:
                at = steps.send(now)
            except StopIteration:
                self.outcome.seconds = max(self.outcome.seconds, now)
                return
            if at is None:
                self.waiting.append(steps)
            else:
                order += 1
                heapq.heappush(events, (at, order, steps))

        for _ in range(self.regime.threads):
            steps = self.thread()
            next(steps)
            go_on(steps, 0.0)
        while events:
            if self.waiting and events[0][0] >= self.chooser.patience_s:  # all began to wait at 0
                self.chooser.answered()
                self.answered, now = True, self.chooser.patience_s
            else:
                now, _, steps = heapq.heappop(events)
                go_on(steps, now)
            while self.answered and self.waiting:
                order += 1
                heapq.heappush(events, (now, order, self.waiting.pop()))
            self.answered = False
        assert not self.groups
        return self.outcome

    def latency(self, mean_s: float) -> float:
        stalled_s = 2.0 if self.random.random() < self.regime.stalls else 0.0
        return mean_s * self.random.uniform(0.8, 1.2) + stalled_s

    def compute(self, now: float, seconds: float) -> float:
        return self.processor.take(now, seconds * self.regime.busy)

    def thread(self) -> Steps:
        now = yield 0.0
        while self.groups:
            count = self.groups.pop()
            if self.strategy == "direct":
                now = yield from self.read(now, count)
                continue
            choose = self.chooser.first
            while count:
                if self.strategy == "auto":
                    way = choose([self.regime.size] * count, self.reads.pace(now), self.writes.pace(now))
                    if way.wait:
                        now = yield None
                        continue
                    if way.probe:
                        self.outcome.reasons[PROBED] += 1
                        now, fetched = yield from self.compose(now, count - 1)
                        now = yield from self.read(now, 1)
                        choose = self.chooser.following
                        count -= fetched + 1
                        continue
                    if way.direct:
                        self.outcome.reasons[way.reason] += way.direct
                        now = yield from self.read(now, way.direct)
                        count -= way.direct
                        choose = self.chooser.following
                        continue
                now, fetched = yield from self.compose(now, count, helped=self.strategy == "auto")
                choose = self.chooser.following
                count -= fetched
        while self.awaited and help_pays([self.regime.size]):
            now = yield now + LOOKS_EVERY_S
            if self.offers and self.reads.pace(now).kept_per_s is None:
                now = yield from self.help(now, self.offers.pop(0))

    def help(self, now: float, group: _Awaited) -> Generator[float | None, float, float]:
        """Read objects of a group whose composite is awaited."""
        while group.left and self.reads.pace(now).kept_per_s is None:
            group.left -= 1
            self.outcome.reasons[AWAITED] += 1
            now = yield from self.read(now, 1, measured=False)
            self.offers.append(group)
        return now

    def read(self, now: float, count: int, *, measured: bool = True) -> Generator[float | None, float, float]:
        network_s = 0.0
        for _ in range(count):
            now = yield self.reads.turn(now)
            began = now
            now = yield now + self.latency(self.regime.read_s) + self.regime.size / 80e6
            now = yield self.compute(now, DIRECT_CPU_S)
            network_s += now - began  # a thread that waits for the processor cannot tell that from the network
            now = yield self.disk.take(now, self.regime.file_s)
        if self.strategy == "auto" and measured:
            self.chooser.read([self.regime.size] * count, network_s, count * DIRECT_CPU_S)
        return now

    def compose(
        self, now: float, count: int, *, helped: bool = False
    ) -> Generator[float | None, float, tuple[float, int]]:
        """Fetch so many objects by a composite; return how many were, as the compose may be given up."""
        regime, sizes = self.regime, [self.regime.size] * count
        group = _Awaited(count)
        if helped and help_pays(sizes):
            self.offers += [group] * FIRST_HELPERS
        self.awaited += 1
        if self.writes.refuses(now, 2):
            now = yield now + REFUSAL_S + self.random.uniform(0, BACK_OFF_S)
            paces = self.reads.pace(now), self.writes.pace(now)
            if self.strategy == "auto" and not self.chooser.still_composes(sizes, *paces):
                self.chooser.composed(sizes, 0.0, 0.0)
                self.answered = True
                self.awaited -= 1
                left, group.left = group.left, 0
                return now, count - left
        self.outcome.composites += 1
        now = yield self.writes.turn(now, 2)
        began = now
        now = yield now + self.latency(regime.compose_s + 0.003 * count)
        self.awaited -= 1
        network_s = now - began
        self.chooser.answered()
        self.answered = True
        cut, group.left = group.left, 0
        cpu_s = 0.0
        if cut:
            now = yield self.reads.turn(now)
            began = now
            now = yield now + self.latency(regime.read_s) + cut * regime.size / 80e6
            network_s += now - began
            cpu_s = COMPOSITE_CPU_S + cut * COMPOSED_CPU_S
            now = yield self.compute(now, cpu_s)
            now = yield self.disk.take(now, cut * regime.file_s)
        if self.strategy == "auto":
            self.chooser.composed(sizes, network_s if cut == count else 0.0, cpu_s)
        return now, count
