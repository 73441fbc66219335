"""This project's listing, into a manifest on disk."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

from airflow_dataflux.core.config import ListRequest
from airflow_dataflux.core.gcs.http_store import StoreConfig
from airflow_dataflux.core.listing import list_objects
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from dataflux_bench.peers.marking import Stopwatch


def main(task: dict[str, Any]) -> None:
    """List, mark, then read the manifest back and digest its names in its own order."""
    options = task["options"]
    chosen: dict[str, Any] = {name: int(options[name]) for name in ("workers", "streams") if name in options}
    isolated = options.get("isolated", "1") == "1"
    stopwatch = Stopwatch()
    manifest = list_objects(
        ListRequest(
            bucket=task["bucket"],
            manifest_uri=f"file://{task['scratch']}/manifest",
            seed_manifest_uri=task.get("seed_manifest_uri"),
            **chosen,
        ),
        store_config=StoreConfig(endpoint=task["endpoint"]),
        tokens=AnonymousTokens(),
        isolated=isolated,
    )
    stopwatch.done(stats=dict(manifest.stats))
    digest, count = hashlib.sha256(), 0
    for batch in manifest.batches():
        names = batch.column("name").to_pylist()
        count += len(names)
        digest.update("".join(name + "\n" for name in names).encode())
    stopwatch.report(count=count, digest=digest.hexdigest(), reference=manifest.reference())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
