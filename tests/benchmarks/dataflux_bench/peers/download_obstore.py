"""obstore: direct reads of a Rust client, many in flight on one event loop, streamed into files."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import obstore

from dataflux_bench.peers.downloads import make_directories, path_of, wanted
from dataflux_bench.peers.marking import Stopwatch
from dataflux_bench.peers.obstores import open_obstore


async def download(task: dict[str, Any]) -> None:
    """Fetch everything; with `range_bytes`, large objects in parallel ranges into one file."""
    options = task["options"]
    in_flight = asyncio.Semaphore(int(options.get("in_flight", 64)))
    range_bytes = int(options.get("range_bytes", 0))
    store = open_obstore(task)
    objects = wanted(task)
    make_directories(task, [name for name, _ in objects])

    async def whole(name: str) -> None:
        async with in_flight:
            answer = await obstore.get_async(store, name)
            with open(path_of(task, name), "wb", buffering=0) as file:
                async for piece in answer.stream(min_chunk_size=1 << 20):
                    file.write(piece)

    async def part(name: str, file: int, start: int, end: int) -> None:
        async with in_flight:
            os.pwrite(file, await obstore.get_range_async(store, name, start=start, end=end), start)

    async def ranged(name: str, size: int) -> None:
        file = os.open(path_of(task, name), os.O_CREAT | os.O_WRONLY)
        try:
            starts = range(0, size, range_bytes)
            await asyncio.gather(*(part(name, file, at, min(size, at + range_bytes)) for at in starts))
        finally:
            os.close(file)

    await asyncio.gather(
        *(ranged(name, size) if range_bytes and size > range_bytes else whole(name) for name, size in objects)
    )


def main(task: dict[str, Any]) -> None:
    """Download and mark."""
    stopwatch = Stopwatch()
    asyncio.run(download(task))
    stopwatch.done()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
