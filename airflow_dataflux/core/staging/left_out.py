"""What it means for a staging that objects changed since they were listed, or cannot be read (pure)."""

from __future__ import annotations

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.errors import ObjectsChangedError, UnreadableObjectsError
from airflow_dataflux.core.model import object_uri
from airflow_dataflux.core.staging.recorder import TransferTotals

_NAMED_IN_MESSAGE = 20
_REASONS_IN_MESSAGE = 5

_ALL_UNREADABLE = 1000
"""So many unreadable objects and not one that could be read: it is the bucket, not the objects."""


def is_hopeless(request: StageRequest, totals: TransferTotals) -> bool:
    """Return whether what could not be had so far ends the staging: then no more is fetched."""
    if totals.changed and request.on_changed_object == "fail":
        return True
    if request.on_unreadable_object == "fail":
        return bool(totals.unreadable)
    return len(totals.unreadable) >= _ALL_UNREADABLE and not totals.downloaded


def left_out(request: StageRequest, totals: TransferTotals, in_place: int, bucket: str) -> list[int]:
    """Return the positions of the objects that are left out, now that `in_place` others are there.

    Raises ObjectsChangedError or UnreadableObjectsError where they are not to be left out.
    """
    changed = sorted(name for _, name in totals.changed)
    if changed and request.on_changed_object == "fail":
        raise ObjectsChangedError(
            f"{len(changed)} object(s) were overwritten or deleted since they were listed: "
            f"{_named(bucket, changed)}. List again and stage the new manifest (what is there already is reused), or "
            'leave them out with on_changed_object="skip".',
            names=changed,
        )
    unreadable = {name: reason for _, name, reason in sorted(totals.unreadable)}
    if unreadable and (request.on_unreadable_object == "fail" or not in_place):
        reasons = ", ".join(sorted(set(unreadable.values()))[:_REASONS_IN_MESSAGE])
        raise UnreadableObjectsError(
            f"{len(unreadable)} object(s) could not be read ({reasons}): {_named(bucket, list(unreadable))}. Check "
            "their own access lists and encryption keys, and the permission storage.objects.get on the bucket"
            + (
                ', or leave them out with on_unreadable_object="skip".'
                if in_place or request.on_unreadable_object == "fail"
                else ". They cannot be left out, because no object at all could be read."
            ),
            names=unreadable,
        )
    return [left[0] for left in totals.changed] + [left[0] for left in totals.unreadable]


def _named(bucket: str, names: list[str]) -> str:
    shown = ", ".join(object_uri(bucket, name) for name in names[:_NAMED_IN_MESSAGE])
    more = len(names) - _NAMED_IN_MESSAGE
    return f"{shown} and {more} more" if more > 0 else shown
