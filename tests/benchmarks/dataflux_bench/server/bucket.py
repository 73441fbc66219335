"""One bucket: a data set that nobody can change, and the composites that callers made beside it."""

from __future__ import annotations

import base64
import bisect
import itertools
import json
from dataclasses import dataclass, field

import google_crc32c

from airflow_dataflux.testing.contents import combine
from dataflux_bench.server.dataset import Dataset
from dataflux_bench.server.rendering import (
    FULL,
    SEPARATOR,
    XML,
    Place,
    Rendering,
    items_of,
    template_of,
    values_of,
)

Piece = memoryview
_COMBINE_FROM_BYTES = 1 << 20
"""Checksums of larger composites follow from those of their sources; for smaller ones reading the bytes is cheaper."""

_COMPOSITE_GENERATIONS = 1_800_000_000_000_000
_COMPOSITE_UPDATED = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True)
class Served:
    """An object that can be read: its bytes as pieces, and what headers say of it."""

    name: bytes
    generation: int
    size: int
    crc32c: int
    pieces: tuple[Piece, ...]
    metadata: dict[str, str] = field(default_factory=dict)

    def between(self, start: int, end: int) -> list[Piece]:
        """Return the pieces of the bytes `[start, end)`."""
        found, at = [], 0
        for piece in self.pieces:
            low, high = max(start - at, 0), min(end - at, len(piece))
            if low < high:
                found.append(piece[low:high])
            at += len(piece)
            if at >= end:
                break
        return found


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a page is asked for. Names are bytes."""

    form: str = FULL
    prefix: bytes = b""
    start: bytes = b""
    end: bytes | None = None
    after: bytes | None = None
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class ListedPage:
    """The items of a page, how many they are, and the token of the next page, if there is one."""

    items: memoryview | bytes
    rows: int
    next_token: str | None


class Bucket:
    """See the module. Not thread-safe: the server is one event loop."""

    def __init__(self, place: Place, dataset: Dataset) -> None:
        self.name = place.bucket
        self._place = place
        self.dataset = dataset
        self.renderings: dict[str, Rendering] = {}
        self.unprepared_pages = 0
        self._composites: dict[bytes, Served] = {}
        self._composite_names: list[bytes] = []
        self._generations = itertools.count(_COMPOSITE_GENERATIONS)
        self._noise = memoryview(dataset.noise) if dataset.spec.readable else memoryview(b"")

    @property
    def composite_count(self) -> int:
        """How many composites there are now."""
        return len(self._composites)

    def prepare(self, form: str, directory: str | None) -> None:
        """Render all items in a form, if that was not done."""
        if form not in self.renderings:
            self.renderings[form] = Rendering(self.dataset, self._place, form, directory)

    def find(self, name: bytes) -> Served | None:
        """Return an object, None if there is none of this name."""
        composite = self._composites.get(name)
        if composite is not None:
            return composite
        index = self.dataset.find(name)
        if index is None:
            return None
        size = int(self.dataset.sizes[index])
        offset = int(self.dataset.offsets[index]) if self.dataset.spec.readable else 0
        crc32c = int(self.dataset.checksums[index])
        return Served(name, self.dataset.generation(index), size, crc32c, (self._noise[offset : offset + size],))

    def compose(self, name: bytes, sources: list[Served], metadata: dict[str, str]) -> Served:
        """Create, or replace, a composite."""
        size = sum(source.size for source in sources)
        pieces = tuple(itertools.chain.from_iterable(source.pieces for source in sources))
        crc32c = 0
        if size < _COMBINE_FROM_BYTES:
            for piece in pieces:
                crc32c = google_crc32c.extend(crc32c, bytes(piece))
        else:
            for source in sources:
                crc32c = combine(crc32c, source.crc32c, source.size)
        made = Served(name, next(self._generations), size, crc32c, pieces, metadata)
        if name not in self._composites:
            bisect.insort(self._composite_names, name)
        self._composites[name] = made
        return made

    def delete(self, name: bytes) -> bool:
        """Delete a composite; return whether there was one. The data set itself cannot be changed."""
        if self._composites.pop(name, None) is None:
            return False
        del self._composite_names[bisect.bisect_left(self._composite_names, name)]
        return True

    def page(self, query: ListQuery) -> ListedPage:
        """Return one page."""
        first, last = self.dataset.prefix_range(query.prefix)
        if query.start:
            first = max(first, self.dataset.lower_bound(query.start))
        if query.end is not None:
            last = min(last, self.dataset.lower_bound(query.end))
        if query.after is not None:
            after = self.dataset.lower_bound(query.after)
            first = max(first, after + (after < self.dataset.count and self.dataset.name(after) == query.after))
        composites = self._composites_in(query)
        if composites:
            return self._mixed_page(query, composites, first, last)
        until = max(first, min(last, first + query.limit))
        token = _token(self.dataset.name(until - 1)) if first < until < last else None
        return ListedPage(self._items(query.form, first, until), until - first, token)

    def directories(self, query: ListQuery, delimiter: bytes) -> tuple[list[bytes], bool]:
        """Return the names just below a prefix, up to the delimiter, and whether there are more."""
        at, last = self.dataset.prefix_range(query.prefix)
        at = max(at, self.dataset.lower_bound(query.start))
        if query.end is not None:
            last = min(last, self.dataset.lower_bound(query.end))
        found: list[bytes] = []
        for _ in range(query.limit):
            if at >= last:
                break
            name = self.dataset.name(at)
            cut = name.find(delimiter, len(query.prefix))
            if cut < 0:
                at += 1
                continue
            found.append(name[: cut + len(delimiter)])
            at = self.dataset.end_of_prefix(found[-1], at)
        return found, at < last

    def item(self, form: str, served: Served) -> bytes:
        """Return one object's resource, or XML item."""
        values = values_of(
            self._place, served.name.decode(), served.generation, served.size, served.crc32c, _COMPOSITE_UPDATED
        )
        item = (template_of(form) % values).encode()
        if form == FULL and served.metadata:
            item = item[:-1] + b',"metadata":' + json.dumps(served.metadata).encode() + b"}"
        return item

    def _items(self, form: str, first: int, last: int) -> memoryview | bytes:
        rendering = self.renderings.get(form)
        if rendering is not None:
            return rendering.page(first, last)
        if first >= last or form == "none":
            return b""
        self.unprepared_pages += 1
        separator = b"" if form == XML else SEPARATOR
        return separator.join(items_of(self.dataset, self._place, form, first, last))

    def _composites_in(self, query: ListQuery) -> list[bytes]:
        return [
            name
            for name in self._composite_names
            if name.startswith(query.prefix)
            and name >= query.start
            and (query.end is None or name < query.end)
            and (query.after is None or name > query.after)
        ]

    def _mixed_page(self, query: ListQuery, composites: list[bytes], first: int, last: int) -> ListedPage:
        """Merge a few objects of both kinds; only sweeps meet it, so it need not be fast."""
        names = sorted([*composites, *self.dataset.names(first, min(last, first + query.limit + 1))])
        kept = names[: query.limit]
        found = [served for served in map(self.find, kept) if served is not None]
        separator = b"" if query.form == XML else SEPARATOR
        body = separator.join(self.item(query.form, served) for served in found)
        return ListedPage(body, len(kept), _token(kept[-1]) if len(names) > query.limit else None)


def _token(name: bytes) -> str:
    return base64.urlsafe_b64encode(name).decode()


def name_of_token(token: str) -> bytes:
    """Return the name after which a page token goes on."""
    return base64.urlsafe_b64decode(token)
