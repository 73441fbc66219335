"""The official client's `list_blobs`, one page after the other, keeping names and sizes."""

from __future__ import annotations

import json
import sys
from typing import Any

from google.cloud import storage

from dataflux_bench.peers.marking import Stopwatch, digest_names


def main(task: dict[str, Any]) -> None:
    """List and mark. `page_size` is what a caller asks for who knows that the server gives more than 1,000."""
    stopwatch = Stopwatch()
    client = storage.Client(project="benchmark")
    found = [(blob.name, blob.size) for blob in client.list_blobs(task["bucket"], page_size=task["page_cap"])]
    stopwatch.done()
    stopwatch.report(**digest_names([name for name, _ in found]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
