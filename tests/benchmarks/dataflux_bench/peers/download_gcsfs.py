"""gcsfs: one `get` of all paths, its own concurrency."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

# It would ask Google over gRPC what kind of bucket this is, whatever the endpoint, and wait until its deadline.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

import gcsfs

from dataflux_bench.peers.downloads import path_of, wanted
from dataflux_bench.peers.marking import Stopwatch


def main(task: dict[str, Any]) -> None:
    """Download and mark."""
    stopwatch = Stopwatch()
    names = [name for name, _ in wanted(task)]
    files = gcsfs.GCSFileSystem(token="anon", endpoint_url=task["endpoint"])
    files.get(
        [f"{task['bucket']}/{name}" for name in names],
        [path_of(task, name) for name in names],
        batch_size=int(task["options"].get("batch_size", 128)),
    )
    stopwatch.done()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
