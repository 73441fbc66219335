"""What a listing leaves out of its pages, with what each filter dropped counted.

What is this product's own is left out first: files of manifests, and temporary composites of stagings, told apart here.
Then what the filters of the request drop that the server does not apply: their masks are in `row_masks.py`. A row
that several filters would drop counts for the first of them, in the order of `Filters`' attributes, so that kept and
dropped rows add up to the rows listed.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
from pyarrow._compute import MatchSubstringOptions

from airflow_dataflux.core.arrow import (
    compute,
    ends_with,
    from_buffers,
    indices,
    last_bytes,
)
from airflow_dataflux.core.config import Filters, ListRequest
from airflow_dataflux.core.errors import ObjectNotFoundError, PermissionDeniedError
from airflow_dataflux.core.gcs.store import Store
from airflow_dataflux.core.manifest.location import INDEX_NAME, manifest_location
from airflow_dataflux.core.ownobjects import (
    COMPOSITE_CONTENT_TYPE,
    MANIFEST_MARK,
    is_marked_composite,
    parse_composite_name,
)
from airflow_dataflux.core.report.report_info import REPORTS, is_report_name
from airflow_dataflux.core.row_masks import Mask, masks_of
from airflow_dataflux.core.runtime.threads import ThreadPool

_logger = logging.getLogger(__name__)

_LOOKS_IN_FLIGHT = 8
"""Metadata requests in flight for the composites of one page, which are rare."""


class RowFilter:
    """The client's part of the filters. Not thread-safe: one for each range.

    Attributes:
        dropped: rows dropped so far, by the name of the filter, "manifests" and "composites" for what is our own.
    """

    def __init__(self, filters: Filters, own: OwnObjects | None = None) -> None:
        self.dropped: Counter[str] = Counter()
        self._masks = [*(own.masks() if own else ()), *masks_of(filters)]

    def apply(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows that pass all filters."""
        for name, mask in self._masks:
            if rows.num_rows == 0:
                return rows
            kept = mask(rows)
            if kept is None:
                continue
            dropped = len(kept) - kept.true_count
            if dropped:
                self.dropped[name] += dropped
                rows = compute("filter", rows, kept)
        return rows


class OwnObjects:
    """Tells this product's own objects in a bucket from data. Thread-safe, as the store is.

    A page whose content types are others than those of our objects costs a look at the bytes of the types: each call
    into Arrow lets another thread take the interpreter, which costs more than the call. Other pages cost a few such
    calls. A row whose name is a composite's costs one metadata request (class B), because a name alone proves nothing.
    """

    def __init__(self, request: ListRequest, store: Store) -> None:
        self._bucket = request.bucket
        self._store = store
        place = None if request.manifest_uri is None else manifest_location(request.manifest_uri)
        own = place is not None and place.scheme == "gs" and place.bucket == request.bucket
        self._manifest_prefix = f"{place.path}/" if place is not None and own else None

    def masks(self) -> list[tuple[str, Mask]]:
        """Return the name and the mask of each kind of object that is left out."""
        return [("manifests", self._no_manifest_file), ("composites", self._no_composite)]

    def _no_manifest_file(self, rows: pa.RecordBatch) -> pa.Array | None:
        """Keep all but files of manifests: by their content type, and by name in the place of this very manifest."""
        types = rows.column("content_type")
        own = _rows(ends_with(types, MANIFEST_MARK)) if _may_occur(MANIFEST_MARK, types) else []
        if self._manifest_prefix is not None:
            own += self._in_manifest(rows.column("name"), self._manifest_prefix)
        return _all_but(own, rows.num_rows)

    def _in_manifest(self, names: pa.StringArray, prefix: str) -> list[int]:
        # Names are sorted, so most pages are entirely before or behind the manifest.
        if names[-1].as_py() < prefix or names[0].as_py() > f"{prefix}{_LAST_CHARACTER}":
            return []
        return [row for row, name in enumerate(names.to_pylist()) if name.startswith(prefix) and _is_file(name, prefix)]

    def _no_composite(self, rows: pa.RecordBatch) -> pa.Array | None:
        """Keep all but composites of stagings, whatever their prefix."""
        types = rows.column("content_type")
        if types.null_count == 0 and not _may_occur(COMPOSITE_CONTENT_TYPE, types):
            return None
        names = rows.column("name")
        # They end in `-<round>`, and rounds have few digits. Most names are told apart by their last bytes alone.
        ends = last_bytes(names, _ROUND_DIGITS + 1)
        likely = _rows(compute("match_substring", ends, options=_DASH))
        named = [
            (row, name, parsed.attempt)
            for row in likely
            if (parsed := parse_composite_name(name := names[row].as_py())) is not None
        ]
        if not named:
            return None
        generations = rows.column("generation")
        with ThreadPool(_LOOKS_IN_FLIGHT, "dataflux-look") as pool:
            ours = list(pool.map(lambda each: self._is_ours(each[1], generations[each[0]].as_py(), each[2]), named))
        return _all_but([row for (row, _, _), own in zip(named, ours, strict=True) if own], rows.num_rows)

    def _is_ours(self, name: str, generation: int, attempt: str) -> bool:
        try:
            return is_marked_composite(self._store.stat(self._bucket, name, generation).metadata, attempt)
        except ObjectNotFoundError:
            return True  # deleted since the page was read, as composites are: it is no part of what is there now
        except PermissionDeniedError:
            _logger.warning(
                "gs://%s/%s is named like a temporary object of a staging. The caller may not read its metadata, so "
                "it is listed as data.",
                self._bucket,
                name,
            )
            return False


_PART = re.compile(r"part-(?:join-)?(?:[0-9a-f]{8}|[0-9a-f]{12})-\d+-\d{5}\.parquet")
"""Names of parts. Others write `part-00000-….parquet`, too, and that is data."""
_LAST_CHARACTER = "\U0010ffff"
_ROUND_DIGITS = 3
_DASH = MatchSubstringOptions("-")


def _is_file(name: str, prefix: str) -> bool:
    """Return whether a name is that of a manifest's file in its directory: a user's object beside them is data."""
    rest = name[len(prefix) :]
    directory, _, name = rest.rpartition("/")
    if directory == REPORTS:
        return is_report_name(name)
    return rest == INDEX_NAME or _PART.fullmatch(rest) is not None


def _may_occur(text: str, texts: pa.Array) -> bool:
    """Return whether `text` occurs in the bytes of an array of texts, or in those of the array that it is a part of."""
    data = texts.buffers()[2]
    return data is not None and text.encode() in data.to_pybytes()


def _rows(flags: pa.Array) -> list[int]:
    return indices(flags) if flags.true_count else []


def _all_but(rows: Iterable[int], count: int) -> pa.Array | None:
    """Return a mask of `count` rows in which the given ones are false; None if there are none of those."""
    left_out = sum(1 << row for row in set(rows))
    if not left_out:
        return None
    bits = (1 << count) - 1 - left_out
    return from_buffers(pa.bool_(), count, bits.to_bytes(count // 8 + 1, "little"))
