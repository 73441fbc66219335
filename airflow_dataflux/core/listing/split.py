"""Where to divide a name range, from what was seen so far. Pure.

Guarantees: split points are strictly increasing, lie strictly inside the range, are valid UTF-8 without CR and LF,
and the search always ends. "Cannot split" is an empty list, a normal answer.
What it does not promise is evenness: that depends on how well the scale models the names, and stealing corrects it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from airflow_dataflux.core.listing.scale import Scale, merged
from airflow_dataflux.core.namerange import NameRange, common_prefix, ends_at_or_before, successor


def split_points(
    low: str, high: str | None, count: int, *, examples: Iterable[str] = (), voids: Sequence[NameRange] = ()
) -> list[str]:
    """Return up to `count` names that divide `(low, high)` into parts of about the same number of objects.

    Args:
        low: the last name listed, or the start of the range; every point is after it.
        high: exclusive end, None for unbounded.
        count: how many points are wanted.
        examples: real names from inside the range or near it, from which the scale is learned.
        voids: ranges known to be empty; they get no points inside them where that can be avoided.
    """
    if count < 1 or (high is not None and high <= low):
        return []
    low, high = tightened(low, high, voids)
    if high is not None and high <= low:
        return []
    scale = Scale(low, high, examples)
    segments = occupied(scale, low, high, voids)
    total = sum(end - start for start, end in segments)
    step = total // (count + 1)
    points: list[str] = []
    for index in range(1, count + 1):
        point = scale.name(_at(segments, total * index // (count + 1)), step)
        if point > (points[-1] if points else low) and (high is None or point < high):
            points.append(point)
    return points


def tightened(low: str, high: str | None, voids: Sequence[NameRange]) -> tuple[str, str | None]:
    """Return the bounds without what is known to be empty at either end; `low` moves to a real name then."""
    for void in voids:  # sorted and disjoint
        if void.start <= low and void.end is not None and low < void.end and (high is None or void.end < high):
            low = void.end
        if (high is None or void.start < high) and ends_at_or_before(high, void.end) and void.start > low:
            high = void.start
    return low, high


def occupied(scale: Scale, low: str, high: str | None, voids: Sequence[NameRange]) -> list[tuple[int, int]]:
    """Return the intervals of the scale between two names that are not known to be empty."""
    bottom, top = scale.position(low), scale.position(high)
    holes = merged([(scale.position(void.start), scale.position(void.end)) for void in voids])
    segments: list[tuple[int, int]] = []
    for start, end in holes:
        if start > bottom:
            segments.append((bottom, min(start, top)))
        bottom = max(bottom, end)
        if bottom >= top:
            break
    if bottom < top:
        segments.append((bottom, top))
    return [(start, end) for start, end in segments if end > start]


def ladder(name: str, high: str | None, count: int, *, above: int = 0, below: int | None = None) -> list[str]:
    """Return up to `count` bounds, each just after a subtree that `name` is in, the widest first.

    What lies at or after such a bound shows at which position the names of `(name, high)` first differ: nothing there
    means that they all share that much of `name`.

    Args:
        name: a real name.
        high: exclusive end of the range.
        count: how many bounds are wanted; they are spread evenly over the lengths.
        above: see below.
        below: only subtrees `name[:length]` with `above < length < below`.
    """
    shared = len(common_prefix(name, high)) if high is not None else 0
    first = max(shared, above) + 1
    last = len(name) if below is None else min(len(name), below - 1)
    lengths = range(first, last + 1)
    if len(lengths) > count:
        lengths_used = (
            sorted({first + (last - first) * index // (count - 1) for index in range(count)}) if count > 1 else [last]
        )
    else:
        lengths_used = list(lengths)
    bounds: list[str] = []
    for length in lengths_used:
        bound = successor(name[:length])
        if bound is not None and bound > name and (high is None or bound < high) and bound not in bounds:
            bounds.append(bound)
    return bounds


def _at(segments: Sequence[tuple[int, int]], distance: int) -> int:
    for start, end in segments:
        if distance < end - start:
            return start + distance
        distance -= end - start
    return segments[-1][1] if segments else 0
