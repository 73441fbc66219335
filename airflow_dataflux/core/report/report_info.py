"""A report as others know it: where it lies, and what is told of it.

Every run has a report of its own, below `reports/` beside the manifest that it published, the receipt
that it wrote, or the index of its pack.
The name begins with the moment at which the run ended, so names in their order are runs in theirs; the latest
`KEPT_REPORTS` are kept.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

REPORTS = "reports"
"""Directory of the reports, beside the manifest, the receipt or the index of a pack."""

KEPT_REPORTS = 20
"""Reports that are kept in one directory, and of each shard: some 100 KB each."""

Kind = Literal["listing", "staging", "packing"]


class ReportInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A report, and the run it describes: enough to list it among others without opening it. Pickles.

    Attributes:
        kind: "listing", "staging" or "packing".
        uri: where the page is: `gs://`, `file://` or any fsspec URI.
        title: what a list of runs shows.
        object_count, total_bytes: of the manifest that was made or staged, or of the pack.
        seconds: how long the run took.
        finished_at: RFC 3339, UTC.
    """

    kind: Kind
    uri: str
    title: str
    object_count: int
    total_bytes: int
    seconds: float
    finished_at: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-safe data."""
        return msgspec.structs.asdict(self)


_NAME = re.compile(r"\d{8}T\d{6}Z-(?:.+-)?[0-9a-f]{6}(?:_(?P<scope>\d+-of-\d+))?\.html")


def new_report_name(finished_at: datetime, run: str = "", scope: str = "") -> str:
    """Return a name that no other report has: `20260131T235959Z-<run>-3fa9c1_00003-of-00016.html`.

    Args:
        finished_at: when the run ended.
        run: what others call the run; what a file name should not have in it becomes a hyphen.
        scope: which shard was staged, or which part packed; empty for all.
    """
    plain = re.sub(r"[^A-Za-z0-9.=_]+", "-", run).strip("-.")[:80]
    parts = [f"{finished_at.astimezone(UTC):%Y%m%dT%H%M%SZ}", *([plain] if plain else []), secrets.token_hex(3)]
    return "-".join(parts) + (f"_{scope}" if scope else "") + ".html"


def is_report_name(name: str) -> bool:
    """Return whether a name below `reports/` is one that `new_report_name` makes."""
    return _NAME.fullmatch(name) is not None


def surplus_reports(names: Iterable[str], scope: str = "") -> list[str]:
    """Return the names of the reports that are to go: the oldest beyond `KEPT_REPORTS`, and nothing but reports."""
    own = sorted(name for name in names if (found := _NAME.fullmatch(name)) and (found["scope"] or "") == scope)
    return own[:-KEPT_REPORTS]
