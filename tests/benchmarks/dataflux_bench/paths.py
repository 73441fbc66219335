"""Where the checkout is, and the environment of every process that the benchmark starts."""

from __future__ import annotations

import os
from pathlib import Path

HARNESS = Path(__file__).resolve().parents[1]
CHECKOUT = HARNESS.parents[1]
RESULTS = CHECKOUT / "docs" / "performance"


def environment(checkout: str = str(CHECKOUT), **more: str) -> dict[str, str]:
    """Return this process's environment, with a checkout and its harness importable and nothing odd in it.

    Bytecode is written, or this project alone would be compiled anew at each start: its peers are installed.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.lower() not in ("http_proxy", "https_proxy", "all_proxy", "storage_emulator_host")
        and not name.startswith(("GOOGLE_", "PYTHON"))
    }
    path = os.pathsep.join([checkout, os.path.join(checkout, "tests", "benchmarks")])
    return {**kept, "PYTHONPATH": path, "NO_PROXY": "127.0.0.1,localhost", **more}
