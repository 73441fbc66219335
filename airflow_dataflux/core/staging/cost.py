"""What a staging will cost in dollars, item by item (pure).

The prices are those of the United States multi-region, Standard class, flat namespace, as published in 2026-09
(https://cloud.google.com/storage/pricing). They are estimates for a decision, not a bill: pass another `Prices` for
another contract or location. Network egress is not included: it is free within a location and depends on the
worker's place, which nobody can see from here.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from airflow_dataflux.core.errors import CostLimitError

_GIB = 1 << 30


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars. `retrieval_per_gib` by storage class; a class that is not named costs nothing to read. Picklable."""

    class_a_per_1000: float = 0.005
    class_b_per_1000: float = 0.0004
    storage_per_gib_hour: float = 2.74e-5
    retrieval_per_gib: Mapping[str, float] = msgspec.field(
        default_factory=lambda: {"NEARLINE": 0.01, "COLDLINE": 0.02, "ARCHIVE": 0.05}
    )

    def soft_deleted(self, composed_bytes: int, soft_delete_s: int) -> float:
        """Return what deleted composites cost for as long as the bucket keeps them."""
        return composed_bytes / _GIB * self.storage_per_gib_hour * soft_delete_s / 3600


class CostEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars by item.

    Attributes:
        class_a: composes and lists.
        class_b: reads and looks at metadata.
        soft_delete: storage of deleted composites while soft delete keeps them.
        retrieval: reading objects of cold classes.
    """

    class_a: float = 0.0
    class_b: float = 0.0
    soft_delete: float = 0.0
    retrieval: float = 0.0

    @property
    def total(self) -> float:
        """All items together."""
        return self.class_a + self.class_b + self.soft_delete + self.retrieval

    def items(self) -> dict[str, float]:
        """Return the items by name, for a report."""
        return {
            "class_a": self.class_a,
            "class_b": self.class_b,
            "soft_delete": self.soft_delete,
            "retrieval": self.retrieval,
        }


def estimate(
    prices: Prices,
    *,
    class_a: int,
    class_b: int,
    composed_bytes: int,
    soft_delete_s: int,
    bytes_by_class: Mapping[str, int],
) -> CostEstimate:
    """Return what so many requests and bytes cost.

    Args:
        prices: the table.
        class_a: composes and lists.
        class_b: reads and looks at metadata; deletes are free.
        composed_bytes: bytes of all composites.
        soft_delete_s: how long the bucket keeps them after their deletion.
        bytes_by_class: bytes read, by storage class of the objects.
    """
    return CostEstimate(
        class_a=class_a / 1000 * prices.class_a_per_1000,
        class_b=class_b / 1000 * prices.class_b_per_1000,
        soft_delete=prices.soft_deleted(composed_bytes, soft_delete_s),
        retrieval=sum(
            size / _GIB * prices.retrieval_per_gib.get(storage_class, 0.0)
            for storage_class, size in bytes_by_class.items()
        ),
    )


def check_cost(expected: CostEstimate, max_usd: float, work: str) -> None:
    """Raise CostLimitError if `work` ("staging", "pack") is estimated to cost more than that."""
    if expected.total <= max_usd:
        return
    items = ", ".join(f"{name} ${usd:.4f}" for name, usd in expected.items().items() if usd)
    raise CostLimitError(
        f"The {work} is estimated to cost ${expected.total:.4f}, more than max_usd ${max_usd:.4f}: {items}. Nothing "
        "was written. Raise max_usd, take fewer objects, or choose another strategy.",
        estimated_usd=expected.total,
        max_usd=max_usd,
        costs=expected.items(),
    )
