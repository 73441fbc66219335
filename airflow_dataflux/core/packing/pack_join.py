"""The join of a pack that several tasks wrote: its index, and the report of the whole.

Guarantee: nothing is written unless these are all parts of one pack, each once. What the join returns has the requests
and the cost of all parts, and its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_dataflux.core.config import JoinPacksRequest
from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.packing.finishing import PackResult, finish_pack
from airflow_dataflux.core.packing.pack_output import PackOutput
from airflow_dataflux.core.report.formatting import plural
from airflow_dataflux.core.runtime.progress import Progress, Pulse
from airflow_dataflux.core.staging.cost import Prices, estimate

if TYPE_CHECKING:
    from airflow_dataflux.core.runtime.progress import Observer

_PROGRESS_S = 2.0


def join_parts(
    output: PackOutput,
    parts: Sequence[PackResult],
    request: JoinPacksRequest | None = None,
    *,
    observer: Observer | None = None,
) -> PackResult:
    """Write one index for what several tasks packed, and a report of the whole pack if `request` asks for it.

    `observer` is called with `Progress` every few seconds, and with `ReportInfo` once the report is written.

    Raises InvalidRequestError unless these are all parts of one pack, each once, and what `finish_pack` raises.
    """
    if not parts:
        raise InvalidRequestError("There is nothing to join: no task packed anything.")
    first = parts[0]
    if any((part.fingerprint, part.output) != (first.fingerprint, first.output) for part in parts):
        raise InvalidRequestError(
            "These are parts of different packs: their fingerprints or outputs differ. Map one pack over the shards of "
            "one manifest, and join what its tasks return."
        )
    if first.part is None:
        raise InvalidRequestError(
            "There is nothing to join: this is a whole pack, which already has its index. Join the return values of a "
            "pack that is mapped over shards."
        )
    count = first.part[1]
    numbers = sorted(part.part[0] if part.part else -1 for part in parts)
    if numbers != list(range(count)) or any(part.part is None or part.part[1] != count for part in parts):
        raise InvalidRequestError(
            f"A pack of {count} parts needs each part once, got {[n + 1 for n in numbers]}. Give the return values of "
            "all mapped tasks."
        )
    before = output.request_counts()
    output.prepare()
    merged = msgspec.structs.replace(
        first,
        packed_shards=sum(part.packed_shards for part in parts),
        reused_shards=sum(part.reused_shards for part in parts),
        packed_objects=sum(part.packed_objects for part in parts),
        packed_bytes=sum(part.packed_bytes for part in parts),
        reused_objects=sum(part.reused_objects for part in parts),
        composites=sum(part.composites for part in parts),
        leftovers=tuple(name for part in parts for name in part.leftovers),
        seconds=max(part.seconds for part in parts),
    )
    observe = observer or (lambda _event: None)
    finished = finish_pack(output, merged, on_record=_progress(first, observe))
    own = {name: count - before[name] for name, count in output.request_counts().items()}
    result = _with_requests(finished, parts, own)
    if request is not None and request.report:
        from airflow_dataflux.core.packing.pack_report import write_join_report  # all that draws: only where used

        info = write_join_report(output, result, parts, request.identity.run)
        if info is not None:
            observe(info)
    return result


def _progress(pack: PackResult, observe: Observer) -> Callable[[int, int], None]:
    """Return what tells, every few seconds, how many shards and objects of a pack a join has looked at."""
    pulse = Pulse(_PROGRESS_S)

    def tell(shards: int, objects: int) -> None:
        if pulse.due():
            figures = {"shards": shards, "of_shards": pack.shard_count, "objects": objects}
            figures["of_objects"] = max(objects, pack.object_count)
            text = f"Joined {shards:,} of {plural(pack.shard_count, 'shard')}"
            observe(Progress(stage="packing", text=text, figures=figures))

    return tell


def _with_requests(joined: PackResult, parts: Sequence[PackResult], own: Mapping[str, int]) -> PackResult:
    """Return a joined pack with the requests of its parts and the join's own, and with what all of them cost."""
    costs = estimate(
        Prices(),
        class_a=own["class_a"],
        class_b=own["class_b"],
        composed_bytes=0,
        soft_delete_s=0,
        bytes_by_class={},
    )
    return msgspec.structs.replace(
        joined,
        requests=_added([*(part.requests for part in parts), own]),
        costs=_added([*(part.costs for part in parts), costs.items()]),
        estimated_usd=sum(part.estimated_usd for part in parts) + costs.total,
    )


def _added(figures: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for each in figures:
        for name, value in each.items():
            total[name] = total.get(name, 0) + value
    return total
