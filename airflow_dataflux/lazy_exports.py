"""Imports that nobody pays for who does not need them.

Names of a package are imported when they are first used (PEP 562):

    __getattr__, __dir__ = on_first_use(__name__, {"Manifest": "airflow_dataflux.core.manifest"})

Type checkers do not see such names: import them under TYPE_CHECKING, too. `without_numpy` is for programs.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
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


@contextlib.contextmanager
def without_numpy() -> Iterator[None]:
    """Let what is imported in a `with` block find no NumPy: Arrow bears that from version 18 on.

    For a process of our own that has no use for NumPy: it is 0.1 CPU-seconds and 12 MB, and a thread of its linear
    algebra that waits busily. Who imports NumPy after the block gets it.
    """
    if "numpy" in sys.modules:
        yield
        return
    sys.modules["numpy"] = None  # type: ignore[assignment]  # what makes an import fail (Python's import system, 5.3.1)
    try:
        yield
    finally:
        del sys.modules["numpy"]
