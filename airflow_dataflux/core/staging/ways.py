"""Compose or read directly, decided group by group from what both ways really take in this run (pure).

How it learns: the first groups are composed, except for a few objects of the first of them, which are read directly.
Each batch that comes back says how long it took beside what was expected of it; the two smoothed ratios correct the
expectations for the groups to come. Now and then a few objects go the way that is not taken, so that a change of
either is noticed. What a request waits for its turn in a paced budget counts as its time: where writes are throttled,
composites become slow here, and just as many objects as the write rate cannot carry are read directly.

Says only how, never what: both ways stage the same bytes. One thread: the owner's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_dataflux.core.gcs.store import MAX_COMPONENTS
from airflow_dataflux.core.staging.choice import AUTO_MAX_OBJECT_BYTES, Circumstances

_PROBES = 3
_PROBE_OBJECTS = 4
"""Twelve objects that go the other way at first: a thousandth of the work where learning pays at all."""

_PROBE_EVERY = 64
"""Groups between two later probes: about 2,000 objects."""

_LEARNING_ROUNDS = 8
"""Learning needs several rounds of requests: with fewer, all is under way before the first answer is back."""

_SMOOTHING = 0.25
"""What a new measurement counts for: four or five of them carry a change, one that was unlucky does not."""

_MOST_JUMP = 4.0
"""No measurement counts for more than this many times what was known: a stalled connection is not the rule."""

_CONNECTION_BYTES_PER_S = 80e6
"""A usual connection's bandwidth; only the sizes' share of the expectation, which the ratios correct."""

FASTER_DIRECTLY = "direct reads are faster here, as measured in this run"
PROBED = "read directly to measure how long that takes"


@dataclass(slots=True)
class _Ratio:
    """Seconds taken to seconds expected, smoothed; 1 until something was measured."""

    value: float = 1.0
    measured: int = 0

    def add(self, ratio: float) -> None:
        bounded = min(max(ratio, self.value / _MOST_JUMP), self.value * _MOST_JUMP)
        self.value += (_SMOOTHING if self.measured else 1.0) * (bounded - self.value)
        self.measured += 1


class Ways:
    """Chooses the way of each group of objects that may be composed."""

    def __init__(self, around: Circumstances, count: int) -> None:
        """`count` objects may be composed."""
        self._around = around
        self._learns = count >= _LEARNING_ROUNDS * around.in_flight
        self._composed = _Ratio()
        self._direct = _Ratio()
        self._groups = 0

    @property
    def measured(self) -> tuple[int, int]:
        """How many composites and how many direct batches were measured."""
        return self._composed.measured, self._direct.measured

    def took(self, sizes: Sequence[int], seconds: float, *, composed: bool) -> None:
        """Note how long a thread was busy with a batch; of large objects it tells nothing about small ones."""
        count, total_bytes = len(sizes), sum(sizes)
        if not count or total_bytes > count * AUTO_MAX_OBJECT_BYTES:
            return
        expected_s = self._composed_s(count, total_bytes) if composed else self._direct_s(count, total_bytes)
        (self._composed if composed else self._direct).add(seconds / expected_s)

    def read_directly(self, sizes: Sequence[int]) -> int:
        """Return how many objects of the next group, from its front, to read directly; the others are composed."""
        self._groups += 1
        if not self._learns:
            return 0
        count = len(sizes)
        composing = self._composing_pays(count, sum(sizes))
        probing = self._groups <= _PROBES or self._groups % _PROBE_EVERY == 0
        if composing:
            return min(_PROBE_OBJECTS, count) if probing else 0
        return 0 if probing else count

    def _composing_pays(self, count: int, total_bytes: int) -> bool:
        """Return whether a composite of so many objects is faster, and worth what it costs."""
        around, prices = self._around, self._around.prices
        cpu_s = around.latencies.request_cpu_s / around.workers
        composed_s = self._composed.value * self._composed_s(count, total_bytes)
        direct_s = self._direct.value * self._direct_s(count, total_bytes)
        saved_s = max(direct_s / around.in_flight, count * cpu_s) - max(composed_s / around.in_flight, 2 * cpu_s)
        saved_usd = ((count - 1) * prices.class_b_per_1000 - prices.class_a_per_1000) / 1000
        saved_usd -= prices.soft_deleted(total_bytes, around.soft_delete_s)
        return saved_s >= 0 and saved_s * around.second_usd + saved_usd >= 0

    def _composed_s(self, count: int, total_bytes: int) -> float:
        latencies = self._around.latencies
        compose_s = latencies.compose_s + min(count, MAX_COMPONENTS) * latencies.component_s
        return compose_s + latencies.read_s + total_bytes / _CONNECTION_BYTES_PER_S

    def _direct_s(self, count: int, total_bytes: int) -> float:
        return count * self._around.latencies.read_s + total_bytes / _CONNECTION_BYTES_PER_S
