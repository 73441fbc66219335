"""A listing by a command that people use instead: `rclone lsf` or `gcloud storage ls`, which print names.

Both are installed by their own means (Debian's `rclone`, Google's SDK) and talk to the benchmark's server without
credentials. `rclone` lists page after page; `rclone:checkers=64` lists a directory a request, so many at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from dataflux_bench.peers.marking import Stopwatch, digest_names


def main(task: dict[str, Any]) -> None:
    """List, keeping what is printed, and mark; the sort that the digest needs is not measured."""
    command, environment, prefix = (_rclone if task["peer"] == "rclone" else _gcloud)(task)
    stopwatch = Stopwatch()
    finished = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"{command[0]} ended with {finished.returncode}: {finished.stderr[-2000:]}")
    names = finished.stdout.splitlines()
    stopwatch.done()
    stopwatch.report(**digest_names(sorted((name.removeprefix(prefix) for name in names), key=str.encode)))


def _rclone(task: dict[str, Any]) -> tuple[list[str], dict[str, str], str]:
    checkers = task["options"].get("checkers")
    command = ["rclone", "lsf", "--recursive", "--files-only", "--config", "/dev/null", f":gcs:{task['bucket']}"]
    command += ["--fast-list"] if checkers is None else ["--checkers", checkers]
    return command, rclone_environment(task["endpoint"]), ""


def _gcloud(task: dict[str, Any]) -> tuple[list[str], dict[str, str], str]:
    bucket = f"gs://{task['bucket']}/"
    return [*GCLOUD, "ls", f"{bucket}**"], gcloud_environment(task["endpoint"], task["scratch"]), bucket


GCLOUD = ("gcloud", "storage")


def rclone_environment(endpoint: str) -> dict[str, str]:
    """Return what makes `rclone` use the benchmark's server."""
    return {"RCLONE_GCS_ANONYMOUS": "true", "RCLONE_GCS_ENDPOINT": f"{endpoint}/storage/v1/"}


def gcloud_environment(endpoint: str, directory: str) -> dict[str, str]:
    """Return what makes `gcloud` use the benchmark's server, and keep its state in a directory."""
    return {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{endpoint}/storage/v1/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CONFIG": directory,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_CORE_PROJECT": "benchmark",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
