"""The upstream library's download, in processes or threads. It returns bytes; writing them to files is added."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from dataflux_core.download import (
    DataFluxDownloadOptimizationParams,
    dataflux_download_parallel,
    dataflux_download_threaded,
)
from google.cloud import storage

from dataflux_bench.peers.downloads import make_directories, path_of, wanted
from dataflux_bench.peers.marking import Stopwatch


def main(task: dict[str, Any]) -> None:
    """Download, write and mark. 100 MB is the largest composite that upstream's own data sets use."""
    logging.basicConfig(level=logging.ERROR)
    options = task["options"]
    stopwatch = Stopwatch()
    objects = wanted(task)
    optimization = DataFluxDownloadOptimizationParams(100_000_000)
    if "threads" in options:
        contents = dataflux_download_threaded(
            "benchmark",
            task["bucket"],
            objects,
            storage.Client(project="benchmark"),
            optimization,
            threads=int(options["threads"]),
        )
    else:
        contents = dataflux_download_parallel(
            "benchmark",
            task["bucket"],
            objects,
            dataflux_download_optimization_params=optimization,
            parallelization=int(options.get("processes", 16)),
        )
    make_directories(task, [name for name, _ in objects])
    for (name, _), content in zip(objects, contents, strict=True):
        with open(path_of(task, name), "wb") as file:
            file.write(content)
    stopwatch.done()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
