"""Listing pages as bytes, ready before anybody asks.

A rendering holds the items of a whole data set in one form (a projection of the JSON API, or the XML API), one after
the other in a file that is mapped into memory; a page is then a slice of it, whatever its bounds. Forms that nobody
prepared are rendered item by item when asked for; the server counts those pages, because they cost it CPU time.
"""

from __future__ import annotations

import mmap
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from airflow_dataflux.testing.contents import encode_crc32c
from dataflux_bench.server.dataset import CHUNK, Dataset

XML = "xml"
FULL = "*"
"""All fields of an item."""

SEPARATOR = b","


def form_of(fields: str | None) -> str:
    """Return the form that a `fields` parameter asks for: its item fields, sorted, or `FULL`."""
    if not fields or "items" not in fields:
        return FULL if not fields else "none"
    after = fields.split("items", 1)[1]
    if after[:1] == "(":
        inner = after[1 : after.index(")")]
    elif after[:1] == "/":
        inner = after[1:].split(",")[0]
    else:
        return FULL
    return ",".join(sorted(field.strip() for field in inner.split(",")))


def names_kind(fields: str | None) -> bool:
    """Return whether a `fields` parameter asks for the page's own `kind`; without one everything is asked for."""
    return not fields or bool({"kind", "*"} & set(re.sub(r"\(.*?\)", "", fields).split(",")))


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket's name, and the scheme and host of its server, which clients read from links."""

    bucket: str
    origin: str


_FIELDS = {
    "kind": '"storage#object"',
    "id": '"%(bucket)s/%(name)s/%(generation)d"',
    "selfLink": '"%(origin)s/storage/v1/b/%(bucket)s/o/%(quoted)s"',
    "mediaLink": '"%(origin)s/download/storage/v1/b/%(bucket)s/o/%(quoted)s?generation=%(generation)d&alt=media"',
    "name": '"%(name)s"',
    "bucket": '"%(bucket)s"',
    "generation": '"%(generation)d"',
    "metageneration": '"1"',
    "contentType": '"application/octet-stream"',
    "storageClass": '"STANDARD"',
    "size": '"%(size)d"',
    "crc32c": '"%(crc32c)s"',
    "etag": '"%(generation)xE="',
    "timeCreated": '"%(updated)s"',
    "updated": '"%(updated)s"',
    "timeStorageClassUpdated": '"%(updated)s"',
    "timeFinalized": '"%(updated)s"',
}
"""An object's resource, field by field in the API's order, as JSON to be filled in."""

_XML_ITEM = (
    "<Contents><Key>%(escaped)s</Key><Generation>%(generation)d</Generation><MetaGeneration>1</MetaGeneration>"
    "<LastModified>%(updated)s</LastModified><ETag>&quot;%(generation)x&quot;</ETag><Size>%(size)d</Size></Contents>"
)


@lru_cache
def template_of(form: str) -> str:
    """Return the template of an item in a form; a field that objects do not have is left out."""
    if form == XML:
        return _XML_ITEM
    wanted = set(_FIELDS) if form == FULL else set(form.split(","))
    return "{" + ",".join(f'"{name}":{value}' for name, value in _FIELDS.items() if name in wanted) + "}"


def values_of(place: Place, name: str, generation: int, size: int, crc32c: int, updated: str) -> dict[str, object]:
    """Return what fills the template of any form."""
    return {
        "bucket": place.bucket,
        "origin": place.origin,
        "name": name.replace("\\", "\\\\").replace('"', '\\"'),
        "escaped": escape(name),
        "quoted": quote(name, safe=""),
        "generation": generation,
        "size": size,
        "crc32c": encode_crc32c(crc32c),
        "updated": updated,
    }


def updated_of(index: int) -> str:
    """Return when an object was last changed: a millisecond after the one before it."""
    seconds, milliseconds = divmod(index, 1000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"2024-01-{1 + hours // 24:02}T{hours % 24:02}:{minute:02}:{second:02}.{milliseconds:03}Z"


def items_of(dataset: Dataset, place: Place, form: str, first: int, last: int) -> Iterator[bytes]:
    """Yield the items `[first, last)` of a data set."""
    sizes, checksums = dataset.sizes[first:last].tolist(), dataset.checksums[first:last].tolist()
    template = template_of(form)
    for offset, raw in enumerate(dataset.names(first, last)):
        index = first + offset
        generation, updated = dataset.generation(index), updated_of(index)
        values = values_of(place, raw.decode(), generation, sizes[offset], checksums[offset], updated)
        yield (template % values).encode()


class Rendering:
    """All items of a data set in one form, in a mapped file that has no name."""

    def __init__(self, dataset: Dataset, place: Place, form: str, directory: str | None = None) -> None:
        separator = b"" if form == XML else SEPARATOR
        self._separator_bytes = len(separator)
        self._ends: npt.NDArray[np.int64] = np.zeros(dataset.count + 1, np.int64)
        at = 0
        with tempfile.TemporaryFile(dir=directory) as file:
            for first in range(0, dataset.count, CHUNK):
                last = min(first + CHUNK, dataset.count)
                items = list(items_of(dataset, place, form, first, last))
                lengths = np.fromiter(map(len, items), np.int64, len(items)) + len(separator)
                self._ends[first + 1 : last + 1] = at + np.cumsum(lengths)
                at = int(self._ends[last])
                file.write(separator.join(items) + separator)
            file.flush()
            self._map = mmap.mmap(file.fileno(), at, access=mmap.ACCESS_READ) if at else b""
        if isinstance(self._map, mmap.mmap):
            self._map.madvise(mmap.MADV_WILLNEED)
        self._view = memoryview(self._map)
        self.total_bytes = at

    def page(self, first: int, last: int) -> memoryview:
        """Return the items `[first, last)`, separated, without a separator at the end."""
        if first >= last:
            return self._view[:0]
        return self._view[int(self._ends[first]) : int(self._ends[last]) - self._separator_bytes]
