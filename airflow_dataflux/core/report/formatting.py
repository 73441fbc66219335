"""Figures and names as people read them (pure)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_NAME_CHARS = 72
_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_UNWRITABLE = "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""What XML 1.0 has no way to write (https://www.w3.org/TR/xml/#charsets). `re` compiles it when it is used: that takes
5 ms, and only reports need it."""


def writable(text: str) -> str:
    """Return a text that HTML and XML can hold: what they cannot is replaced by the sign for that."""
    return re.sub(_UNWRITABLE, "\ufffd", text)


def count(value: float) -> str:
    """Return a whole number with separators."""
    return f"{round(value):,}"


def plural(value: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def short_count(value: float) -> str:
    """Return a number for an axis: 1200 is 1.2k."""
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def size(value: float) -> str:
    """Return bytes in the unit that suits them."""
    at = 0
    while abs(value) >= 1024 and at < len(_BYTE_UNITS) - 1:
        value /= 1024
        at += 1
    return f"{value:.0f} {_BYTE_UNITS[at]}" if at == 0 or value >= 100 else f"{value:.3g} {_BYTE_UNITS[at]}"


def seconds(value: float) -> str:
    """Return a duration."""
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def roughly(value: float) -> str:
    """Return a duration that is an estimate: whole seconds, one at least."""
    return f"{max(1, round(value))} s" if value < 119.5 else seconds(value)


_LEAST_USD = 1e-6
"""Less than any request costs."""


def dollars(value: float) -> str:
    """Return US dollars in a dozen characters at most: two digits that are not 0, and less than a millionth as such."""
    if value == 0:
        return "$0"
    if 0 < value < _LEAST_USD:
        return "< $0.000001"
    digits = 2 if abs(value) >= 1 else min(7, 1 - math.floor(math.log10(abs(value))))
    return f"${value:,.{digits}f}"


def percent(part: float, whole: float) -> str:
    """Return a share; a dash of nothing."""
    if not whole:
        return "-"
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.2g} %"


def name(value: str | None, *, hidden: int = 0) -> str:
    """Return an object name on one line: what cannot be printed as an escape, a long one shortened in its middle.

    `hidden` characters at its front are shown as dots.
    """
    if value is None:
        return "the end"
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in value[hidden:])
    if len(shown) > _NAME_CHARS:
        half = _NAME_CHARS // 2
        shown = f"{shown[:half]}…{shown[-half + 1 :]}"
    return f"…{shown}" if hidden else shown or "the start"


def common_front(names: Iterable[str]) -> int:
    """Return how many characters at the front of all names are worth leaving out: whole path segments only."""
    ordered = sorted(names)
    if not ordered:
        return 0
    first, last = ordered[0], ordered[-1]
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:same].rfind("/") + 1
