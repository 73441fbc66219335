"""Values as DAG authors and templates write them, made into what the core takes. Pure.

A rendered template is text: a number arrives as digits, a missing value as "" or "None", a dictionary as JSON or as
Python prints it. Each function names the parameter in its error (InvalidRequestError), because a rendered value can
be far from what stands in the DAG file.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.namerange import NameRange

_ABSENT = frozenset({"", "None"})
_TRUE = frozenset({"true", "1", "yes"})
_FALSE = frozenset({"false", "0", "no"})


def optional_text(value: object, parameter: str) -> str | None:
    """Return a text; None, "" and "None" are absent."""
    if value is None or (isinstance(value, str) and value.strip() in _ABSENT):
        return None
    if not isinstance(value, str):
        raise InvalidRequestError(f"{parameter} must be text, got {type(value).__name__} {value!r}.")
    return value


def required_text(value: object, parameter: str) -> str:
    """Return a text that is not absent."""
    text = optional_text(value, parameter)
    if text is None:
        raise InvalidRequestError(f"{parameter} is empty: give a value, and check its template if it has one.")
    return text


def optional_count(value: object, parameter: str) -> int | None:
    """Return a whole number, given as one or as its digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if value is None or (isinstance(value, str) and value.strip() in _ABSENT):
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    raise InvalidRequestError(f"{parameter} must be a whole number (digits only), got {value!r}.")


def required_count(value: object, parameter: str) -> int:
    """Return a whole number that is not absent."""
    count = optional_count(value, parameter)
    if count is None:
        raise InvalidRequestError(f"{parameter} is empty: give a whole number.")
    return count


def positive_count(value: object, parameter: str) -> int | None:
    """Return a whole number of 1 or more."""
    count = optional_count(value, parameter)
    if count is not None and count < 1:
        raise InvalidRequestError(f"{parameter} must be 1 or more, got {count}.")
    return count


def flag(value: object, parameter: str) -> bool:
    """Return a truth value, given as one or as text ("true", "false", in any case)."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidRequestError(f"{parameter} must be true or false, got {value!r}.")


def optional_time(value: object, parameter: str) -> datetime | None:
    """Return an aware time in UTC, given as a datetime or in ISO 8601. A bare date is that day's begin in UTC.

    The result is the standard library's class: pendulum's, which Airflow's context holds, would have to be imported
    wherever it is unpickled.
    """
    if value is None or (isinstance(value, str) and value.strip() in _ABSENT):
        return None
    moment: Any = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise InvalidRequestError(
                f"{parameter} must be a time in ISO 8601, such as 2026-01-31T00:00:00+00:00, got {value!r}."
            ) from None
        if len(value.strip()) == len("2026-01-31"):
            moment = moment.replace(tzinfo=UTC)
    if not isinstance(moment, datetime):
        raise InvalidRequestError(f"{parameter} must be a datetime or text in ISO 8601, got {value!r}.")
    if moment.tzinfo is None:
        raise InvalidRequestError(f"{parameter} needs a time zone, got {moment.isoformat()}: append +00:00 for UTC.")
    t = moment.astimezone(UTC)
    return datetime(t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond, tzinfo=UTC)


def duration(value: object, parameter: str) -> timedelta:
    """Return a duration, given as a timedelta or in seconds."""
    if isinstance(value, timedelta):
        return value
    return timedelta(seconds=required_count(value, f"{parameter} (a timedelta, or seconds)"))


def prefixes(value: object) -> tuple[str, ...]:
    """Return the prefixes of a listing, given as one text or several."""
    if isinstance(value, str):
        return (value,)
    if value is None:
        return ("",)
    if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
        several = tuple(value)
        if all(isinstance(prefix, str) for prefix in several):
            return several
    raise InvalidRequestError(f"prefix must be text or a list of texts, got {value!r}.")


def name_range(value: object) -> NameRange | None:
    """Return a name range, given as one, as a dictionary with `start` and `end`, or as its text; None is all names."""
    if value is None or isinstance(value, NameRange):
        return value
    if isinstance(value, str):
        if value.strip() in _ABSENT:
            return None
        value = _dictionary(value.strip(), "name_range")
    if isinstance(value, list | tuple):
        raise InvalidRequestError(
            f"name_range is a list of {len(value)} ranges, but a task lists one: map over the list with "
            ".partial(...).expand(name_range=ranges.output)."
        )
    if isinstance(value, Mapping) and set(value) == {"start", "end"}:
        start, end = value["start"], value["end"]
        if isinstance(start, str) and (end is None or isinstance(end, str)):
            return NameRange(start, end)
    raise InvalidRequestError(
        f'name_range must be {{"start": name, "end": name or None}}, one of those that NameRangesOperator returns, '
        f"got {value!r}."
    )


def storage_classes(value: object) -> frozenset[str] | None:
    """Return storage classes in upper case, given as one text (commas separate) or several; None keeps all."""
    if value is None or (isinstance(value, str) and value.strip() in _ABSENT):
        return None
    several = value.split(",") if isinstance(value, str) else value
    if isinstance(several, Iterable) and not isinstance(several, Mapping | bytes):
        classes = list(several)
        if all(isinstance(name, str) and name.strip() for name in classes):
            return frozenset(name.strip().upper() for name in classes) or None
    raise InvalidRequestError(f"storage_classes must be a list such as ['STANDARD', 'NEARLINE'], got {value!r}.")


def impersonation_chain(value: object) -> str | list[str] | None:
    """Return one service account, or a chain of them: given as several, with commas between them, or as a list's text.

    The commas are those of the connection's own field.
    """
    several = value
    if isinstance(value, str):
        text = value.strip()
        several = _listed(text) if text.startswith("[") else text.split(",")
        if text in _ABSENT:
            return None
    if several is None or (isinstance(several, Iterable) and not isinstance(several, Mapping | bytes)):
        accounts = [account.strip() if isinstance(account, str) else "" for account in several or ()]
        if all(accounts):
            return accounts[0] if len(accounts) == 1 else accounts or None
    raise InvalidRequestError(
        f"impersonation_chain must be a service account's address or a list of them, got {value!r}."
    )


def _listed(text: str) -> object:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return 0  # no list: refused by the caller, which knows what was written


def reference(value: object, parameter: str) -> dict[str, Any] | str | None:
    """Return a manifest's reference as a dictionary, or its URI as text; None if it is absent.

    A template renders a reference from XCom to text, as JSON or as Python prints it: both are read back.
    """
    if value is None or (isinstance(value, str) and value.strip() in _ABSENT):
        return None
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        text = value.strip()
        return _dictionary(text, parameter) if text.startswith("{") else text
    if isinstance(value, list | tuple):
        raise InvalidRequestError(
            f"{parameter} is a list of {len(value)} references, but one is staged at a time: map over the list with "
            f".partial(...).expand({parameter}=lister.output)."
        )
    raise InvalidRequestError(
        f"{parameter} must be a manifest reference (the return value of FastListOperator) or a URI, "
        f"got {type(value).__name__}."
    )


def references(value: object) -> list[dict[str, Any] | str]:
    """Return several manifests' references or URIs, none of them absent."""
    if isinstance(value, str) or value is None or not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise InvalidRequestError(
            "manifests must be a list of manifest references, such as the .output of a mapped FastListOperator, "
            f"got {type(value).__name__} {str(value)[:200]!r}."
        )
    found = [reference(each, f"manifests[{number}]") for number, each in enumerate(value)]
    absent = [number for number, each in enumerate(found) if each is None]
    if absent:
        raise InvalidRequestError(
            f"{len(absent)} of {len(found)} manifests are absent (the first is manifests[{absent[0]}]): "
            "a task that was skipped or has not run returns nothing."
        )
    return [each for each in found if each is not None]


def _dictionary(text: str, parameter: str) -> dict[str, Any]:
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError):
            continue
        if isinstance(value, dict):
            return value
    raise InvalidRequestError(f"{parameter} is no dictionary, neither in JSON nor in Python: {text[:200]!r}.")
