"""The blocks about sizes and storage classes, which a listing and a staging share (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from airflow_dataflux.core.report import wording
from airflow_dataflux.core.report.blocks import Bar, Block, Histogram, Table


def size_histogram(sizes: Mapping[int, int], *, title: str, about: str) -> tuple[Histogram, ...]:
    """Draw how many objects there are of each order of magnitude; nothing for no objects.

    Args:
        sizes: objects by the number of binary digits of their size, as a `Census` counts them.
        title: of the picture.
        about: which objects these are, such as "in the manifest".
    """
    counted = Counter({digits: count for digits, count in sizes.items() if count})
    whole = sum(counted.values())
    if not whole:
        return ()
    span = range(min(counted), max(counted) + 1)
    bars = tuple(
        Bar(
            label=_least(digits),
            value=counted[digits],
            shown=f"{wording.plural(counted[digits], 'object')}, {wording.percent(counted[digits], whole)}",
        )
        for digits in span
    )
    most = max(counted, key=lambda digits: counted[digits])
    summary = (
        f"Each bar holds the objects {about} from its label up to twice that size. Most, "
        f"{wording.percent(counted[most], whole)}, are {_between(most)}; half are smaller than "
        f"{_least(_median(counted, whole) + 1)}."
    )
    return (Histogram(title=title, summary=summary, bars=bars),)


def class_table(counts: Mapping[str, int], size_by_class: Mapping[str, int]) -> tuple[Block, ...]:
    """Tell how much there is of each storage class; nothing for no objects."""
    if not size_by_class:
        return ()
    whole = sum(size_by_class.values())
    ordered = sorted(size_by_class, key=lambda each: (-size_by_class[each], each))
    rows = tuple(
        (
            each,
            *((wording.count(counts[each]),) if counts else ()),
            wording.size(size_by_class[each]),
            wording.percent(size_by_class[each], whole),
        )
        for each in ordered
    )
    columns = ("storage class", *(("objects",) if counts else ()), "bytes", "of the bytes")
    return (Table(caption="Storage classes", columns=columns, rows=rows),)


def _least(digits: int) -> str:
    return wording.size(0 if digits == 0 else 1 << (digits - 1))


def _between(digits: int) -> str:
    return "empty" if digits == 0 else f"of {_least(digits)} to {_least(digits + 1)}"


def _median(counted: Mapping[int, int], whole: int) -> int:
    before = 0
    for digits in sorted(counted):
        before += counted[digits]
        if 2 * before >= whole:
            return digits
    return 0
