"""Pages of objects.list: how they are asked for, and that threads decode them in turns.

What a page is decoded into is Arrow (`pagerows.py`), which is imported with the first one.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects/list.
"""

from __future__ import annotations

import threading

from airflow_dataflux.core.gcs.operations import path_segment, query
from airflow_dataflux.core.gcs.resources import OBJECT_FIELDS
from airflow_dataflux.core.gcs.store import Page, PageRequest

_FIELDS = f"items({OBJECT_FIELDS}),nextPageToken"
"""A projected item is about 200 bytes, a full one 700-900; nextPageToken must be named or it is left out."""


def page_target(bucket: str, request: PageRequest, user_project: str | None) -> str:
    """Return path and query of one objects.list call."""
    return f"/storage/v1/b/{path_segment(bucket)}/o" + query(
        (
            ("prefix", request.prefix or None),
            ("startOffset", request.start or None),
            ("endOffset", request.end),
            ("matchGlob", request.match_glob),
            ("maxResults", request.max_results),
            ("pageToken", request.page_token),
            ("projection", "noAcl"),
            ("fields", _FIELDS),
            ("prettyPrint", "false"),
            ("userProject", user_project),
        )
    )


class PageDecoder:
    """Decodes the pages of many threads, one after the other. Thread-safe.

    Decoding needs the interpreter's lock from beginning to end. Threads that decode at the same time only take it
    from each other every few milliseconds, which costs a fifth of the CPU time with 32 of them, and each holds
    a page half decoded.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def decode(self, body: bytes) -> Page:
        """Turn the JSON of one page into rows. Raises ValueError if it is not a page."""
        # Not above: a listing imports Arrow while its first page is on its way (`listing/opening.py`).
        from airflow_dataflux.core.gcs.pagerows import decode_page

        with self._turn:
            return decode_page(body)
