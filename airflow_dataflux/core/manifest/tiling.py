"""The proof that several listings, each of one name range, are together one listing of all names. Pure.

Guarantees: it passes only if the ranges, in order, begin before every name, follow one another without a gap or an
overlap, and end after every name, and if all listings were asked for the same. It looks at what the listings say they
covered, not at the names they found, so an empty range counts and a missing one is missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_dataflux.core.errors import ManifestError
from airflow_dataflux.core.namerange import NameRange

if TYPE_CHECKING:
    from airflow_dataflux.core.manifest.manifest import Manifest

_OWN = frozenset({"name_range", "manifest_uri", "seed_manifest_uri", "workers", "streams", "report"})
"""What each listing of a range may be asked differently: where and how, not what."""


def prove_tiling(manifests: Sequence[Manifest]) -> None:
    """Raise ManifestError, naming the range, unless `manifests` are one listing in pieces."""
    _check_alike(manifests)
    ranges = sorted((manifest.name_range or NameRange() for manifest in manifests), key=lambda names: names.start)
    reached: str | None = ""
    for names in ranges:
        if reached is None or names.start < reached:
            raise ManifestError(
                f"The names from {names.start!r} were listed twice: up to there {_end(reached)} was covered already. "
                "Join each range once, and only ranges of one division.",
                names=names,
            )
        if names.start > reached:
            raise _missing(NameRange(reached, names.start))
        reached = names.end
    if reached is not None:
        raise _missing(NameRange(reached))


def _check_alike(manifests: Sequence[Manifest]) -> None:
    first = manifests[0]
    for manifest in manifests[1:]:
        if manifest.prefixes != first.prefixes:
            raise ManifestError(
                f"The listings are of different prefixes: {list(first.prefixes)} and {list(manifest.prefixes)}. "
                "Give every range the same prefixes and filters."
            )
        # An inline manifest that came through XCom does not know what was asked for.
        asked, other = _asked(first.request), _asked(manifest.request)
        if asked and other and asked != other:
            different = sorted(key for key in asked.keys() | other.keys() if asked.get(key) != other.get(key))
            raise ManifestError(
                f"The listings were asked for different things ({', '.join(different)}): give every range the same "
                f"prefixes and filters. {_text(first.name_range)} was asked for {asked}, "
                f"{_text(manifest.name_range)} for {other}."
            )


def _asked(request: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in request.items() if key not in _OWN}


def _missing(names: NameRange) -> ManifestError:
    return ManifestError(
        f"The name range {_text(names)} is missing: none of the manifests covers it. Was the task that lists it "
        "skipped, or left out? Run it, and join again.",
        names=names,
    )


def _text(names: NameRange | None) -> str:
    names = names or NameRange()
    return f"[{names.start!r}, {_end(names.end)})"


def _end(end: str | None) -> str:
    return "the end of all names" if end is None else repr(end)
