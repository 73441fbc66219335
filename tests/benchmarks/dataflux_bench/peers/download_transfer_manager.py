"""The official client's transfer manager, in threads (with a connection pool as large as their number) or processes."""

from __future__ import annotations

import json
import sys
from typing import Any

from google.cloud import storage
from google.cloud.storage import transfer_manager
from requests.adapters import HTTPAdapter

from dataflux_bench.peers.downloads import make_directories, path_of, wanted
from dataflux_bench.peers.marking import Stopwatch


def main(task: dict[str, Any]) -> None:
    """Download and mark."""
    options = task["options"]
    stopwatch = Stopwatch()
    objects = wanted(task)
    client = storage.Client(project="benchmark")
    kind = transfer_manager.PROCESS if "processes" in options else transfer_manager.THREAD
    workers = int(options.get("processes") or options.get("threads", 64))
    if kind == transfer_manager.THREAD:
        client._http.mount("http://", HTTPAdapter(pool_connections=workers, pool_maxsize=workers))
    bucket = client.bucket(task["bucket"])
    if "chunked" in options:
        make_directories(task, [name for name, _ in objects])
        for name, size in objects:
            blob = bucket.blob(name)
            blob._properties["size"] = size
            transfer_manager.download_chunks_concurrently(
                blob, path_of(task, name), worker_type=kind, max_workers=workers
            )
    else:
        transfer_manager.download_many_to_path(
            bucket,
            [name for name, _ in objects],
            destination_directory=task["destination"],
            worker_type=kind,
            max_workers=workers,
            raise_exception=True,
        )
    stopwatch.done()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
