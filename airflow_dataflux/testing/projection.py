"""The `fields` parameter: which parts of an answer the caller wants.

Covers `a,b`, `a/b`, `a(b,c)`, `*` and their nesting
(https://cloud.google.com/storage/docs/json_api#partial-response). A projection is a tree of names; None wants all.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow_dataflux.testing.refusals import Refusal, invalid

Projection = dict[str, Any] | None


@cache
def parse_fields(text: str | None) -> Projection:
    """Return the tree of names that `text` asks for. Raises Refusal (400) if it is malformed.

    The same text always gives the same tree, never dropped: encoded items are remembered by its identity.
    """
    if not text or text == "*":
        return None
    tree, rest = _parse_list(text)
    if rest:
        raise _malformed(text)
    return tree


def _parse_list(text: str) -> tuple[dict[str, Any], str]:
    tree: dict[str, Any] = {}
    while True:
        path, text = _take_path(text)
        inner: Projection = None
        if text.startswith("("):
            inner, text = _parse_list(text[1:])
            if not text.startswith(")"):
                raise _malformed(text)
            text = text[1:]
        _add(tree, path, inner)
        if not text.startswith(","):
            return tree, text
        text = text[1:]


def _take_path(text: str) -> tuple[list[str], str]:
    end = next((index for index, character in enumerate(text) if character in "(),"), len(text))
    path = text[:end].split("/")
    if not all(path):
        raise _malformed(text)
    return path, text[end:]


def _add(tree: dict[str, Any], path: list[str], inner: Projection) -> None:
    for name in path[:-1]:
        below = tree.setdefault(name, {})
        if below is None:
            return
        tree = below
    last = path[-1]
    if inner is None or tree.get(last, {}) is None:
        tree[last] = None
    else:
        tree.setdefault(last, {}).update(inner)


def _malformed(text: str) -> Refusal:
    return invalid(f"Invalid field selection {text}", reason="invalidParameter")


def project(value: Any, projection: Projection) -> Any:
    """Return the parts of a JSON value that `projection` wants; a list is projected item by item."""
    if projection is None or "*" in projection:
        return value
    if isinstance(value, list):
        return [project(item, projection) for item in value]
    if isinstance(value, dict):
        return {name: project(value[name], below) for name, below in projection.items() if name in value}
    return value
