"""Options of the command line, made of the parameters that a request declares (`core/config.py`)."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any, Literal, get_args, get_origin

from airflow_dataflux.core.config import DeleteExtraneous
from airflow_dataflux.core.parameters import ON_UNCHANGED, REQUIRED, Parameter, parameters_of

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PLACES = frozenset(
    {"manifest_uri", "seed_manifest", "destination", "output", "root", "reuse_from", "receipt_directory"}
)
"""Parameters that name a file or directory. Only the command line has a working directory that means something."""


def add_parameters(parser: argparse.ArgumentParser, request: type) -> None:
    """Add an option for each parameter of a request, and an argument for each that must be given."""
    for name, each in parameters_of(request).items():
        text = each.help.replace("`", "").replace("%", "%%")
        option = "--" + name.replace("_", "-")
        if each.default is REQUIRED:
            parser.add_argument(name, help=text)
        elif each.kind is bool:
            parser.add_argument(option, action=argparse.BooleanOptionalAction, help=text)
        elif each.kind == tuple[str, ...]:
            parser.add_argument(option, action="append", metavar="TEXT", help=f"{text}; may be given again")
        elif words := _words(each):
            parser.add_argument(option, choices=words, help=text)
        else:
            parser.add_argument(option, metavar="VALUE", help=text)


def values_of(request: type, options: argparse.Namespace) -> dict[str, Any]:
    """Return what was given for a request's parameters, their defaults for the others."""
    values: dict[str, Any] = {}
    for name, each in parameters_of(request).items():
        given = getattr(options, name)
        if given is None:
            values[name] = None if each.default is REQUIRED else each.default
        elif name in _PLACES:
            values[name] = [place(one) for one in given] if isinstance(given, list) else place(given)
        else:
            values[name] = given
    return values


def place(text: str) -> str:
    """Return a URI as it is, a path as an absolute one. A reference, which is JSON, is no path."""
    return text if not text or text.startswith("{") or _SCHEME.match(text) else os.path.abspath(text)


def _words(parameter: Parameter) -> tuple[str, ...]:
    """Return the words that a parameter takes, if it takes nothing else."""
    if parameter.kind == DeleteExtraneous:
        return ("true", "false", "even_if_empty")
    if get_origin(parameter.kind) is Literal:
        return tuple(get_args(parameter.kind))
    # `on_unchanged` becomes a fingerprint in its request.
    return ON_UNCHANGED if parameter.name == "on_unchanged" else ()
