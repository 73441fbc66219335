"""obstore's listing: a Rust client that streams pages as Arrow batches."""

from __future__ import annotations

import json
import sys
from typing import Any

import obstore

from dataflux_bench.peers.marking import Stopwatch, digest_names
from dataflux_bench.peers.obstores import open_obstore


def main(task: dict[str, Any]) -> None:
    """List, keeping the batches, and mark."""
    stopwatch = Stopwatch()
    store = open_obstore(task)
    batches = list(obstore.list(store, chunk_size=1000, return_arrow=True))
    stopwatch.done()
    import pyarrow as pa

    names = [name for batch in batches for name in pa.record_batch(batch).column("path").to_pylist()]
    stopwatch.report(**digest_names(names))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
