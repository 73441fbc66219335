"""Composite or direct read: what `auto` decides before it knows anything of this run (pure).

`ways.py` corrects it group by group, by what was measured since. Two questions with a number each:
- *Is this object small enough?* A composed object saves a round trip, and where the bucket keeps deleted objects its
  bytes are paid for all that time. The break-even size follows from the prices and from what a second is worth.
- *Are there enough of them?* A handful of objects is read sooner than a composite is made.

Both say only how, never what: composed and direct reads stage the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_dataflux.core.gcs.store import MAX_COMPONENTS
from airflow_dataflux.core.staging.cost import Prices

AUTO_MAX_OBJECT_BYTES = 1 << 20
"""`auto` composes no larger object: at the usual 80 MB/s of a connection, reading 1 MiB takes a third of a direct
read's round trip, so what composing saves becomes small against the bytes themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latencies:
    """Seconds that requests take, as far as that is known before the first one: those of a near bucket.

    Attributes:
        read_s: to the first byte of a read.
        compose_s, component_s: a compose takes the first, and the second for each of its sources.
        request_cpu_s: processor time of one request here (measured, docs/performance/).
    """

    read_s: float = 0.040
    compose_s: float = 0.120
    component_s: float = 0.003
    request_cpu_s: float = 0.0007


@dataclass(frozen=True, kw_only=True, slots=True)
class Circumstances:
    """What the choice depends on besides the objects.

    Attributes:
        in_flight: requests in flight in all.
        workers: worker processes.
        soft_delete_s: how long the bucket keeps and bills deleted objects.
        second_usd: what a second of the whole staging is worth: a machine of about two dollars an hour waits for it.
    """

    in_flight: int
    workers: int = 1
    soft_delete_s: int = 0
    prices: Prices = field(default_factory=Prices)
    latencies: Latencies = field(default_factory=Latencies)
    second_usd: float = 0.0005


def largest_composed_object(around: Circumstances) -> int:
    """Return the size up to which composing an object, in a full composite, saves more than it costs."""
    prices, latencies = around.prices, around.latencies
    composite_s = latencies.compose_s + MAX_COMPONENTS * latencies.component_s + latencies.read_s
    saved_s = (latencies.read_s - composite_s / MAX_COMPONENTS) / around.in_flight
    composite_usd = (prices.class_a_per_1000 + prices.class_b_per_1000) / 1000 / MAX_COMPONENTS
    gain_usd = saved_s * around.second_usd + prices.class_b_per_1000 / 1000 - composite_usd
    if gain_usd <= 0:
        return 0
    kept_usd_per_gib = prices.soft_deleted(1 << 30, around.soft_delete_s)
    if kept_usd_per_gib == 0:
        return AUTO_MAX_OBJECT_BYTES
    return min(AUTO_MAX_OBJECT_BYTES, int(gain_usd / kept_usd_per_gib * (1 << 30)))


def composing_is_faster(count: int, around: Circumstances) -> bool:
    """Return whether `count` small objects are here sooner composed than read one by one."""
    latencies = around.latencies
    composites = -(-count // MAX_COMPONENTS)
    largest = min(count, MAX_COMPONENTS)
    composite_s = latencies.compose_s + largest * latencies.component_s + latencies.read_s
    cpu_s = latencies.request_cpu_s / around.workers
    composed_s = max(_rounds(composites, around.in_flight) * composite_s, 2 * composites * cpu_s)
    direct_s = max(_rounds(count, around.in_flight) * latencies.read_s, count * cpu_s)
    return composed_s < direct_s


def _rounds(requests: int, in_flight: int) -> float:
    """Return how many times a connection is used; the last round may be a part of one, but not less than one."""
    return max(1.0, requests / in_flight) if requests else 0.0


@dataclass(slots=True)
class SizeHistogram:
    """How many objects there are of each order of magnitude of size, for a choice before the plan is made."""

    counts: list[int] = field(default_factory=lambda: [0] * 64)

    def add(self, sizes: Sequence[int]) -> None:
        """Count objects of these sizes."""
        for size in sizes:
            self.counts[size.bit_length()] += 1

    def up_to(self, size: int) -> int:
        """Return about how many objects have 1 to `size` bytes (whole powers of two only)."""
        return sum(self.counts[1 : size.bit_length()])
