"""HTML and SVG as text, safely (pure).

Guarantee: whatever text is put in, it comes out as that text: it is escaped, and what XML cannot hold is replaced.
Only `Markup`, which is made here, passes as it is.
"""

from __future__ import annotations

import html
import re

_IMPOSSIBLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write (https://www.w3.org/TR/xml/#charsets)."""

VOID = frozenset({"input", "meta", "link", "br", "hr", "wbr"})
"""Elements of HTML without an end."""


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Return a value as text in markup."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_IMPOSSIBLE.sub("\ufffd", str(value)), quote=True))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element. `class_` stands for class, an underscore for a hyphen; attributes that are None are left out.

    Numbers are written with two decimals at most, which is a fiftieth of a pixel.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(number(value) if isinstance(value, float) else value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*parts: object) -> Markup:
    """Return parts behind one another; None is nothing."""
    return Markup("".join(text(part) for part in parts if part is not None))


def number(value: float) -> str:
    """Return a number as briefly as it can be written with two decimals."""
    written = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if written in ("-0", "") else written
