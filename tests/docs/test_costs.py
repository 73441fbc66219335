"""The page on costs shows the prices and the sums of the code."""

from __future__ import annotations

import re

import pytest
from markdown_blocks import ROOT

from airflow_dataflux.core.gcs.store import MAX_COMPONENTS
from airflow_dataflux.core.staging.cost import Prices, estimate

PAGE = (ROOT / "docs/how-to/costs.md").read_text("utf-8")
WEEK_S = 7 * 24 * 3600
PRICES = Prices()


def dollars(*, composed: bool, object_bytes: int, soft_delete_s: int = 0) -> float:
    """Return what a million objects cost, in full composites or read directly."""
    composites = -(-1_000_000 // MAX_COMPONENTS) if composed else 0
    return estimate(
        PRICES,
        class_a=composites,
        class_b=composites or 1_000_000,
        composed_bytes=1_000_000 * object_bytes if composed else 0,
        soft_delete_s=soft_delete_s,
        bytes_by_class={"STANDARD": 1_000_000 * object_bytes},
    ).total


@pytest.mark.parametrize(
    ("row", "price"),
    [
        ("class A", PRICES.class_a_per_1000),
        ("class B", PRICES.class_b_per_1000),
        ("storage", PRICES.storage_per_gib_hour),
        *((f"retrieval from {name.capitalize()}", price) for name, price in PRICES.retrieval_per_gib.items()),
    ],
)
def test_a_price_on_the_page_is_that_of_the_code(row: str, price: float) -> None:
    written = re.search(rf"^\| {row}[^|]*\| \$([0-9.]+) \|$", PAGE, re.MULTILINE)
    assert written
    assert float(written[1]) == price


@pytest.mark.parametrize(("size", "object_bytes"), [("10 KB", 10_000), ("53 KB", 53_000), ("1 MB", 1_000_000)])
def test_the_table_of_a_million_objects_is_what_the_code_computes(size: str, object_bytes: int) -> None:
    computed = (
        dollars(composed=False, object_bytes=object_bytes),
        dollars(composed=True, object_bytes=object_bytes),
        dollars(composed=True, object_bytes=object_bytes, soft_delete_s=WEEK_S),
    )
    assert f"| of {size} | " + " | ".join(f"${amount:.2f}" for amount in computed) + " |" in PAGE


def test_composing_is_cheaper_from_as_many_objects_as_the_page_says() -> None:
    def composed(count: int) -> float:
        return (
            estimate(PRICES, class_a=1, class_b=1, composed_bytes=0, soft_delete_s=0, bytes_by_class={}).total
            - estimate(PRICES, class_a=0, class_b=count, composed_bytes=0, soft_delete_s=0, bytes_by_class={}).total
        )

    (count,) = re.findall(r"composite of (\d+) or more objects is\s+cheaper", PAGE)
    assert composed(int(count)) < 0 < composed(int(count) - 1)
