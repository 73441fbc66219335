"""How a request is made of what authors write. Pure; the parameters themselves are declared in `config.py`.

`parameters_of` reads the declarations of a request; `request_from` makes a request of values as DAG authors, scripts,
templates and command lines write them. Each is read by its type; a whole number is 1 or more, but for the few that are
named here.

A rendered template is text: a number arrives as digits, a missing value as "" or "None", a list or a dictionary as JSON
or as Python prints it. With `render_template_as_native_obj` the same text may arrive as a number. `read_back` undoes
that for every parameter; an absent value is the parameter's default. A text that only looks like a list is given in a
list: `prefix=["['a']"]`.

Each function names the parameter in its error (InvalidRequestError), because a rendered value can be far from what
stands in the DAG file.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from airflow_dataflux.core.config import Declared, DeleteExtraneous, Filters
from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.namerange import NameRange

_Request = TypeVar("_Request")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of operators, hook, `Client` and command line.

    Attributes:
        name: what it is called there.
        field: the field of the request.
        kind: its type, without the declaration.
        default: what is meant if nothing is given; `REQUIRED` if something must be.
        help: one line in Markdown.
        is_made: the field is made by the caller of `request_from`.
    """

    name: str
    field: str
    kind: Any
    default: Any
    help: str
    is_made: bool


REQUIRED = MISSING
"""The default of a parameter that has none."""


@functools.cache
def parameters_of(request: type) -> Mapping[str, Parameter]:
    """Return what a request declares, by the parameters' names; those of a nested request stand in its place."""
    found: dict[str, Parameter] = {}
    hints = get_type_hints(request, include_extras=True)
    for each in fields(request):
        kind, *extras = get_args(hints[each.name]) if hasattr(hints[each.name], "__metadata__") else (hints[each.name],)
        declared = next((extra for extra in extras if isinstance(extra, Declared)), None)
        if declared is not None:
            name = declared.name or each.name
            default = declared.default[0] if declared.default else each.default
            found[name] = Parameter(name, each.name, kind, default, declared.help, declared.is_made)
        elif kind is Filters:
            found.update(parameters_of(kind))
    return found


def request_from(request: type[_Request], values: Mapping[str, Any], **made: Any) -> _Request:
    """Make a request of values by the parameters' names; `made` are fields that are ready.

    Raises TypeError for a name that is no parameter, InvalidRequestError for a value that cannot be right.
    """
    declared = parameters_of(request)  # type: ignore[arg-type]  # a class can be hashed
    unknown = [name for name in values if name not in declared]
    if unknown:
        raise TypeError(f"{request.__name__} has no parameter {', '.join(unknown)}: it has {', '.join(declared)}.")
    given = {
        each.field: value
        for name, each in declared.items()
        if not each.is_made and (value := _read(values.get(name), each)) is not None
    }
    nested = {each.name for each in fields(Filters)}
    if any(each.name == "filters" for each in fields(request)):  # type: ignore[arg-type]
        made["filters"] = Filters(**{name: given.pop(name) for name in nested & given.keys()})
    return request(**given, **made)


def _read(value: object, parameter: Parameter) -> Any:
    """Return a value of the parameter's type, None for its default."""
    name, kind = parameter.name, parameter.kind
    if parameter.default is REQUIRED:
        return required_text(value, name)
    if is_absent(value):
        value = parameter.default
    if value is None:
        return None
    if kind in (str, str | None):
        return optional_text(value, name)
    if kind in (int, int | None):
        # What counts work is 1 or more; a size may be 0.
        return (optional_count if name in _MAY_BE_ZERO else positive_count)(value, name)
    if kind is bool:
        return flag(value, name)
    if kind == DeleteExtraneous:
        return deletion(value, name)
    if get_origin(kind) is Literal:
        return one_of(value, name, get_args(kind))
    return _READERS[kind](value, name)


_MAY_BE_ZERO = frozenset({"min_bytes", "max_bytes", "shuffle_seed", "seed", "keep_last", "max_total_bytes"})
_ABSENT = frozenset({"", "None", "null"})
_TRUE = frozenset({"true", "1", "yes"})
_FALSE = frozenset({"false", "0", "no"})
_WHOLE_NUMBER = re.compile(r"(\d+)(\.0+)?")
_MOST = 2**63 - 1
"""What sizes of objects and columns of manifests can hold."""
_MOST_DIGITS = 4000
_LONGEST = timedelta(days=365_000)
"""A time so long ago still has a date."""
_PRINTED_DURATION = re.compile(r"(?:(-?\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def read_back(value: object) -> object:
    """Return what a template had before it was rendered to text: None, a list, a dictionary; else the value itself."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text in _ABSENT:
        return None
    if text[0] in "[({":
        for read in (json.loads, ast.literal_eval):
            try:
                found: object = read(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                continue
            if isinstance(found, list | tuple | dict | set):
                return found
    return value


def is_absent(value: object) -> bool:
    """Return whether nothing was given."""
    return read_back(value) is None


def optional_text(value: object, parameter: str) -> str | None:
    """Return one text; a number, as native rendering makes of digits, is its digits."""
    found = read_back(value)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if found is None or isinstance(found, str):
        return found if found is None else _unicode(found, parameter)
    raise InvalidRequestError(f"{parameter} must be one text, got {type(found).__name__} {_shown(found)}.")


def _unicode(text: str, parameter: str) -> str:
    """Return a text that UTF-8 can express: names, paths and what is recorded of them have to."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"{parameter} holds half of a surrogate pair, which UTF-8 cannot express: {_shown(text)}."
        ) from error
    return text


def required_text(value: object, parameter: str) -> str:
    """Return a text that is not absent."""
    text = optional_text(value, parameter)
    if text is None:
        raise InvalidRequestError(f"{parameter} is empty: give a value, and check its template if it has one.")
    return text


def optional_count(value: object, parameter: str) -> int | None:
    """Return a whole number, given as one or as its digits. 5.0 is one, as Jinja's division makes it."""
    found = read_back(value)
    if found is None:
        return None
    count = _whole_number(found)
    if count is None:
        raise InvalidRequestError(f"{parameter} must be a whole number (digits only), got {_shown(found)}.")
    if count > _MOST:
        raise InvalidRequestError(f"{parameter} must be at most {_MOST}, got {_shown(found)}.")
    return count


def _whole_number(found: object) -> int | None:
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    if isinstance(found, float) and found.is_integer() and found >= 0:
        return int(found)
    match = _WHOLE_NUMBER.fullmatch(found.strip()) if isinstance(found, str) else None
    if match is None:
        return None
    # Python reads no text of thousands of digits.
    return int(match[1]) if len(match[1]) <= _MOST_DIGITS else _MOST + 1


def positive_count(value: object, parameter: str) -> int | None:
    """Return a whole number of 1 or more."""
    count = optional_count(value, parameter)
    if count is not None and count < 1:
        raise InvalidRequestError(f"{parameter} must be 1 or more, got {count}.")
    return count


def optional_number(value: object, parameter: str) -> float | None:
    """Return a number, given as one or as its digits."""
    found = read_back(value)
    if found is None:
        return None
    try:
        if isinstance(found, int | float | str) and not isinstance(found, bool):
            return float(found)
    except (ValueError, OverflowError):
        pass
    raise InvalidRequestError(f"{parameter} must be a number, got {_shown(found)}.")


def flag(value: object, parameter: str, *, default: bool = False) -> bool:
    """Return a truth value, given as one or as text ("true", "false", in any case)."""
    found = read_back(value)
    if found is None:
        return default
    if isinstance(found, bool):
        return found
    word = str(found).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidRequestError(f"{parameter} must be true or false, got {_shown(found)}.")


def deletion(value: object, parameter: str) -> DeleteExtraneous:
    """Return what `delete_extraneous` says: a truth value, or "even_if_empty"."""
    if isinstance(value, str) and value.strip() == "even_if_empty":
        return "even_if_empty"
    return flag(value, f'{parameter} (or "even_if_empty")')


def one_of(value: object, parameter: str, choices: tuple[str, ...]) -> str:
    """Return one of a few words; the first is the default."""
    found = read_back(value)
    word = choices[0] if found is None else found.strip() if isinstance(found, str) else found
    if word not in choices:
        raise InvalidRequestError(f"{parameter} must be one of {', '.join(map(repr, choices))}, got {_shown(found)}.")
    return str(word)


ON_UNCHANGED = ("continue", "skip")


def skips_unchanged(value: object) -> bool:
    """Return whether a value of `on_unchanged` says to skip."""
    return one_of(value, "on_unchanged", ON_UNCHANGED) == "skip"


def optional_time(value: object, parameter: str) -> datetime | None:
    """Return an aware time in UTC, given as a datetime or in ISO 8601. A bare date is that day's begin in UTC.

    The result is the standard library's class: pendulum's, which Airflow's context holds, would have to be imported
    wherever it is unpickled.
    """
    moment: Any = read_back(value)
    if moment is None:
        return None
    if isinstance(moment, int) and not isinstance(moment, bool):
        moment = str(moment)  # {{ ds_nodash }}, rendered natively
    if isinstance(moment, str):
        moment = _time_of(moment.strip(), parameter)
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if not isinstance(moment, datetime):
        raise InvalidRequestError(f"{parameter} must be a datetime or text in ISO 8601, got {value!r}.")
    if moment.tzinfo is None:
        raise InvalidRequestError(f"{parameter} needs a time zone, got {moment.isoformat()}: append +00:00 for UTC.")
    try:
        t = moment.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequestError(f"{parameter} is not in the years 1 to 9999 of UTC: {moment.isoformat()}.") from error
    return datetime(t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond, tzinfo=UTC)


def _time_of(text: str, parameter: str) -> date:
    for read in (date.fromisoformat, datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            continue
    raise InvalidRequestError(
        f"{parameter} must be a time in ISO 8601, such as 2026-01-31T00:00:00+00:00, got {text!r}."
    )


def duration(value: object, parameter: str) -> timedelta | None:
    """Return a duration, given as a timedelta, as Python prints one (`1 day, 6:00:00`), or in seconds."""
    found = read_back(value)
    try:
        length = found if isinstance(found, timedelta) else _duration_of(found, parameter)
    except OverflowError:
        length = timedelta.max
    if length is not None and length > _LONGEST:
        raise InvalidRequestError(f"{parameter} must be at most {_LONGEST.days} days, got {_shown(found)}.")
    return length


def _duration_of(found: object, parameter: str) -> timedelta | None:
    if isinstance(found, str) and (match := _PRINTED_DURATION.fullmatch(found.strip())):
        days, hours, minutes, seconds = match.groups()
        return timedelta(days=int(days or 0), hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    seconds_count = optional_count(found, f"{parameter} (a timedelta, or seconds)")
    return None if seconds_count is None else timedelta(seconds=seconds_count)


def texts(value: object, parameter: str) -> tuple[str, ...] | None:
    """Return texts, given as one or several; None if none was given."""
    found = read_back(value)
    if found is None:
        return None
    several = [found] if isinstance(found, str | int) else found
    if isinstance(several, Iterable) and not isinstance(several, Mapping | bytes):
        read = [str(each) if type(each) is int else each for each in several]
        if all(isinstance(text, str) for text in read):
            return tuple(_unicode(text, parameter) for text in read)
    raise InvalidRequestError(f"{parameter} must be text or a list of texts, got {_shown(found)}.")


def prefixes(value: object, parameter: str = "prefix") -> tuple[str, ...]:
    """Return the prefixes of a listing, given as one text or several."""
    found = texts(value, parameter)
    return ("",) if found is None else found


def amount(value: object, parameter: str) -> float | int | None:
    """Return a fraction or a number of things: what has a point is a fraction."""
    found = read_back(value)
    if isinstance(found, str):
        try:
            found = float(found) if "." in found or "e" in found.lower() else int(found)
        except ValueError:
            found = value
    if found is None or (isinstance(found, int | float) and not isinstance(found, bool)):
        return found
    raise InvalidRequestError(
        f"{parameter} must be a fraction such as 0.1 or a number such as 1000, got {_shown(found)}."
    )


def fractions(value: object, parameter: str) -> dict[str, float] | None:
    """Return fractions by name, given as a dictionary or as its text."""
    found = read_back(value)
    if found is None:
        return None
    if isinstance(found, Mapping) and all(isinstance(name, str) for name in found):
        read = {name: optional_number(each, f"{parameter}[{name!r}]") for name, each in found.items()}
        if all(each is not None for each in read.values()):
            return {name: each for name, each in read.items() if each is not None}
    raise InvalidRequestError(
        f'{parameter} must be fractions by name, such as {{"train": 0.9, "val": 0.1}}, got {_shown(found)}.'
    )


def name_range(value: object, parameter: str = "name_range") -> NameRange | None:
    """Return a name range, given as one, as a dictionary with `start` and `end`, or as its text; None is all names."""
    value = read_back(value)
    if value is None or isinstance(value, NameRange):
        return value
    if isinstance(value, list | tuple):
        raise InvalidRequestError(
            f"{parameter} is a list of {len(value)} ranges, but a task lists one: map over the list with "
            ".partial(...).expand(name_range=ranges.output)."
        )
    if isinstance(value, Mapping) and set(value) == {"start", "end"}:
        start, end = value["start"], value["end"]
        if isinstance(start, str) and (end is None or isinstance(end, str)):
            return NameRange(start, end)
    raise InvalidRequestError(
        f'{parameter} must be {{"start": name, "end": name or None}}, one of those that NameRangesOperator returns, '
        f"got {value!r}."
    )


def storage_classes(value: object, parameter: str = "storage_classes") -> frozenset[str] | None:
    """Return storage classes in upper case, given as one text (commas separate) or several; None keeps all."""
    found = read_back(value)
    if found is None:
        return None
    several = found.split(",") if isinstance(found, str) else found
    if isinstance(several, Iterable) and not isinstance(several, Mapping | bytes):
        classes = list(several)
        if all(isinstance(name, str) and name.strip() for name in classes):
            return frozenset(_unicode(name, parameter).strip().upper() for name in classes) or None
    raise InvalidRequestError(f"{parameter} must be a list such as ['STANDARD', 'NEARLINE'], got {value!r}.")


def impersonation_chain(value: object) -> str | list[str] | None:
    """Return one service account, or a chain of them: given as several, with commas between them, or as a list's text.

    The commas are those of the connection's own field.
    """
    found = read_back(value)
    several = found.split(",") if isinstance(found, str) else found
    if several is None or (isinstance(several, Iterable) and not isinstance(several, Mapping | bytes)):
        accounts = [account.strip() if isinstance(account, str) else "" for account in several or ()]
        if all(account and account[0] not in "[({" for account in accounts):
            return accounts[0] if len(accounts) == 1 else accounts or None
    raise InvalidRequestError(
        f"impersonation_chain must be a service account's address or a list of them, got {value!r}."
    )


def reference(value: object, parameter: str) -> dict[str, Any] | str | None:
    """Return a manifest's reference as a dictionary, or its URI as text; None if it is absent.

    A template renders a reference from XCom to text, as JSON or as Python prints it: both are read back.
    """
    value = read_back(value)
    if value is None:
        return None
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        if value.strip().startswith("{"):
            raise InvalidRequestError(
                f"{parameter} must be a dictionary, in JSON or as Python prints it, got {value.strip()[:200]!r}."
            )
        return value.strip()
    if isinstance(value, list | tuple):
        raise InvalidRequestError(
            f"{parameter} is a list of {len(value)} references, but one is staged at a time: map over the list with "
            f".partial(...).expand({parameter}=lister.output)."
        )
    raise InvalidRequestError(
        f"{parameter} must be a manifest reference (the return value of FastListOperator) or a URI, "
        f"got {type(value).__name__}."
    )


def references(value: object, ready: type = NameRange) -> list[Any]:
    """Return several manifests' references or URIs, none of them absent. What is a `ready` stays as it is."""
    value = read_back(value)
    if isinstance(value, str) or value is None or not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise InvalidRequestError(
            "manifests must be a list of manifest references, such as the .output of a mapped FastListOperator, "
            f"got {type(value).__name__} {str(value)[:200]!r}."
        )
    found = [
        each if isinstance(each, ready) else reference(each, f"manifests[{number}]")
        for number, each in enumerate(value)
    ]
    absent = [number for number, each in enumerate(found) if each is None]
    if absent:
        raise InvalidRequestError(
            f"{len(absent)} of {len(found)} manifests are absent (the first is manifests[{absent[0]}]): "
            "a task that was skipped or has not run returns nothing."
        )
    return [each for each in found if each is not None]


def summaries(value: object, parameter: str) -> list[Any]:
    """Return what several tasks returned, none of it absent."""
    value = read_back(value)
    if isinstance(value, str) or value is None or not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise InvalidRequestError(
            f"{parameter} must be a list of what tasks returned, such as the .output of a mapped operator, got "
            f"{type(value).__name__} {_shown(value)}."
        )
    found = [read_back(each) for each in value]
    if not found or any(each is None for each in found):
        raise InvalidRequestError(
            f"{parameter} lacks the return value of a task: a task that was skipped or has not run returns nothing."
        )
    return found


def _shown(value: object) -> str:
    try:
        return repr(value)[:200]
    except ValueError:  # a number of thousands of digits
        return f"{type(value).__name__} of thousands of digits"


_READERS: dict[Any, Callable[[object, str], Any]] = {
    tuple[str, ...]: texts,
    float | int | None: amount,
    Mapping[str, float] | None: fractions,
    frozenset[str] | None: storage_classes,
    float | None: optional_number,
    datetime | None: optional_time,
    timedelta: duration,
    timedelta | None: duration,
    NameRange | None: name_range,
}
