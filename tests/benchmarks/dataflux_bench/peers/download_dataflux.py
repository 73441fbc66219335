"""This project's staging of a manifest: verified files, published atomically, with a receipt."""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow_dataflux.core.config import StageRequest, StoreConfig
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import stage
from dataflux_bench.peers.marking import Stopwatch


def main(task: dict[str, Any]) -> None:
    """Stage and mark."""
    options = task["options"]
    chosen: dict[str, Any] = {
        name: int(options[name]) for name in ("workers", "max_in_flight", "max_composite_bytes") if name in options
    }
    stopwatch = Stopwatch()
    receipt = stage(
        Manifest.from_reference(task["manifest"]),
        StageRequest(destination=task["destination"], strategy=options.get("strategy", "auto"), **chosen),
        store_config=StoreConfig(endpoint=task["endpoint"]),
        tokens=AnonymousTokens(),
        isolated=options.get("isolated", "1") == "1",
    )
    stopwatch.done()
    of_this_machine = {"hostname", "destination"}
    stopwatch.report(receipt={key: value for key, value in receipt.summary().items() if key not in of_this_machine})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
