"""An error in one line of a log window: it names the object, says why and what to do, and is never too long."""

from __future__ import annotations

import inspect

import pytest

from airflow_dataflux.core import errors
from airflow_dataflux.short_errors import LINE_CHARACTERS, short_line

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.DatafluxError)]
LONG = "gs://bucket/" + "a-directory/" * 20 + "the-end.jpg"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            errors.BucketNotFoundError(
                "Could not list objects gs://picures/: Cloud Storage answered 404.", resource="gs://picures/"
            ),
            "gs://picures/: no such bucket. Check its name and the credentials.",
        ),
        (
            errors.EmptyListingError(
                "The listing of gs://data/day=2026-01-05/ found nothing, which is bad. Correct it."
            ),
            "gs://data/day=2026-01-05/: no object found. Correct prefix and filters, or set on_empty.",
        ),
        (
            errors.PermissionDeniedError(
                "Could not list objects gs://data/: 403. Grant storage.objects.list on the bucket.",
                resource="gs://data/",
            ),
            "gs://data/: storage.objects.list is missing. Grant it to the account of the task.",
        ),
        (
            errors.InsufficientSpaceError("The staging needs 12 GiB below /data/photos, and 3 GiB are free."),
            "/data/photos: too little free space. Make room, or choose another place.",
        ),
        (
            errors.CostLimitError("The staging is estimated to cost $7, more than max_usd $1.", max_usd=1.0),
            "CostLimitError: it would cost more than max_usd. Raise max_usd, or take fewer objects.",
        ),
        (errors.InvalidRequestError("streams must be 1 or more,\n got 0."), "streams must be 1 or more, got 0."),
        (
            errors.ManifestError(f"The manifest at {LONG} is damaged. Its part is gone. List the bucket again."),
            "The manifest at gs://bucket/a-directory/a-directory…y/the-end.jpg is damaged. List the bucket again.",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_line_has_the_object_and_the_reason_and_the_remedy(error: errors.DatafluxError, line: str) -> None:
    assert short_line(error) == line


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
@pytest.mark.parametrize("message", [f"{LONG} is wrong.", f"{LONG}\n" * 3, "No place. " + "Many words " * 30, ""])
@pytest.mark.parametrize("details", [{}, {"resource": LONG}, {"uri": None, "path": "/data/with\na line end"}])
def test_no_line_is_longer_than_a_window(kind: type[errors.DatafluxError], message: str, details: dict) -> None:
    line = short_line(kind(message, **details))
    assert len(line) <= LINE_CHARACTERS
    assert "\n" not in line
