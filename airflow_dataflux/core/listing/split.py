"""Where to divide a name range, from what was seen so far. Pure.

Guarantees: split points are strictly increasing, lie strictly inside the range, are valid UTF-8 without CR and LF,
and the search always ends. "Cannot split" is an empty list, a normal answer.
What it does not promise is evenness: that depends on how well the scale models the names, and stealing corrects it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from airflow_dataflux.core.listing.scale import Scale, digits_of, merged, shape
from airflow_dataflux.core.namerange import NameRange, common_prefix, ends_at_or_before, successor, wire_start

_RUNS = re.compile(r"[^\W_]+|[\W_]+")
"""Runs of letters and digits, and what is between them."""

_HEX_RUN = re.compile(r"(?<![^\W_])(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]+(?![^\W_])")
"""A run of hexadecimal digits with both kinds of them."""


def split_points(
    low: str,
    high: str | None,
    count: int,
    *,
    examples: Iterable[str] = (),
    alike: Iterable[str] = (),
    voids: Sequence[NameRange] = (),
) -> list[str]:
    """Return up to `count` names that divide `(low, high)` into parts of about the same number of objects.

    Args:
        low: the last name listed, or the start of the range; every point is after it.
        high: exclusive end, None for unbounded.
        count: how many points are wanted.
        examples: real names from inside the range or near it, from which the scale is learned.
        alike: real names from anywhere, for the same.
        voids: ranges known to be empty; they get no points inside them where that can be avoided.
    """
    if count < 1 or (high is not None and high <= low):
        return []
    low, high = tightened(low, high, voids)
    if high is not None and high <= low:
        return []
    scale = Scale(low, high, examples, alike)
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


def islands(low: str, high: str | None, voids: Sequence[NameRange]) -> list[str]:
    """Return the real names in `(low, high)` at which names of another shape begin, behind a void."""
    found: list[str] = []
    own = shape(wire_start(low))
    for void in voids:
        name = void.end
        if name is None or name <= low or (high is not None and name >= high) or void.start >= name:
            continue
        if not name.startswith(void.start) and shape(name) != own:
            found.append(name)
            own = shape(name)
    return found


def rungs(name: str) -> list[int]:
    """Return the lengths of the beginnings of `name` after which siblings are plausible, ascending.

    That is after each run of separators, and after each character of a run with digits. A word varies as a whole.
    """
    lengths: list[int] = []
    for run in _RUNS.finditer(name):
        text = run.group()
        if text[0].isalnum():
            if any(map(str.isdecimal, text)):
                lengths.extend(range(run.start() + 1, run.end() + 1))
        elif run.start() > 0:
            lengths.append(run.end())
    return lengths


def ladder(name: str, high: str | None, count: int, *, above: int = 0, below: int | None = None) -> dict[str, int]:
    """Return up to `count` bounds, each just after a subtree that `name` is in, with how much of `name` it shares.

    What lies at or after such a bound shows at which position the names of `(name, high)` first differ: nothing there
    means that they all share that much of `name`.

    Args:
        name: a real name.
        high: exclusive end of the range.
        count: how many bounds are wanted; they are spread evenly over the rungs.
        above: only subtrees that share more of `name` than this,
        below: and less than this.
    """
    shared = max(above, len(common_prefix(name, high)) if high is not None else 0)
    lengths = [length for length in rungs(name) if length > shared and (below is None or length < below)]
    if len(lengths) > count:
        lengths = sorted({lengths[(2 * index + 1) * len(lengths) // (2 * count)] for index in range(count)})
    bounds: dict[str, int] = {}
    for length in lengths:
        bound = successor(name[:length])
        if bound is not None and bound > name and (high is None or bound < high):
            bounds.setdefault(bound, length)
    return bounds


def caps(name: str, length: int, high: str | None) -> list[str]:
    """Return bounds above the kinds of character that may follow `name[:length]`: digits, capitals, small letters."""
    character = name[length : length + 1]
    if not character:
        return []
    digits = digits_of(character)
    if character <= "\x7f":
        tops = "{" if character >= "a" else "[{" if character >= "A" else ":ag" if _HEX_RUN.search(name) else ":"
    else:
        tops = chr(ord(digits[-1]) + 1) if digits else ""
    bounds = [name[:length] + top for top in tops if top > character]
    return [bound for bound in bounds if high is None or bound < high]


def _at(segments: Sequence[tuple[int, int]], distance: int) -> int:
    for start, end in segments:
        if distance < end - start:
            return start + distance
        distance -= end - start
    return segments[-1][1] if segments else 0
