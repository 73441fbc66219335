"""Names of a package that are imported when they are first used (PEP 562), so that nobody pays for the others.

    __getattr__, __dir__ = on_first_use(__name__, {"Manifest": "airflow_dataflux.core.manifest"})

Type checkers do not see such names: import them under TYPE_CHECKING, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def on_first_use(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package; `modules` says which module holds which name."""

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return find, lambda: sorted({*vars(sys.modules[package]), *modules})
