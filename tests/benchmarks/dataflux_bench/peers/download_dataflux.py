"""This project's staging of a manifest: verified files, published atomically, with a receipt."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.gcs.http_store import StoreConfig
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import stage
from airflow_dataflux.core.staging.localfile import FileIdentity, TreeWriter
from dataflux_bench.peers.marking import Stopwatch


def _slow_down_disk(seconds: float) -> None:
    """Let each small file take so much longer, one after the other, as on a disk with a queue of one."""
    one_at_a_time = threading.Lock()
    really = TreeWriter.write

    def write(self: TreeWriter, path: str, data: bytes) -> FileIdentity:
        with one_at_a_time:
            time.sleep(seconds)
        return really(self, path, data)

    TreeWriter.write = write  # type: ignore[method-assign]


def main(task: dict[str, Any]) -> None:
    """Stage and mark."""
    options = task["options"]
    chosen: dict[str, Any] = {
        name: int(options[name]) for name in ("workers", "max_in_flight", "max_composite_bytes") if name in options
    }
    if float(options.get("file_ms", 0)):
        _slow_down_disk(float(options["file_ms"]) / 1000)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(int(options.get("busy", 0)))]
    stopwatch = Stopwatch()
    receipt = stage(
        Manifest.from_reference(task["manifest"]),
        StageRequest(destination=task["destination"], strategy=options.get("strategy", "auto"), **chosen),
        store_config=StoreConfig(endpoint=task["endpoint"]),
        tokens=AnonymousTokens(),
        # An engine would write to the disk as it is.
        isolated=options.get("isolated", "1") == "1" and not float(options.get("file_ms", 0)),
    )
    stopwatch.done()
    for process in busy:
        process.kill()
        process.wait()
    of_this_machine = {"hostname", "destination"}
    stopwatch.report(receipt={key: value for key, value in receipt.summary().items() if key not in of_this_machine})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
