"""What is told about a report that was written: enough to list it among others without opening it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["listing", "staging"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportNotice:
    """A report, and the run it describes. Pickles.

    Attributes:
        kind: "listing" or "staging".
        uri: where the page is: `gs://`, `file://` or any fsspec URI.
        title: what a list of runs shows.
        object_count, total_bytes: of the manifest that was made or staged.
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
        return asdict(self)


OnReport = Callable[[ReportNotice], None]
"""Called in the calling thread once the report is written."""
