"""How many pieces each range is worth. Pure."""

from __future__ import annotations

from collections.abc import Mapping

SMALLEST_PIECE_PAGES = 1.5
"""No steal makes pieces that are expected to be smaller: each costs half a request more than it saves in time."""


def shares(sizes: Mapping[int, float], most: Mapping[int, int], idle: int) -> dict[int, int]:
    """Divide `idle` streams among ranges so that the largest piece that will be left is as small as possible.

    Args:
        sizes: the ranges' expected pages.
        most: the ranges that may be divided, and into how many pieces at most.
        idle: streams that want a piece.

    Returns how many pieces each range of `most` is to have, at least 1.
    """
    pieces = dict.fromkeys(most, 1)
    open_to_more = set(pieces)
    for _ in range(idle):
        best = max(open_to_more, key=lambda key: sizes[key] / pieces[key], default=None)
        if best is None or sizes[best] / (pieces[best] + 1) < SMALLEST_PIECE_PAGES:
            break
        pieces[best] += 1
        if pieces[best] == most[best]:
            open_to_more.remove(best)
    return pieces
