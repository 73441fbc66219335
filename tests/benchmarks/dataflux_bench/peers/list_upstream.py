"""The upstream library's fast listing, which returns names and sizes in memory, unsorted unless asked.

It divides ranges blindly, so a long common prefix of all names keeps its workers idle; told of the prefix, it does not
consider it. `prefix=common` tells it, which a user who knows the bucket could do, too.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from dataflux_core.fast_list import ListingController

from dataflux_bench.peers.marking import Stopwatch, digest_names


def main(task: dict[str, Any]) -> None:
    """List and mark; the sort that the digest needs is not measured."""
    logging.basicConfig(level=logging.ERROR)
    workers = int(task["options"].get("workers", 16))
    stopwatch = Stopwatch()
    found = ListingController(
        max_parallelism=workers, project="benchmark", bucket=task["bucket"], prefix=task["prefix"]
    ).run()
    stopwatch.done()
    stopwatch.report(**digest_names(sorted((name for name, _ in found), key=str.encode)))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
