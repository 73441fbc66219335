"""Composite or direct read, worker processes or threads: how a staging fetches, never what (pure).

Before anything of this run is known, `auto` asks two questions with a number each:
- *Is this object small enough?* A composed object saves a round trip, and where the bucket keeps deleted objects its
  bytes are paid for all that time. The break-even size follows from the prices and from what a second is worth.
- *Are there enough of them?* A handful of objects is read sooner than a composite is made.

While it runs, a `StrategyChooser` in each worker decides, when a thread begins with a group, from what both ways really
take: the time that requests are under way, the processor time, and the rates that the bucket was found to bear, each
measured by itself. The first groups are composed, except for the last object of each, which is read directly after
the composite. Now and then a few objects go the way that is not taken, so that a change of either is noticed. Where the
bucket's rate of writes limits composing, what it cannot carry is read directly, four objects at a time, so that both
rates are used. Idle threads read large objects of a group directly while its composite is awaited (`helped_group.py`).

An engine with its workers costs half a second and 0.8 CPU-seconds to start; from then on it has the cores for itself,
where threads of one process share one. Measured beside other work, 11,098 objects of 10 KiB took 2.4 s and 1.6
CPU-seconds by threads of the calling process, 4.0 s and 2.5 by an engine with two workers; 5,000 objects of 100 KiB
took 2.1 s and 1.3, and 3.8 s and 1.9. A guess that is wrong costs a second or two.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

import msgspec

from airflow_dataflux.core.config import Strategy
from airflow_dataflux.core.gcs.store import MAX_COMPONENTS, Pace
from airflow_dataflux.core.staging.cost import Prices

AUTO_MAX_OBJECT_BYTES = 1 << 20
"""`auto` composes no larger object: at the usual 80 MB/s of a connection, reading 1 MiB takes a third of a direct
read's round trip, so what composing saves becomes small against the bytes themselves."""


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
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


class RunConditions(msgspec.Struct, frozen=True, kw_only=True):
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
    prices: Prices = msgspec.field(default_factory=Prices)
    latencies: Latencies = msgspec.field(default_factory=Latencies)
    second_usd: float = 0.0005


def largest_composed_object(conditions: RunConditions) -> int:
    """Return the size up to which composing an object, in a full composite, saves more than it costs."""
    prices, latencies = conditions.prices, conditions.latencies
    composite_s = latencies.compose_s + MAX_COMPONENTS * latencies.component_s + latencies.read_s
    saved_s = (latencies.read_s - composite_s / MAX_COMPONENTS) / conditions.in_flight
    composite_usd = (prices.class_a_per_1000 + prices.class_b_per_1000) / 1000 / MAX_COMPONENTS
    gain_usd = saved_s * conditions.second_usd + prices.class_b_per_1000 / 1000 - composite_usd
    if gain_usd <= 0:
        return 0
    kept_usd_per_gib = prices.soft_deleted(1 << 30, conditions.soft_delete_s)
    if kept_usd_per_gib == 0:
        return AUTO_MAX_OBJECT_BYTES
    return min(AUTO_MAX_OBJECT_BYTES, int(gain_usd / kept_usd_per_gib * (1 << 30)))


def composing_is_faster(count: int, conditions: RunConditions) -> bool:
    """Return whether `count` small objects are here sooner composed than read one by one."""
    latencies = conditions.latencies
    composites = -(-count // MAX_COMPONENTS)
    largest = min(count, MAX_COMPONENTS)
    composite_s = latencies.compose_s + largest * latencies.component_s + latencies.read_s
    cpu_s = latencies.request_cpu_s / conditions.workers
    composed_s = max(_rounds(composites, conditions.in_flight) * composite_s, 2 * composites * cpu_s)
    direct_s = max(_rounds(count, conditions.in_flight) * latencies.read_s, count * cpu_s)
    return composed_s < direct_s


def _rounds(requests: int, in_flight: int) -> float:
    """Return how many times a connection is used; the last round may be a part of one, but not less than one."""
    return max(1.0, requests / in_flight) if requests else 0.0


class SizeHistogram(msgspec.Struct):
    """How many objects there are of each order of magnitude of size, for a choice before the plan is made."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * 64)

    def add(self, sizes: Sequence[int]) -> None:
        """Count objects of these sizes."""
        for size in sizes:
            self.counts[max(0, size - 1).bit_length()] += 1  # a power of two belongs to what is smaller

    def up_to(self, size: int) -> int:
        """Return about how many objects have up to `size` bytes (whole powers of two only)."""
        return sum(self.counts[: size.bit_length()])


_PROBES = 8
"""Objects that are read directly at first, each after its group was composed: less than a thousandth of the work where
learning pays at all, and each delays one thread by one read."""

_DIVERTED_OBJECTS = 4
"""Objects that are read directly before it is looked again whether a write has its turn."""

_PROBE_EVERY = 64
"""Groups between two later probes of an object: about 2,000 objects."""

_LEARNING_ROUNDS = 8
"""Learning needs several rounds of requests: with fewer, all is under way before the first answer is back."""

_REMEMBERED = 16
"""Measurements of each kind that count: a change shows after a dozen."""

_LEAST_GAIN = 0.1
"""Objects that can be read directly beside each that is composed, where writes limit that; for fewer it is not done."""

_FIRST_COMPOSES = 0.6
"""Part of the threads that compose before the first compose is answered. About a hundred of them bring as many objects
as a processor cuts in half a second, so that the others miss little; and no more are stuck where writes are throttled.
"""

_CONNECTION_BYTES_PER_S = 80e6
"""A usual connection's bandwidth; only the sizes' share of the expectation, which the ratios correct."""

_WRITES_A_COMPOSITE = 2
"""The compose, and the deletion."""

DELETED_WITHIN_S = 0.5
"""How long a composite waits for others to be deleted with it."""

FASTER_DIRECTLY = "direct reads are faster here, as measured in this run"
WRITES_LIMITED = "the bucket's rate of writes allows no more composites"
PROBED = "read directly to measure how long that takes"
AWAITED = "read directly while the composite was awaited"


class _Measured:
    """The lower quartile of the last measurements; what was expected, until there are any.

    A stalled connection, one that was just opened and a busy processor only ever add to what the network takes, so the
    quicker ones of several measurements tell the truth.
    """

    def __init__(self, expected: float) -> None:
        self.value = expected
        self._last: deque[float] = deque(maxlen=_REMEMBERED)

    def add(self, value: float) -> None:
        self._last.append(value)
        self.value = sorted(self._last)[len(self._last) // 4]


class FetchDecision(msgspec.Struct, frozen=True):
    """How the next objects of a group are fetched: so many directly, for a reason; none: all that are left composed.

    `probe`: all but the last one composed, and that one read afterwards, over a connection that is open, to measure it.
    `wait`: not yet; ask again when a compose was answered, or after `StrategyChooser.patience_s`.
    """

    direct: int = 0
    reason: str = ""
    probe: bool = False
    wait: bool = False


class ChooserInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the workers of a run choose by: the conditions, and how many objects may be composed."""

    conditions: RunConditions
    count: int


class StrategyChooser:
    """Chooses the way of each group that may be composed, in one worker, at the moment when a thread begins with it.

    Three things limit each way: the network's latency, which the threads share; this process's processor time; and the
    rates of requests that the bucket was found to bear. Each is measured by itself, and the largest counts. What files
    wait for is the same on both ways, and counts for neither. Thread-safe.
    """

    def __init__(self, inputs: ChooserInputs, threads: int) -> None:
        """`threads` are this worker's."""
        conditions = inputs.conditions
        self._conditions = conditions
        self._threads = threads
        groups = inputs.count // MAX_COMPONENTS // conditions.workers
        # Of the last round of groups none is delayed, and nothing would be learned from it.
        self._last_probe = groups - threads if inputs.count >= _LEARNING_ROUNDS * conditions.in_flight else 0
        latencies = conditions.latencies
        self.patience_s = latencies.compose_s + MAX_COMPONENTS * latencies.component_s
        """How long threads wait for the first answer to a compose. If neither an answer nor a refusal came by then,
        composes are slow, and to wait longer would only delay those of the waiting threads."""
        self._composed = _Measured(1.0)
        self._direct = _Measured(1.0)
        self._composed_cpu_s = _Measured(2 * latencies.request_cpu_s / MAX_COMPONENTS + _COMPOSED_OBJECT_S)
        self._direct_cpu_s = _Measured(latencies.request_cpu_s)
        self._lock = threading.Condition()
        self._groups = 0
        self._composing = 0
        self._wait_is_over = False
        self._direct_under_way = 0

    def first(self, sizes: Sequence[int], reads: Pace, writes: Pace, undeleted: int = 0) -> FetchDecision:
        """Choose for a group that nothing was fetched of yet. Now and then it is the other way, to measure that.

        `undeleted` are the composites that there are: each takes a write still.
        """
        with self._lock:
            self._groups += 1
            probing = self._groups <= self._last_probe and (self._groups <= _PROBES or self._groups % _PROBE_EVERY == 0)
            decision = self._decide(sizes, reads, writes, undeleted)
            if probing and not decision.wait:
                if not decision.direct:
                    decision = FetchDecision(probe=True)
                elif decision.reason == FASTER_DIRECTLY:
                    decision = FetchDecision()
            return self._begun(decision)

    def following(self, sizes: Sequence[int], reads: Pace, writes: Pace, undeleted: int = 0) -> FetchDecision:
        """Choose for what is left of a group."""
        with self._lock:
            return self._begun(self._decide(sizes, reads, writes, undeleted))

    def still_composes(self, sizes: Sequence[int], reads: Pace, writes: Pace, undeleted: int = 0) -> bool:
        """Return whether a group whose compose was refused, or must wait longer, is still to be composed.

        `undeleted` are the others.
        """
        with self._lock:
            return not self._decide(sizes, reads, writes, undeleted).direct

    def composed(self, sizes: Sequence[int], network_s: float, cpu_s: float) -> None:
        """Note that a composite is over; 0 seconds if it was not read as a whole.

        `network_s` is what its requests took, without the wait for their turn; `cpu_s` what its thread used.
        """
        with self._lock:
            self._composing -= 1
            self._end_wait()
            if network_s and self._tells(sizes):
                self._composed.add(network_s / self._composed_s(len(sizes), sum(sizes)))
                self._composed_cpu_s.add(cpu_s / len(sizes))

    def read(self, sizes: Sequence[int], network_s: float, cpu_s: float) -> None:
        """Note that so many objects were read directly; 0 seconds if that failed."""
        with self._lock:
            self._direct_under_way -= len(sizes)
            if network_s and self._tells(sizes):
                self._direct.add(network_s / self._direct_s(len(sizes), sum(sizes)))
                self._direct_cpu_s.add(cpu_s / len(sizes))

    def answered(self) -> None:
        """Note that a compose was answered."""
        with self._lock:
            self._end_wait()

    def _end_wait(self) -> None:
        if not self._wait_is_over:
            self._wait_is_over = True
            self._lock.notify_all()

    def wait_for_answer(self) -> None:
        """Wait, after `FetchDecision.wait`, until a compose was answered or could not be made, or for `patience_s`."""
        with self._lock:
            self._lock.wait_for(lambda: self._wait_is_over, self.patience_s)
            self._end_wait()

    def _tells(self, sizes: Sequence[int]) -> bool:
        """Return whether these sizes tell anything about small objects."""
        return bool(sizes) and sum(sizes) <= len(sizes) * AUTO_MAX_OBJECT_BYTES

    def _begun(self, decision: FetchDecision) -> FetchDecision:
        if not decision.wait:
            self._composing += not decision.direct
            self._direct_under_way += decision.direct + decision.probe
        return decision

    def _decide(self, sizes: Sequence[int], reads: Pace, writes: Pace, undeleted: int) -> FetchDecision:
        count, total_bytes = len(sizes), sum(sizes)
        if count < 2:
            return FetchDecision(count, FASTER_DIRECTLY)
        composed_s = self._composed.value * self._composed_s(count, total_bytes)
        composing_s = max(composed_s / self._threads, self._composed_cpu_s.value * count)
        direct_s = max(
            self._direct.value * self._direct_s(count, total_bytes) / self._threads, self._direct_cpu_s.value * count
        )
        reading_s = max(direct_s, count / reads.kept_per_s if reads.kept_per_s else 0.0)
        writing_s = _WRITES_A_COMPOSITE / writes.kept_per_s if writes.kept_per_s else 0.0
        if not self._is_worth_it(count, total_bytes, reading_s - max(composing_s, writing_s)):
            return FetchDecision(count, FASTER_DIRECTLY)
        if writing_s - composing_s > _LEAST_GAIN * reading_s:
            # Writes are what composing is limited by, and what it leaves of threads and processor reads more than a few
            # objects: nobody waits long for a write while reads have a shorter queue.
            queue_s = self._direct_under_way / reads.kept_per_s if reads.kept_per_s else 0.0
            # Composites are deleted behind the work, with the same rate: more than can be deleted soon would be deleted
            # when all else is done.
            deleted_s = undeleted / writes.kept_per_s if writes.kept_per_s else 0.0
            if max(writes.turn_s, deleted_s - DELETED_WITHIN_S) > max(composed_s, queue_s):
                return FetchDecision(min(_DIVERTED_OBJECTS, count), WRITES_LIMITED)
        elif reading_s < composing_s:
            return FetchDecision(count, FASTER_DIRECTLY)
        if not self._wait_is_over and self._composing >= max(1, int(_FIRST_COMPOSES * self._threads)):
            return FetchDecision(wait=True)
        return FetchDecision()

    def _is_worth_it(self, count: int, total_bytes: int, saved_s: float) -> bool:
        """Return whether a composite of so many objects is worth what it costs, if it saves so many seconds."""
        conditions, prices = self._conditions, self._conditions.prices
        saved_usd = ((count - 1) * prices.class_b_per_1000 - prices.class_a_per_1000) / 1000
        saved_usd -= prices.soft_deleted(total_bytes, conditions.soft_delete_s)
        return saved_usd >= 0 or max(0.0, saved_s) / conditions.workers * conditions.second_usd + saved_usd >= 0

    def _composed_s(self, count: int, total_bytes: int) -> float:
        latencies = self._conditions.latencies
        compose_s = latencies.compose_s + min(count, MAX_COMPONENTS) * latencies.component_s
        return compose_s + latencies.read_s + total_bytes / _CONNECTION_BYTES_PER_S

    def _direct_s(self, count: int, total_bytes: int) -> float:
        return count * self._conditions.latencies.read_s + total_bytes / _CONNECTION_BYTES_PER_S


_DIRECT_OBJECT_S = 0.0006
_COMPOSED_OBJECT_S = 0.0001
_BYTE_S = 1e-9
"""Processor time of an object read by itself, of one cut from a composite, and of a byte of either."""


def help_pays(sizes: Sequence[int]) -> bool:
    """Return whether idle threads should read objects of this group while its composite is awaited.

    They should where reading an object takes at most twice the processor time of cutting it, which is from 400 KB on.
    When the composite comes, each helping thread has a read to end, which delays the others by this time.
    """
    return len(sizes) * _DIRECT_OBJECT_S + sum(sizes) * _BYTE_S <= 2 * (
        len(sizes) * _COMPOSED_OBJECT_S + sum(sizes) * _BYTE_S
    )


ENGINE_PAYS_S = 1.6
"""What threads of one process take this long for, two workers take half as long for, and the time to start."""


def processor_s(count: int, total_bytes: int, strategy: Strategy) -> float:
    """Return about how many CPU-seconds staging `count` objects takes, as far as their number and size tell."""
    composed = strategy == "compose" or (strategy == "auto" and total_bytes <= count * AUTO_MAX_OBJECT_BYTES)
    return count * (_COMPOSED_OBJECT_S if composed else _DIRECT_OBJECT_S) + total_bytes * _BYTE_S


def engine_pays(count: int, total_bytes: int, strategy: Strategy) -> bool:
    """Return whether an engine with worker processes is done sooner than threads of the calling process."""
    return processor_s(count, total_bytes, strategy) > ENGINE_PAYS_S
