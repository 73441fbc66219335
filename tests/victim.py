"""A task to be killed: a program that stages or packs, and what starts it.

As an Airflow task does, it cancels on SIGTERM and ends with the error that follows. It prints "ready" when it begins,
and figures when it has ended: objects downloaded, reused and linked, or shards packed and reused.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from airflow_dataflux.core.config import PackRequest, RunIdentity, StageRequest
from airflow_dataflux.core.gcs.http_store import StoreConfig
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.packing import pack
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import stage, strategy

IN_FLIGHT = 16


def victim_command(
    kind: Literal["stage", "pack"],
    endpoint: str,
    manifest: Path,
    place: Path | str,
    *,
    chosen: str = "compose",
    try_number: int = 1,
    reuse_from: Path | None = None,
) -> list[str]:
    """Return the command of a program that stages or packs a manifest with a strategy to a place."""
    given = [kind, endpoint, str(manifest), str(place), chosen, str(try_number)]
    return [sys.executable, __file__, *given, *([] if reuse_from is None else [str(reuse_from)])]


def start_victim(command: list[str]) -> subprocess.Popen[str]:
    """Start it; return when it begins to work."""
    victim = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == "ready\n"
    return victim


def main() -> None:
    kind, endpoint, manifest, place, chosen, try_number, *reuse_from = sys.argv[1:]
    cancel = CancelToken()
    signal.signal(signal.SIGTERM, lambda _number, _frame: cancel.cancel("SIGTERM"))
    strategy.ENGINE_PAYS_S = 0.0  # as if it were so much that an engine pays
    print("ready", flush=True)
    asked: dict[str, Any] = {
        "strategy": chosen,
        "workers": 2,
        "max_in_flight": IN_FLIGHT,
        "identity": RunIdentity(dag="victim", run="r1", task=kind, try_number=int(try_number)),
    }
    access: dict[str, Any] = {
        "store_config": StoreConfig(endpoint=endpoint),
        "tokens": AnonymousTokens(),
        "cancel": cancel,
    }
    if kind == "stage":
        request = StageRequest(destination=place, reuse_from=tuple(reuse_from), **asked)
        receipt = stage(Manifest.open(manifest), request, **access)
        print(receipt.downloaded, receipt.reused, receipt.linked, flush=True)
    else:
        result = pack(Manifest.open(manifest), PackRequest(output=place, shard_bytes=64 * 1024, **asked), **access)
        print(result.packed_shards, result.reused_shards, flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)  # while the interpreter shuts down, a SIGTERM that comes late would count as a death
