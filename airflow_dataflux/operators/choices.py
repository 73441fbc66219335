"""The operators' parameters that are one of a few words."""

from __future__ import annotations

from typing import Literal

from airflow_dataflux.core.errors import InvalidRequestError

OnUnchanged = Literal["continue", "skip"]
OnEmpty = Literal["continue", "skip", "fail"]


def checked_choice(parameter: str, value: str, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`. Raises InvalidRequestError."""
    if value not in choices:
        raise InvalidRequestError(f"{parameter} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
    return value
