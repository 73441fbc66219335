r"""Which rows of a batch pass a filter: a mask for each filter, one vectorised pass a mask.

Used where a bucket is listed and where rows of a manifest are selected. Globs are those of Cloud Storage
(https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob), compared with the
whole name: `*` and `?` do not match `/`, `**` does, `[...]` is one of some characters, `{a,b}` one of some texts, and
`\` takes the character behind it as it is. They become expressions of RE2, which takes time in proportion to a name's
length, whatever the glob.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pyarrow as pa

from airflow_dataflux.core.arrow import ROW_SCHEMA, column, compute, ends_with, is_in, matches_expression, number
from airflow_dataflux.core.config import Filters
from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.model import EPOCH

Mask = Callable[[pa.RecordBatch], pa.Array | None]
"""Returns which rows are kept, None for all of them."""

_ZERO = number(0, pa.int64())
_ANY_NAME = column([""], pa.string())


def masks_of(filters: Filters) -> list[tuple[str, Mask]]:
    """Return the name and the mask of each filter that is set and that the server does not apply, in their order."""
    masks: list[tuple[str, Mask]] = []
    if filters.exclude_glob:
        masks.append(("exclude_glob", no_glob_mask(filters.exclude_glob)))
    if filters.storage_classes is not None:
        classes = column(sorted(filters.storage_classes), pa.string())
        masks.append(("storage_classes", lambda rows: is_in(rows.column("storage_class"), classes)))
    for name, of, bound, comparison in (
        ("updated_after", "updated", filters.updated_after, "greater_equal"),
        ("updated_before", "updated", filters.updated_before, "less"),
        ("min_bytes", "size", filters.min_bytes, "greater_equal"),
        ("max_bytes", "size", filters.max_bytes, "less_equal"),
    ):
        if bound is not None:
            masks.append((name, _comparison(of, bound, comparison)))
    if not filters.include_placeholders:
        masks.append(("include_placeholders", _not_placeholder))
    return masks


def glob_mask(globs: Sequence[str]) -> Mask:
    """Keep rows whose name one of the globs matches. Raises InvalidRequestError for a glob that is none."""
    expression = expression_of(globs)
    return lambda rows: matches_expression(rows.column("name"), expression)


def no_glob_mask(globs: Sequence[str]) -> Mask:
    """Keep rows whose name none of the globs matches. Raises InvalidRequestError for a glob that is none."""
    expression = expression_of(globs)
    return lambda rows: compute("invert", matches_expression(rows.column("name"), expression))


def regex_mask(expression: str) -> Mask:
    """Keep rows in whose name the expression (RE2) is found. Raises InvalidRequestError for one that is none."""
    _try_out(expression, f"match_regex {expression!r}")
    return lambda rows: matches_expression(rows.column("name"), expression)


def expression_of(globs: Sequence[str]) -> str:
    """Return an expression that matches a name as a whole if one of the globs does."""
    translated = [_translated(glob) for glob in globs]
    expression = "(?s)^(?:" + "|".join(translated) + ")$"
    _try_out(expression, f"The glob {', '.join(map(repr, globs))}")
    return expression


def _translated(glob: str) -> str:
    parts: list[str] = []
    depth = at = 0
    while at < len(glob):
        character = glob[at]
        if glob.startswith("**/", at) and (at == 0 or glob[at - 1] == "/"):
            parts.append("(?:.*/)?")  # a/**/b also matches a/b
            at += 3
            continue
        if glob.startswith("**", at):
            parts.append(".*")
            at += 2
            continue
        if character == "[":
            end = glob.find("]", at + 2)
            if end < 0:
                raise InvalidRequestError(f"{glob!r} is no glob: a [ is not closed.")
            inner = glob[at + 1 : end]
            negated = inner[0] in "!^"
            listed = re.sub(r"([\\\[\^])", r"\\\1", inner[1:] if negated else inner)
            parts.append(f"[^/{listed}]" if negated else f"[{listed}]")
            at = end
        elif character == "{":
            depth += 1
            parts.append("(?:")
        elif character == "}" and depth:
            depth -= 1
            parts.append(")")
        elif character == "," and depth:
            parts.append("|")
        elif character == "\\" and at + 1 < len(glob):
            at += 1
            parts.append(re.escape(glob[at]))
        else:
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(character) or re.escape(character))
        at += 1
    if depth:
        raise InvalidRequestError(f"{glob!r} is no glob: a {{ is not closed.")
    return "".join(parts)


def _try_out(expression: str, what: str) -> None:
    try:
        matches_expression(_ANY_NAME, expression)
    except pa.ArrowInvalid as error:
        raise InvalidRequestError(f"{what} cannot be understood: {error}") from error


def _comparison(name: str, bound: int | datetime, comparison: str) -> Mask:
    value = bound if isinstance(bound, int) else (bound - EPOCH) // timedelta(microseconds=1)
    scalar = number(value, ROW_SCHEMA.field(name).type)
    return lambda rows: compute(comparison, rows.column(name), scalar)


def _not_placeholder(rows: pa.RecordBatch) -> pa.Array:
    full = compute("not_equal", rows.column("size"), _ZERO)
    if not full.false_count:
        return full
    return compute("or", full, compute("invert", ends_with(rows.column("name"), "/")))
