"""A download by a command that people use instead: `rclone copy` or `gcloud storage cp`, of the whole bucket.

Both are installed by their own means, and list the bucket themselves. There is no MD5 that they could verify.
`rclone:transfers=256` says how many objects are read at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from dataflux_bench.peers.list_command import GCLOUD, gcloud_environment, rclone_environment
from dataflux_bench.peers.marking import Stopwatch


def main(task: dict[str, Any]) -> None:
    """Download and mark."""
    if task["peer"] == "rclone":
        at_once = task["options"].get("transfers", "64")
        command = ["rclone", "copy", "--config", "/dev/null", f":gcs:{task['bucket']}", task["destination"]]
        command += ["--transfers", at_once, "--checkers", at_once, "--fast-list", "--no-check-dest"]
        environment = rclone_environment(task["endpoint"])
    else:
        command = [*GCLOUD, "cp", "--recursive", f"gs://{task['bucket']}", task["destination"]]
        environment = gcloud_environment(task["endpoint"], os.path.dirname(task["destination"]))
    stopwatch = Stopwatch()
    finished = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"{command[0]} ended with {finished.returncode}: {finished.stderr[-2000:]}")
    stopwatch.done()
    below = os.path.join(task["destination"], task["bucket"])  # where gcloud puts everything
    for name in os.listdir(below) if os.path.isdir(below) else ():
        os.rename(os.path.join(below, name), os.path.join(task["destination"], name))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
