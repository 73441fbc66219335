"""What happened in a pack: the one object that counts. One thread, the owner's; `pack_report.py` makes a page of it.

Times are seconds since the pack was asked for, on the monotonic clock, which all processes of a machine share. Memory:
fixed numbers of buckets, and the first names that were left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from airflow_dataflux.core.packing.shard_writer import ShardResult
from airflow_dataflux.core.report.activity import Series
from airflow_dataflux.core.runtime.usage import RunClock, Usage

_NAMED_SKIPPED = 1000


class PackRecorder(RunClock):
    """Records one pack, or one task's part of it.

    Attributes:
        objects, bytes: what was written into shards, over time.
        in_flight: shards at workers, over time.
        shards, reused_shards: how many came back, and how many of these were right already.
        packed_objects, packed_bytes, reused_objects: what is in them.
        composites, composed_bytes, composed_objects, refetched, resumed: what fetching took.
        reasons: how many objects were read directly although they were to be composed, by reason.
        skipped, skipped_names: objects that are in no shard, and the names of the first of them.
        processes: what each worker process used, by its role.
    """

    def __init__(self, started: float) -> None:
        super().__init__(started)
        self.objects, self.bytes, self.in_flight = Series(), Series(), Series()
        self.shards = self.reused_shards = 0
        self.packed_objects = self.packed_bytes = self.reused_objects = 0
        self.composites = self.composed_bytes = self.composed_objects = 0
        self.refetched = self.resumed = 0
        self.reasons: Counter[str] = Counter()
        self.skipped = 0
        self.skipped_names: list[str] = []
        self.processes: Sequence[tuple[str, Usage]] = ()
        self._looked_s = 0.0
        self._written = (0, 0)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record when a part of the pack began and ended; `look` tells what went on since its beginning."""
        self._looked_s = self.elapsed_s()
        with super().phase(name):
            yield

    def shard(self, result: ShardResult) -> None:
        """Record a shard that came back."""
        self.shards += 1
        if result.reused:
            self.reused_shards += 1
            self.reused_objects += result.object_count
        else:
            self.packed_objects += result.object_count
            self.packed_bytes += result.total_bytes
        self.composites += result.composites
        self.composed_bytes += result.composed_bytes
        self.composed_objects += result.composed_objects
        self.refetched += result.refetched
        self.resumed += result.resumed
        self.reasons.update(result.reasons)
        self.skipped += len(result.skipped)
        self.skipped_names += result.skipped[: _NAMED_SKIPPED - len(self.skipped_names)]

    def look(self, in_flight: int, objects: int, size: int) -> None:
        """Record what is going on: shards at workers, and all objects and bytes that were written so far."""
        now_s = self.elapsed_s()
        before_objects, before_bytes = self._written
        self.in_flight.spread(self._looked_s, now_s, in_flight * (now_s - self._looked_s))
        self.objects.spread(self._looked_s, now_s, objects - before_objects)
        self.bytes.spread(self._looked_s, now_s, size - before_bytes)
        self._looked_s, self._written = now_s, (objects, size)
