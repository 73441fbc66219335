"""The first page of a listing, and what it began with. Imported before Arrow, as `lister.py` is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from airflow_dataflux.core.config import ListRequest
from airflow_dataflux.core.gcs.store import Page, RequestCounts, StoreFactory, StoreOptions
from airflow_dataflux.core.listing.cursor import Cursor
from airflow_dataflux.core.namerange import NameRange, distinct_prefixes, prefix_range
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import TokenSource
from airflow_dataflux.core.runtime.usage import Usage, process_usage


class FirstPage(msgspec.Struct, frozen=True):
    """The answer to the first request.

    Attributes:
        cursor: of the range it belongs to, which has not taken it yet.
        page: the rows, and whether there are more.
        counts: what it took.
    """

    cursor: Cursor
    page: Page
    counts: RequestCounts


class OpenedListing(msgspec.Struct, frozen=True):
    """How a listing began.

    Attributes:
        prefixes: what is asked for, without prefixes that others cover.
        roots: the ranges of names to list, one for each prefix that has any, in order.
        first: the first page of the first root; None if there is no root.
        started_at: by the monotonic clock.
        listed_at: before the first request, so that whatever changed later may not be in the listing.
        used_before: what this process had used by then.
    """

    prefixes: tuple[str, ...]
    roots: tuple[NameRange, ...]
    first: FirstPage | None
    started_at: float
    listed_at: datetime
    used_before: Usage


def open_listing(
    request: ListRequest,
    store_config: StoreFactory,
    tokens: TokenSource,
    cancel: CancelToken,
    *,
    meanwhile: Callable[[], None],
) -> OpenedListing:
    """Ask for the first page, and call `meanwhile` while it is on its way.

    Raises what the service answers: no such bucket, no permission, not available.
    """
    started_at, listed_at, used_before = time.monotonic(), datetime.now(UTC), process_usage()
    prefixes = distinct_prefixes(request.prefixes)
    names = request.name_range or NameRange()
    asked = [(prefix, root) for prefix in prefixes if not (root := prefix_range(prefix).overlap(names)).is_empty]
    first = None
    if asked:  # else no name of the range begins with one of the prefixes
        prefix, root = asked[0]
        cursor = Cursor(root, prefix, request.filters.match_glob)
        store = store_config.open(tokens, StoreOptions(connections=1, cancel=cancel, meanwhile=meanwhile))
        with contextlib.closing(store):
            page = store.list_page(request.bucket, cursor.request())
            first = FirstPage(cursor, page, store.counts())
    return OpenedListing(prefixes, tuple(root for _, root in asked), first, started_at, listed_at, used_before)
