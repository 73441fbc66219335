"""Cuts the pictures out of a run report, each as an SVG file of its own (pure).

A report's pictures are XML and take their colours from the page's style, for light and for dark screens; the keys to
the colours stand beside them in HTML. A file has all three: the style, a ground to be read on, the keys above the
picture. Words that a page shows under the pointer are left out: an image in a page has no pointer.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

SVG = "http://www.w3.org/2000/svg"

_LEFT = 76.0
"""Where the report's pictures begin behind the words of their axis."""

_LINE, _SQUARE, _LETTER = 24.0, 11.0, 6.1
"""Height of the keys' line, size of a key, and about how wide a letter is, in the picture's pixels."""

_RAMP = 12
"""Colours of the names, from the first to the last."""


def pictures_of(report: bytes) -> dict[str, bytes]:
    """Return the pictures of a report as SVG files, by the title that the report shows above them."""
    page = report.decode()
    style = _between(page, "style")[0]
    figures = [ElementTree.fromstring(f"<figure>{figure}</figure>") for figure in _between(page, "figure")]
    return {str(figure.findtext("strong")): _file(figure, style) for figure in figures}


def _between(page: str, name: str) -> list[str]:
    return re.findall(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)


def _file(figure: Element, style: str) -> bytes:
    ElementTree.register_namespace("", SVG)
    picture = figure.find(f".//{{{SVG}}}svg")
    if picture is None:
        raise ValueError(f"The figure {figure.findtext('strong')!r} has no picture.")
    for parent in picture.iter():
        for told in parent.findall(f"{{{SVG}}}title") if parent is not picture else ():
            parent.remove(told)
    keys = _keys(figure)
    _, _, width, height = map(float, picture.get("viewBox", "").split())
    top = -_LINE if len(keys) else 0.0
    # The page's style fills the page's width with a picture; a file has a size of its own.
    own = f"svg{{width:{width:g}px;height:{height - top:g}px}}.paper{{fill:var(--paper)}}"
    ground = {"class": "paper", "y": f"{top:g}", "width": f"{width:g}", "height": f"{height - top:g}"}
    picture.set("viewBox", f"0 {top:g} {width:g} {height - top:g}")
    colours = Element(f"{{{SVG}}}style")
    colours.text = style + own
    for at, element in enumerate((colours, Element(f"{{{SVG}}}rect", ground), keys), start=1):  # behind the title
        picture.insert(at, element)
    return ElementTree.tostring(picture) + b"\n"


def _keys(figure: Element) -> Element:
    """Draw the list of keys that the page shows above a picture as one line; empty if it shows none."""
    line = Element(f"{{{SVG}}}g")
    at, y = _LEFT, 7 - _LINE
    square = {"y": f"{y:g}", "height": f"{_SQUARE:g}"}
    for item in figure.iterfind("ul/li"):
        label = "".join(item.itertext())
        kind = item.findall("i")[0].get("class", "")
        for class_, x, width in _key(kind):
            SubElement(line, f"{{{SVG}}}rect", {"class": class_, "x": f"{at + x:g}", "width": f"{width:g}", **square})
            at_words = at + x + width + 6
        words = SubElement(line, f"{{{SVG}}}text", {"x": f"{at_words:g}", "y": f"{y + 9.5:g}"})
        words.text = label
        at = at_words + len(label) * _LETTER + 14
    return line


def _key(kind: str) -> list[tuple[str, float, float]]:
    """Return the rectangles of a key: class, place and width."""
    match kind:
        case "ramp":
            return [(f"n{colour}", colour * 5.0, 5.0) for colour in range(_RAMP)]
        case "steal":
            return [("steal", 0.0, 0.1)]
        case "pale":
            return [("c0 empty", 0.0, _SQUARE)]
        case _:
            return [(kind, 0.0, _SQUARE)]
