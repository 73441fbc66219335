"""What a result depends on: versions, machine, date, and how busy the machine was."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from typing import Any

from dataflux_bench.paths import CHECKOUT

_PACKAGES = (
    "gcs-torch-dataflux",
    "google-cloud-storage",
    "obstore",
    "gcsfs",
    "aiohttp",
    "requests",
    "urllib3",
    "msgspec",
    "pyarrow",
    "google-crc32c",
    "uvloop",
)


def describe() -> dict[str, Any]:
    """Return what to write beside the results."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted": bool(_git("status", "--porcelain", "--", "airflow_dataflux")),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def sentence(machine: dict[str, Any]) -> str:
    """Return the description as a paragraph of Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    changed = " with uncommitted changes" if machine["uncommitted"] else ""
    return (
        f"{machine['date']}, commit {machine['commit']}{changed}. {machine['cores']} cores of {machine['processor']}, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, Linux {machine['kernel']}, Python {machine['python']}. {versions}."
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str:
    found = subprocess.run(
        ["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    return found.stdout.strip()


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
