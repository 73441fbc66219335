"""The bucket's own way of sweeping: a lifecycle rule that deletes what is old below the composite prefix (pure).

Cloud Storage then does what a sweep does, without a DAG, but by name and age alone: it does not look at our metadata,
so nothing else may be kept below that prefix. An age counts whole days
(https://cloud.google.com/storage/docs/lifecycle#age).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_dataflux.core.errors import InvalidRequestError


def lifecycle_rule(composite_prefix: str, older_than: timedelta) -> dict[str, Any]:
    """Return the rule that deletes what is older than `older_than`, rounded up to days, at least one.

    It is one entry of the `rule` list in a bucket's lifecycle configuration, beside those that are there already.
    """
    if not composite_prefix.endswith("/"):
        raise InvalidRequestError(f"composite_prefix must end in '/', got {composite_prefix!r}.")
    if older_than < timedelta(0):
        raise InvalidRequestError(f"older_than must not be negative, got {older_than}.")
    days = max(1, -(-older_than // timedelta(days=1)))
    return {"action": {"type": "Delete"}, "condition": {"age": days, "matchesPrefix": [composite_prefix]}}
