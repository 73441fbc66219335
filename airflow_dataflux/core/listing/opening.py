"""The first page of a listing, asked for before Arrow and most of this package are imported.

Importing them takes longer than a page does (0.1 s and more), and most listings are short. So whoever lists imports
little, sends the first request, and imports the rest while the service answers.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_dataflux.core.config import ListRequest, StoreConfig
from airflow_dataflux.core.gcs.client import open_store
from airflow_dataflux.core.gcs.store import Page, RequestCounts
from airflow_dataflux.core.listing.cursor import Cursor
from airflow_dataflux.core.namerange import NameRange, distinct_prefixes, prefix_range
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import TokenSource
from airflow_dataflux.core.runtime.usage import Usage, process_usage


@dataclass(frozen=True, slots=True)
class FirstPage:
    """The answer to the first request.

    Attributes:
        cursor: of the range it belongs to, which has not taken it yet.
        page: the rows, and whether there are more.
        counts: what it took.
    """

    cursor: Cursor
    page: Page
    counts: RequestCounts


@dataclass(frozen=True, slots=True)
class Opening:
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


def open_listing(request: ListRequest, store_config: StoreConfig, tokens: TokenSource, cancel: CancelToken) -> Opening:
    """Ask for the first page. Raises what the service answers: no such bucket, no permission, not available."""
    started_at, listed_at, used_before = time.monotonic(), datetime.now(UTC), process_usage()
    prefixes = distinct_prefixes(request.prefixes)
    names = request.name_range or NameRange()
    asked = [(prefix, root) for prefix in prefixes if not (root := prefix_range(prefix).overlap(names)).is_empty]
    first = None
    if asked:  # else no name of the range begins with one of the prefixes
        prefix, root = asked[0]
        cursor = Cursor(root, prefix, request.filters.match_glob)
        store = open_store(store_config, tokens, connections=1, cancel=cancel, meanwhile=_import_the_rest)
        with contextlib.closing(store):
            page = store.list_page(request.bucket, cursor.request())
            first = FirstPage(cursor, page, store.counts())
    return Opening(prefixes, tuple(root for _, root in asked), first, started_at, listed_at, used_before)


def shown(request: ListRequest) -> str:
    """Return what is listed, as logs name it."""
    named = [f"gs://{request.bucket}/{prefix}" for prefix in request.prefixes[:3]]
    more = len(request.prefixes) - len(named)
    return ", ".join(named) + (f" and {more} more prefixes" if more else "")


def _import_the_rest() -> None:
    import airflow_dataflux.core.listing.listingrun  # noqa: F401
