"""One step from a bucket to training data, as a program of its own: its time and memory are measured from outside.

    python -m dataflux_bench.figure_steps '{"step": "stage", ...}'

The steps: `select`, `split`, `stage`, `pack`, and what `pack` is measured beside, `tar`.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections import deque
from collections.abc import Callable
from typing import Any

from airflow_dataflux.client import Client
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from dataflux_bench.peers.marking import Stopwatch

SHARD_BYTES = 256 << 20
SAMPLE = r"^(.*)\.[^./]+$"
CLASS = r"^images/(\d+)/"


def client() -> Client:
    """Return a client that asks nobody for tokens."""
    return Client(tokens=AnonymousTokens())


def select(task: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Select half of the samples of a manifest."""

    def run() -> dict[str, Any]:
        chosen = client().select(
            task["manifest"], manifest_uri=task["output"], exclude_glob="**7.jpg", group_by=SAMPLE, sample=0.5
        )
        return {"objects": len(chosen)}  # type: ignore[arg-type]

    return run


def split(task: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Split a manifest in three, and count its classes."""

    def run() -> dict[str, Any]:
        made = client().select(
            task["manifest"],
            manifest_uri=task["output"],
            group_by=SAMPLE,
            class_by=CLASS,
            splits={"train": 0.8, "val": 0.1, "test": 0.1},
        )
        return {"objects": {name: len(one) for name, one in made.items()}}  # type: ignore[union-attr]

    return run


def stage(task: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Stage a manifest; with `reuse_from`, on top of another tree."""

    def run() -> dict[str, Any]:
        receipt = client().stage(task["manifest"], task["output"], reuse_from=task.get("reuse_from"), report=False)
        figures = receipt.summary()
        return {name: figures[name] for name in ("downloaded", "linked", "composites", "strategy")}

    return run


def pack(task: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Pack a manifest."""

    def run() -> dict[str, Any]:
        packed = client().pack(task["manifest"], task["output"], shard_bytes=SHARD_BYTES)
        return {name: getattr(packed, name) for name in ("packed_shards", "reused_shards", "composites", "skipped")}

    return run


def tar(task: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Read objects one by one with obstore, many in flight, and write them into shards with `tarfile`, in order."""
    import asyncio

    import obstore

    from dataflux_bench.peers.obstores import open_obstore

    with open(task["objects"], encoding="utf-8") as file:
        names: list[str] = json.load(file)
    ahead = 256

    async def write(store: Any) -> int:
        async def read(name: str) -> bytes:
            return bytes(await (await obstore.get_async(store, name)).bytes_async())

        waiting = deque(asyncio.ensure_future(read(name)) for name in names[:ahead])
        shards = position = 0
        while position < len(names):
            with tarfile.open(os.path.join(task["output"], f"{shards:06}.tar"), "w") as archive:
                while position < len(names) and archive.offset < SHARD_BYTES:
                    data = await waiting.popleft()
                    if position + ahead < len(names):
                        waiting.append(asyncio.ensure_future(read(names[position + ahead])))
                    member = tarfile.TarInfo(names[position])
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
                    position += 1
            shards += 1
        return shards

    def run() -> dict[str, Any]:
        os.makedirs(task["output"])
        return {"shards": asyncio.run(write(open_obstore(task)))}

    return run


STEPS = {step.__name__: step for step in (select, split, stage, pack, tar)}


def main(task: dict[str, Any]) -> None:
    """Import what a step needs, then run it and mark."""
    run = STEPS[task["step"]](task)
    stopwatch = Stopwatch()
    stopwatch.done(**run())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
